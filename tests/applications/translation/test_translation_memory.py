"""The translation memory: what it answers, its limits in a file, several sets joined."""

import numpy as np
import pytest
import torch

from memorycell.applications.translation import APPLICATION
from memorycell.applications.translation.codec import fit_pair_codec
from memorycell.applications.translation.dataset import prepare
from memorycell.applications.translation.memory import Limits, Memory
from memorycell.applications.translation.memory_fitting import Compared, fit_memory
from memorycell.applications.translation.metrics import sentence_chrf
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.pairs import source_key
from memorycell.applications.translation.ranking import (
    MEMORY_FEATURES,
    NETWORK_FEATURES,
    Candidates,
    Near,
    Ranking,
    fit_ranking,
)
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.applications.translation.sources import repeated
from memorycell.applications.translation.translate import mean_log_p
from memorycell.errors import ModelFileError
from memorycell.language.nearest import NEVER, NearestText

PAIRS = [("open the file %s", "ouvrez %s"), ("close it", "fermez"), ("a red cat", "un chat rouge")]
SMALL = TranslationSettings(unit="word", vocabulary=60, hidden=8, embedding=8)


@pytest.fixture(scope="module")
def model_and_codec():
    torch.manual_seed(0)
    codec = fit_pair_codec(PAIRS * 2, "word", vocabulary=60, joint=False)
    config = SMALL.model_config(len(codec.target), len(codec.source))
    return Translator(config).eval(), codec


def texts_of(memory, model_and_codec, *texts):
    return memory.translate(*model_and_codec, list(texts), (2, 1.0, 0.0))


def test_near_sentences_come_from_the_memory(model_and_codec):
    nearest = NearestText(*map(list, zip(*PAIRS, strict=True)))
    memory = Memory(Limits(0.6, 0.5), nearest)
    near, copy, other, empty = texts_of(
        memory, model_and_codec, "close it!", "open the file %d", "zebras", ""
    )
    assert near.text == "fermez"
    assert near.similarity > 0.6
    assert not memory.is_unsure(near)
    assert copy.similarity is None  # the remembered translation would copy another string
    assert "%s" not in copy.text
    assert other.similarity is None
    assert memory.is_unsure(other) == (other.p < 0.5)
    assert empty.text == ""


def test_the_memory_is_kept_in_a_file_where_it_is_used(model_and_codec):
    nearest = NearestText(*map(list, zip(*PAIRS, strict=True)))
    arrays = Memory(Limits(0.5, 0.25), nearest).arrays(PAIRS)
    again = Memory.of(arrays)
    assert again.limits == Limits(0.5, 0.25)
    assert texts_of(again, model_and_codec, "a red cat")[0].text == "un chat rouge"
    unused = Memory(Limits(NEVER, 0.25), nearest).arrays(PAIRS)
    assert set(unused) == {"limits"}
    assert texts_of(Memory.of({}), model_and_codec, "a red cat")[0].similarity is None
    with pytest.raises(ModelFileError, match="limits"):
        Memory.of({"limits": torch.zeros(1)})


def test_an_untrained_network_is_replaced_by_the_nearest_sentence(model_and_codec):
    nearest = NearestText(*map(list, zip(*PAIRS, strict=True)))
    valid = [("close it now", "fermez"), ("the red cat", "un chat rouge")]
    memory, note = fit_memory(
        *model_and_codec, nearest, Compared(valid, np.zeros(2, int), ["a"]), (2, 1.0, 0.0)
    )
    assert memory.limits.similarity < 0.9
    assert texts_of(memory, model_and_codec, "close it")[0].text == "fermez"
    assert "nearest sentence 100.0" in note


def made_candidates(count: int) -> tuple[list[Candidates], list[str]]:
    """Texts whose better translation is the second nearest sentence's where the network finds it
    likely, and else the network's.
    """
    rng, found, wanted = np.random.default_rng(3), [], []
    for k in range(count):
        words = [f"{letter}{k}{letter}{k % 7}" * 2 for letter in "abcd"]
        likely = rng.random() < 0.5
        wanted.append(words[2] if likely else words[0])
        log_p = np.array([-1.0, -3.0, -0.5 if likely else -4.0]) + 0.05 * rng.standard_normal(3)
        near = [Near(0.8, "a source", words[1]), Near(0.7, "another one", words[2])]
        found.append(Candidates("a text", words[0], near, log_p))
    return found, wanted


