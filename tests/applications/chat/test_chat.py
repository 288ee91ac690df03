"""Chat: reading dialogues, the tokens of replies, sessions and their states."""

import json
import math
import random

import numpy as np
import pytest
import torch

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.chat import APPLICATION
from memorycell.applications.chat.dataset import (
    dialogue_tokens,
    prepare,
    reopen,
    reply_mask,
    split_dialogues,
)
from memorycell.applications.chat.dialogues import (
    REPLY_ID,
    REPLY_TOKEN,
    USER_ID,
    USER_TOKEN,
    read_dialogues,
)
from memorycell.applications.chat.replies import PredictOptions
from memorycell.applications.chat.session import ChatSession
from memorycell.applications.chat.settings import ChatSettings
from memorycell.errors import DataError, StateError
from memorycell.language.codec import fit_text_codec
from memorycell.training import loop as training

TRAIN_SETTINGS = TrainSettings(epochs=30, lr=0.02, average=0.9)
SMALL = ChatSettings(
    unit="word",
    vocabulary=200,
    hidden=32,
    embedding=24,
    dropout=0.0,
    variational=0.0,
    weight_drop=0.0,
    embedding_dropout=0.0,
    noise=0.0,
    budget=600,
)
COLOURS = ("red", "green", "blue", "black", "white")


def talks(count: int, seed: int = 0) -> list[list[str]]:
    """The second reply depends on the first turn."""
    draw = random.Random(seed)
    dialogues = []
    for k in range(count):
        colour = draw.choice(COLOURS)
        dialogues.append(
            [
                f"I like {colour} number {k}",
                f"{colour} is nice",
                "what do I like?",
                f"you like {colour}",
            ]
        )
    return dialogues


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    (folder / "talks.tsv").write_text("\n".join("\t".join(turns) for turns in talks(600)))
    out = folder / "c.safetensors"
    return training.train(APPLICATION, str(folder / "talks.tsv"), SMALL, TRAIN_SETTINGS, out), out


def test_replies_depend_on_earlier_turns(trained):
    result, out = trained
    assert result["metrics"]["perplexity"] < 1.2
    assert result["skill"] > 0
    assert len(result["examples"]) == 20
    session = ChatSession(modelfile.load(out))
    assert session.say("I like black number 7")["reply"] == "black is nice"
    reply = session.say("What do I like?")
    assert reply["reply"] == "you like black"
    assert not reply["unsure"]
    assert session.say("xylophone quux zebra")["unsure"]


def test_snapshot_and_restore(trained):
    file = modelfile.load(trained[1])
    one, two = ChatSession(file), ChatSession(file)
    one.say("I like green number 7")
    two.restore(one.snapshot())
    assert two.say("what do I like?") == one.say("what do I like?")
    assert one.feed("") == []
    assert one.feed("I like red number 7")[0]["reply"] == "red is nice"
    before = two.snapshot()
    for bad in (b"xx", two._stream.snapshot(log_p=[0.0], turns=1)):
        with pytest.raises(StateError):
            two.restore(bad)
    with pytest.raises(DataError, match="the message is empty"):
        two.say("  ")
    with pytest.raises(DataError, match="line 1: expected a line of text"):
        two.feed({"said": "hello"})
    assert two.snapshot() == before
    assert two.close() == []


def test_sampled_replies_are_seeded_and_beam_search_finds_likelier_ones(trained):
    file = modelfile.load(trained[1])
    replies = {
        ChatSession(file).say(
            "I like blue number 7",
            PredictOptions(beam=0, temperature=2.0, top_p=1.0, seed=k),
        )["reply"]
        for k in range(8)
    }
    assert len(replies) > 1
    a, b = (
        ChatSession(file).say("I like blue number 7", PredictOptions(beam=0, seed=1))
        for _ in range(2)
    )
    assert a == b
    greedy = ChatSession(file).say("I like blue number 7", PredictOptions(beam=0, temperature=0.0))
    likely = ChatSession(file).say("I like blue number 7", PredictOptions(beam=8, mmi=0.0))
    assert likely["p"] >= greedy["p"] - 1e-4


def test_the_reply_mask():
    codec = fit_text_codec(
        ["a b c d"] * 2, "word", vocabulary=20, special_tokens=(USER_TOKEN, REPLY_TOKEN)
    )
    assert (codec.token_ids[USER_TOKEN], codec.token_ids[REPLY_TOKEN]) == (USER_ID, REPLY_ID)
    tokens = dialogue_tokens(codec, ["a b", "c", "d", "a"])
    surfaces = [codec.surfaces[t] for t in tokens]
    assert surfaces == [
        "<end>",
        "<you>",
        " a",
        " b",
        "<me>",
        " c",
        "<you>",
        " d",
        "<me>",
        " a",
        "<end>",
    ]
    in_reply = [s for s, mask in zip(surfaces, reply_mask(tokens), strict=True) if mask]
    assert in_reply == [" c", "<you>", " a", "<end>"]


