"""The chat task: reading dialogues, what counts as an answer, conversations whose state can be
saved.
"""

import json
import math
import random

import numpy as np
import pytest
import torch

from memorycell.application import modelfile
from memorycell.application.contract import TrainSettings
from memorycell.applications.chat.dataset import (
    CHAT,
    ChatSettings,
    marked,
    of_answers,
    prepare,
    split,
)
from memorycell.applications.chat.dialogues import ME, YOU, read_dialogues
from memorycell.applications.chat.live import Conversation, Replying
from memorycell.errors import DataError, StateError
from memorycell.language.codec import fit_text_codec
from memorycell.training import loop as training

HOW = TrainSettings(epochs=30, lr=0.02, average=0.9)
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
    """The second answer needs what was said in the first turn."""
    draw = random.Random(seed)
    found = []
    for k in range(count):
        colour = draw.choice(COLOURS)
        found.append(
            [
                f"I like {colour} number {k}",
                f"{colour} is nice",
                "what do I like?",
                f"you like {colour}",
            ]
        )
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    (folder / "talks.tsv").write_text("\n".join("\t".join(turns) for turns in talks(600)))
    out = folder / "c.safetensors"
    return training.train(CHAT, str(folder / "talks.tsv"), SMALL, HOW, out), out


def test_it_answers_and_remembers(trained):
    result, out = trained
    assert result["metrics"]["perplexity"] < 1.2
    assert result["skill"] > 0
    assert len(result["examples"]) == 6
    talk = Conversation(modelfile.load(out))
    assert talk.say("I like black number 7")["reply"] == "black is nice"
    reply = talk.say("What do I like?")
    assert reply["reply"] == "you like black"
    assert not reply["unsure"]
    assert talk.say("xylophone quux zebra")["unsure"]


def test_a_conversation_is_saved_and_taken_up(trained, tmp_path):
    file = modelfile.load(trained[1])
    one, two = Conversation(file), Conversation(file)
    one.say("I like green number 7")
    one.save(tmp_path / "s.bin")
    two.load(tmp_path / "s.bin")
    assert two.say("what do I like?") == one.say("what do I like?")
    assert one.line("", 3) is None
    assert one.line("I like red number 7", 4)["reply"] == "red is nice"
    (tmp_path / "bad.bin").write_bytes(b"xx")
    with pytest.raises(StateError):
        two.load(tmp_path / "bad.bin")
    with pytest.raises(DataError, match="nothing was said"):
        two.say("  ")


def test_sampled_replies_are_seeded_and_a_beam_is_likelier(trained):
    file = modelfile.load(trained[1])
    replies = {
        Conversation(file, how=Replying(beam=0, temperature=2.0, top_p=1.0, seed=k)).say(
            "I like blue number 7"
        )["reply"]
        for k in range(8)
    }
    assert len(replies) > 1
    a, b = (
        Conversation(file, how=Replying(beam=0, seed=1)).say("I like blue number 7")
        for _ in range(2)
    )
    assert a == b
    greedy = Conversation(file, how=Replying(beam=0, temperature=0.0)).say("I like blue number 7")
    assert (
        Conversation(file, how=Replying(beam=8)).say("I like blue number 7")["p"]
        >= greedy["p"] - 1e-4
    )


def test_only_answers_count():
    codec = fit_text_codec(["a b c d"] * 2, "word", vocabulary=20, special_tokens=(YOU, ME))
    tokens = marked(codec, ["a b", "c", "d", "a"])
    shown = [codec.surfaces[t] for t in tokens]
    assert shown == ["<end>", YOU, " a", " b", ME, " c", YOU, " d", ME, " a", "<end>"]
    counted = [s for s, mine in zip(shown, of_answers(tokens), strict=True) if mine]
    assert counted == [" c", YOU, " a", "<end>"]


def test_the_score_is_the_cross_entropy_of_the_answers(trained):
    result, out = trained
    file = modelfile.load(out)
    dataset = CHAT.reopen(None, file)
    total = count = 0.0
    for tokens in dataset.tokens["test"]:
        log_p = file.model(torch.from_numpy(tokens)[None, :-1])[0][0].detach()
        for k, mine in enumerate(of_answers(tokens)[1:]):
            if mine:
                total -= float(log_p[k, tokens[k + 1]])
                count += 1
    assert result["metrics"]["nats"] == pytest.approx(total / count, rel=1e-4)
    assert result["metrics"]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    nats = -np.log(dataset.ngram.probabilities(np.concatenate(dataset.tokens["test"])))
    mine = np.concatenate([of_answers(t) for t in dataset.tokens["test"]])
    ours = dataset.baselines("test")[f"{dataset.ngram.order}-gram"]["nats"]
    assert ours == pytest.approx(float(nats[mine].mean()))


def test_every_way_to_bring_dialogues(tmp_path):
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
    assert notes == ["6 dialogues left out that stand there again"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "no tab\n", "line 1: no tab"),
        ("a.jsonl", '["a", "b"]\n{"x": 1}\n', "line 2: expected a list of turns"),
        ("a.jsonl", "{broken\n", "line 1"),
        ("a.yml", "conversations: 5\n", "not chatterbot's YAML"),
        ("a.yml", "a: [", "not chatterbot's YAML"),
        ("a.yml", "!!python/object/apply:os.system ['true']\n", "not chatterbot's YAML"),
        ("a.wav", "x", "dialogues are read from"),
        ("a.tsv", "a\tb\n" * 9, "too few dialogues"),
    ],
)
def test_mistakes(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        prepare(str(tmp_path / name), SMALL)


def test_the_same_question_falls_into_one_part():
    parts = split(
        [["Who are you", f"answer {k}"] for k in range(9)] + [[" who ARE  you ", "x"]] + talks(100)
    )
    assert (
        sum(
            any(t[0].lower().split() == ["who", "are", "you"] for t in part)
            for part in parts.values()
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
