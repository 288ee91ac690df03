"""Replies: re-ranking against generic ones, limits, the memory of training messages."""

import numpy as np
import pytest
import torch

from memorycell.application.contract import ModelFile
from memorycell.applications.chat.dialogues import REPLY_ID, REPLY_TOKEN, USER_ID, USER_TOKEN
from memorycell.applications.chat.limits import Limits, read_limits, remembered_pairs
from memorycell.applications.chat.replies import (
    MAX_SPECIFIC,
    PredictOptions,
    ReplySearch,
    ScoredReply,
)
from memorycell.applications.chat.reply_quality import _shuffled, choose_weight, distinct_2
from memorycell.applications.chat.session import ChatSession
from memorycell.errors import ModelFileError
from memorycell.language.codec import END_ID, fit_text_codec
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.streaming.stream import Stream


@pytest.fixture(scope="module")
def file():
    """An untrained model."""
    torch.manual_seed(1)
    text = "what is red like? blue is nice, and you? " * 3
    codec = fit_text_codec(
        [text], "word", vocabulary=40, special_tokens=(USER_TOKEN, REPLY_TOKEN), lower=True
    )
    model = LanguageModel(
        LanguageConfig(vocabulary=len(codec), hidden_size=8, embedding_size=6)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return ModelFile(model, codec, {"task": "chat"})


def log_p_of(model, tokens):
    """Log-probabilities of tokens after the first, one by one, by the complete forward."""
    log_p, _ = model(torch.tensor([tokens]))
    return log_p[0].detach()


def test_scores_are_those_of_the_definition(file):
    stream = Stream(file.model, history=0)
    special = file.codec.num_special
    search = ReplySearch(stream.stepper, special, [])
    message = [END_ID, USER_ID, 5, 6, REPLY_ID]
    for token in message:
        first = stream.step([float(token)])
    options = PredictOptions(mmi=0.5, candidates=12, temperature=1.5, length=8)
    found = search._beam(stream, first, options)
    rng = np.random.default_rng(0)
    sampled = search._sample(stream, first, options, rng, options.candidates)
    scores = {}
    for reply, _ in found + sampled:
        if len(reply) == options.length:
            continue  # cut, without an end
        values = []
        for start in (message, [END_ID, USER_ID, REPLY_ID]):
            log_p = log_p_of(file.model, [*start, *reply])[len(start) - 1 :]
            own = sum(float(log_p[k, t]) for k, t in enumerate(reply))
            values.append((own, log_p[len(reply), :special]))
        generic = values[1][0] + float(values[1][1].logsumexp(0))
        scores[reply] = (values[0][0], generic)
    generic = search._generic_log_p(list(scores))
    for (reply, (_, wanted)), value in zip(scores.items(), generic, strict=True):
        assert value == pytest.approx(wanted / (len(reply) + 1), abs=1e-4)
    chosen, mean, _ = search.find(stream, first, options, 0.5, 0)
    all_found = dict(found + sampled)
    assert mean == pytest.approx(all_found[tuple(chosen)] / (len(chosen) + 1))

    def score(reply):
        own = all_found[reply] / (len(reply) + 1)
        (other,) = search._generic_log_p([reply])
        return 0.5 * own + 0.5 * min(own - other, MAX_SPECIFIC)

    assert score(tuple(chosen)) == pytest.approx(max(map(score, all_found)))


@pytest.mark.parametrize(
    ("mmi", "chosen"), [(0.0, (7,)), (0.3, (7, 7)), (0.5, (7, 7)), (0.9, (7, 7, 7))]
)
def test_the_gain_by_the_message_is_bounded(file, monkeypatch, mmi, chosen):
    stream = Stream(file.model, history=0)
    search = ReplySearch(stream.stepper, file.codec.num_special, [])
    means = {(7,): (-0.4, -0.4), (7, 7): (-0.5, -1.0), (7, 7, 7): (-1.2, -9.0)}
    found = [(reply, mean * (len(reply) + 1)) for reply, (mean, _) in means.items()]
    monkeypatch.setattr(search, "_beam", lambda *_: found[:2])
    monkeypatch.setattr(search, "_sample", lambda *_: found[1:])
    monkeypatch.setattr(search, "_generic_log_p", lambda replies: [means[r][1] for r in replies])
    reply, mean, _ = search.find(stream, np.zeros(1), PredictOptions(), mmi, 0)
    assert tuple(reply) == chosen
    assert mean == pytest.approx(means[chosen][0])


def test_excluded_tokens_are_in_no_reply(file):
    stream = Stream(file.model, history=0)
    first = stream.step([float(END_ID)])
    allowed = 7
    excluded = [k for k in range(file.codec.num_special, len(file.codec)) if k != allowed]
    search = ReplySearch(stream.stepper, file.codec.num_special, excluded)
    for seed in range(5):
        for beam in (0, 3):
            options = PredictOptions(beam=beam, temperature=2)
            reply = search.find(stream, first, options, 0.5, seed).tokens
            assert set(reply) <= {allowed}


def test_near_messages_are_answered_from_the_memory(file):
    pairs = [("what is red like?", "Red is warm."), ("blue is nice", "It is.")]
    limits = Limits(similarity=0.5, min_p=0.9, max_nats=0.0)
    with_memory = ModelFile(file.model, file.codec, file.info, limits.arrays(pairs))
    session = ChatSession(with_memory)
    record = session.say("what is red like")
    assert record["reply"] == "Red is warm."
    assert record["similarity"] > 0.5
    assert not record["unsure"]
    again = ChatSession(with_memory)
    again.restore(session.snapshot())
    assert again.say("and you?") == session.say("and you?")
    own = ChatSession(with_memory).say("what is red like", PredictOptions(nearest=False))
    assert "similarity" not in own
    assert own["unsure"]


def test_of_equally_near_messages_the_likeliest_reply_is_given(file):
    replies = ["red is blue", "nice", "and you?", "what"]
    pairs = [("what is red like?", reply) for reply in replies]
    with_memory = ModelFile(file.model, file.codec, file.info, Limits(similarity=0.9).arrays(pairs))
    record = ChatSession(with_memory).say("what is red like?")
    message = [END_ID, USER_ID, *file.codec.encode("what is red like?"), REPLY_ID]
    special, means = file.codec.num_special, {}
    for reply in replies:
        tokens = file.codec.encode(reply)
        log_p = log_p_of(file.model, [*message, *tokens])[len(message) - 1 :]
        total = sum(float(log_p[k, t]) for k, t in enumerate(tokens))
        means[reply] = (total + float(log_p[len(tokens), :special].max())) / (len(tokens) + 1)
    assert record["reply"] == max(means, key=means.get)
    assert record["p"] == pytest.approx(np.exp(max(means.values())), abs=2e-4)
    far = ChatSession(with_memory).say("blue and nice")
    assert "similarity" not in far


def candidates(*replies):
    """Texts with log-probabilities and gains."""
    return [(text, ScoredReply([k], log_p, gain)) for k, (text, log_p, gain) in enumerate(replies)]


@pytest.mark.parametrize(
    ("specific", "weight"), [("warm is red", 0.75), ("green is red", 0.75), ("z q x", 0.5)]
)
def test_the_weight_of_the_gain_is_the_first_that_is_diverse_and_close(specific, weight):
    likely, wanted = ["it is nice"] * 6, [f"warm is red {k}" for k in range(6)]
    # with 0.7: 0.3 * -0.4 = -0.12 is above 0.3 * -1.6 + 0.7 * 0.45 = -0.165; with 0.75 below
    found = [
        candidates(("it is nice", -0.4, 0.0), (f"{specific} {k}", -1.6, 0.45)) for k in range(6)
    ]
    mmi, note = choose_weight(found, likely, wanted)
    assert mmi == weight
    assert f"mmi={weight:g}" in note


@pytest.mark.parametrize(("copies", "weight"), [(3, 0.8), (1, 0.75)])
def test_the_weight_rises_until_replies_are_diverse_enough(copies, weight):
    """Three replies of a kind: 4 of 18 pairs of words are distinct, 1.3 times the share of the
    likely ones; all different: 8 of 18, 2.7 times, so that the 14 of 24 with 0.8 are not needed.
    """
    likely, wanted = ["it is nice"] * 6, [f"warm is red {k}" for k in range(6)]
    found = [
        candidates(
            ("it is nice", -0.4, 0.0),
            (f"warm is red {k // copies}", -1.6, 0.45),  # the best one with 0.75
            (f"warm is red {k} {k}", -2.4, 0.66),  # with 0.8
        )
        for k in range(6)
    ]
    assert choose_weight(found, likely, wanted)[0] == weight


def test_limits_in_files():
    assert read_limits({}) == (Limits(), None)
    limits, nearest = read_limits(Limits(min_p=0.25).arrays([("a", "b")]))
    assert limits.min_p == 0.25
    assert nearest is None
    before_weights = {"limits": torch.tensor([0.5, 0.2, 3.0])}
    assert read_limits(before_weights)[0] == Limits(0.5, pytest.approx(0.2), 3.0, mmi=0.5)
    for damaged in ([0.0] * 7, [0.5, 0.2, 3.0, 1.0], [0.5, 0.2, 3.0, float("nan")]):
        with pytest.raises(ModelFileError, match="limits"):
            read_limits({"limits": torch.tensor(damaged)})


def test_the_weight_of_the_file_is_used(file):
    texts = ["what is red like?", "blue is nice", "and you?"]
    for mmi in (0.0, 0.9):
        arrays = Limits(mmi=mmi).arrays([])
        stored = ChatSession(ModelFile(file.model, file.codec, file.info, arrays))
        given = ChatSession(file)
        for text in texts:
            record = stored.say(text)
            assert record["reply"] == given.say(text, PredictOptions(mmi=mmi))["reply"]


def test_pairs_to_remember():
    dialogues = [["", "Hi!", "how are you", "fine"], ["a", "b", "c"]]
    assert remembered_pairs(dialogues) == [("how are you", "fine"), ("a", "b")]


def test_distinct_2():
    assert distinct_2(["a b c", "a b"]) == 2 / 3
    assert distinct_2(["a"]) == 0


def test_messages_of_shuffled_words():
    """What a model should be unsure of: six words each, all of those of the first messages."""
    dialogues = [(f"w{k} v{k} u{k}", "reply") for k in range(7)]
    messages = _shuffled(dialogues)
    assert [len(message.split()) for message in messages] == [6, 6, 6, 3]
    words = " ".join(messages).split()
    assert sorted(words) == sorted(" ".join(first for first, _ in dialogues).split())
    assert words != " ".join(first for first, _ in dialogues).split()