def test_a_ranking_finds_the_better_candidate():
    found, wanted = made_candidates(150)
    ranking, chosen = fit_ranking(found[:100], wanted[:100], np.ones(100))
    assert chosen.mean() > 95  # each predicted by a ranking that was fitted without it
    best = [c.translations[ranking.expected(c).argmax()] for c in found[100:]]
    assert np.mean([a == b for a, b in zip(best, wanted[100:], strict=True)]) > 0.95
    own = sentence_chrf([c.own for c in found[:100]], wanted[:100])
    predicted = [ranking.expected(c)[0] for c in found[:100]]
    assert np.mean(predicted) == pytest.approx(np.mean(own))  # the constant is not penalised
    again = Ranking.from_array(ranking.to_array())
    np.testing.assert_array_equal(again.expected(found[0]), ranking.expected(found[0]))
    assert fit_ranking(found[:20], wanted[:20], np.ones(20)) is None
    with pytest.raises(ValueError, match="weights of a ranking"):
        Ranking.from_array(ranking.to_array()[:-1])


def test_texts_of_weight_zero_do_not_count():
    found, wanted = made_candidates(140)
    misleading = [*wanted[:70], *(c.translations[1] for c in found[70:])]
    weight = np.repeat([1.0, 0.0], 70)
    ranking, _ = fit_ranking(found, misleading, weight)
    best = [c.translations[ranking.expected(c).argmax()] for c in found[:70]]
    assert np.mean([a == b for a, b in zip(best, wanted[:70], strict=True)]) > 0.95


def test_a_ranking_is_saved_and_chooses(model_and_codec):
    nearest = NearestText(*map(list, zip(*PAIRS, strict=True)))
    by_similarity = np.zeros(NETWORK_FEATURES + MEMORY_FEATURES + 3)
    by_similarity[NETWORK_FEATURES + 2] = 100  # of the first feature, the similarity
    by_similarity[0], by_similarity[-1] = 70, 80  # the network's; unsure below 80
    memory = Memory(Limits(NEVER, 0.0), nearest, Ranking.from_array(by_similarity))
    again = Memory.of(memory.arrays(PAIRS))
    for one in (memory, again):
        near, far, copy = texts_of(one, model_and_codec, "close it", "red", "open the file %d")
        assert near.text == "fermez"
        assert near.expected == pytest.approx(100, abs=1e-3)
        assert not one.is_unsure(near)
        assert far.similarity is None
        assert one.is_unsure(far)
        assert copy.similarity is None
    with pytest.raises(ModelFileError, match="weights of a ranking"):
        Memory.of({**memory.arrays(PAIRS), "ranking": torch.zeros(4)})


def test_scores_of_given_translations(model_and_codec):
    model, codec = model_and_codec
    (source, target), text = PAIRS[2], "un chat"
    scores = mean_log_p(model, codec, [(source, target), (source, text)])
    for score, one in zip(scores, (target, text), strict=True):
        tokens, words = codec.encode_pair(source, one)
        encoded = model.encode(torch.tensor(tokens)[None], torch.tensor([len(tokens)]))
        log_p = []
        for t in range(1, len(words)):  # word by word, the next one given those before
            logits, _, _ = model.decode(torch.tensor(words[:t])[None], *encoded)
            log_p.append(logits[0, -1].log_softmax(-1)[words[t]].item())
        assert score == pytest.approx(np.mean(log_p), abs=1e-5)


def test_small_sets_are_repeated():
    parts = np.repeat([0, 1], [400, 25])
    order = repeated(parts, 0.5, seed=1)
    assert np.bincount(parts[order]).tolist() == [400, 100]  # 400^0.5 to 25^0.5: 4 to 1
    assert set(order) == set(range(425))
    assert repeated(parts, 1.0, seed=1).tolist() == list(range(425))
    assert abs(np.bincount(parts[repeated(parts, 0.8, seed=1)])[1] - 25 * 16**0.2) < 12


def test_joined_sets_share_no_held_out_source(tmp_path):
    for name, offset in (("one", 0), ("two", 150)):
        rows = (f"number {chr(97 + k % 26)}{chr(97 + k // 26)}\tnombre {k}" for k in range(400))
        (tmp_path / f"{name}.tsv").write_text("\n".join(list(rows)[offset:]))
    both = f"{tmp_path / 'one.tsv'}+{tmp_path / 'two.tsv'}"
    dataset = prepare(both, SMALL)
    keys = {s: {source_key(a) for a, _ in part} for s, part in dataset.pairs.items()}
    assert not keys["train"] & (keys["valid"] | keys["test"])
    assert not keys["valid"] & keys["test"]
    assert all(len(dataset.parts[s]) == len(dataset.pairs[s]) for s in dataset.pairs)
    assert not dataset.parts["train"].any()  # all pairs of the second are in the first
    assert set(dataset.parts["test"]) == {0, 1}
    alone = prepare(str(tmp_path / "one.tsv"), SMALL)
    assert keys["test"] >= {source_key(a) for a, _ in alone.pairs["test"]}
    assert APPLICATION.reads