def test_the_metric_is_the_cross_entropy_of_the_replies(trained):
    result, out = trained
    file = modelfile.load(out)
    dataset = reopen(None, file)
    total = count = 0.0
    for tokens in dataset.tokens["test"]:
        log_p = file.model(torch.from_numpy(tokens)[None, :-1])[0][0].detach()
        for k, in_reply in enumerate(reply_mask(tokens)[1:]):
            if in_reply:
                total -= float(log_p[k, tokens[k + 1]])
                count += 1
    assert result["metrics"]["nats"] == pytest.approx(total / count, rel=1e-4)
    assert result["metrics"]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    nats = -np.log(dataset.ngram.probabilities(np.concatenate(dataset.tokens["test"])))
    in_reply = np.concatenate([reply_mask(t) for t in dataset.tokens["test"]])
    ours = dataset.baselines("test")[f"{dataset.ngram.order}-gram"]["nats"]
    assert ours == pytest.approx(float(nats[in_reply].mean()))


def test_every_file_format(tmp_path):
    talk = [["Hello", "Hi there", "How are you?", "Fine"], ["Bye", "See you"]]
    (tmp_path / "a.tsv").write_text("Hello\tHi there\tHow are you?\tFine\nBye\tSee you\n")
    (tmp_path / "a.yml").write_text(
        "categories:\n- x\nconversations:\n"
        + "".join("- - " + "\n  - ".join(json.dumps(t) for t in turns) + "\n" for turns in talk)
    )
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "assistant", "content": "there"},
        {"role": "user", "content": "How are you?"},
        {"role": "assistant", "content": "Fine"},
    ]
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"messages": messages})
        + "\n\n"
        + json.dumps({"prompt": "Bye", "reply": "See you"})
        + "\n"
    )
    (tmp_path / "b.jsonl").write_text(
        "\n".join(json.dumps({"turns": t} if k else t) for k, t in enumerate(talk))
    )
    for name in ("a.tsv", "a.yml", "a.jsonl", "b.jsonl"):
        assert read_dialogues(tmp_path / name, name)[0] == talk, name
    dialogues, notes = read_dialogues(tmp_path, "all")
    assert dialogues == talk
    assert notes == [
        "6 dialogues: repeated, used once",
        "1 turn: of the system, not learned",
        "1 turn: joined with the one before, of the same role",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "no tab\n", "line 1: no tab"),
        ("a.jsonl", '["a", "b"]\n{"x": 1}\n', "line 2: expected a list of turns"),
        ("a.jsonl", "{broken\n", "line 1"),
        ("a.yml", "conversations: 5\n", "not a chatterbot YAML file"),
        ("a.yml", "a: [", "not a chatterbot YAML file"),
        ("a.yml", "!!python/object/apply:os.system ['true']\n", "not a chatterbot YAML file"),
        ("a.wav", "x", "dialogues are read from"),
        ("a.tsv", "a\tb\n" * 9, "too few dialogues"),
    ],
)
def test_user_errors(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        prepare(str(tmp_path / name), SMALL)


def test_equal_questions_are_in_the_same_split():
    splits = split_dialogues(
        [["Who are you", f"answer {k}"] for k in range(9)] + [[" who ARE  you ", "x"]] + talks(100)
    )
    assert (
        sum(
            any(t[0].lower().split() == ["who", "are", "you"] for t in part)
            for part in splits.values()
        )
        == 1
    )


def test_the_command_line(trained, memorycell, tmp_path, monkeypatch):
    path = trained[1]
    status, out, _ = memorycell("predict", path, "I like white number 7\nwhat do I like?")
    assert status == 0
    assert "you like white" in out
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("I like white number 7\n"))
    status, out, _ = memorycell("stream", path, "--state", tmp_path / "s.bin")
    assert (status, json.loads(out)["reply"]) == (0, "white is nice")
    monkeypatch.setattr("sys.stdin", io.StringIO("what do I like?\n"))
    _, out, _ = memorycell("stream", path, "--state", tmp_path / "s.bin")
    assert json.loads(out)["reply"] == "you like white"
    assert memorycell("predict", path, "")[0] == 2


@pytest.mark.data
def test_the_corpus_is_read():
    pytest.importorskip("chatterbot_corpus", reason="pip install 'memorycell[data]'")
    dataset = prepare(None, ChatSettings())
    assert sum(map(len, dataset.dialogues.values())) > 800
