"""The nearest training text: similarities against their definition, thresholds, bytes in a file."""

import math

import numpy as np
import pytest
import torch

from memorycell.errors import ModelFileError
from memorycell.language.nearest import (
    NEVER,
    NearestText,
    choose_threshold,
    pack_pairs,
    unpack_nearest,
)

pytest.importorskip("sklearn", reason="pip install 'memorycell[language]'")

SOURCES = ["red cat", "red dog", "blue house by the sea"]


def test_similarity_is_that_of_tf_idf_vectors():
    nearest = NearestText(SOURCES, ["a", "b", "c"], "word")
    ((similarity, answer), (none, _)) = nearest.find(["dog", "green"])
    idf = {n: math.log(4 / (1 + n)) + 1 for n in (1, 2)}  # smoothed, of terms in n of 3 texts
    red, dog, pair = idf[2], idf[1], idf[1]
    assert answer == "b"
    assert similarity == pytest.approx(dog / math.sqrt(red**2 + dog**2 + pair**2), rel=1e-5)
    assert none == 0


def test_several_are_in_order_of_similarity():
    nearest = NearestText(SOURCES, ["a", "b", "c"], "word")
    first, none = nearest.find_several(["red dog cat", "green"], 5)
    assert [k for _, k in first] == [1, 0]  # the third shares nothing with it
    assert first[0] == pytest.approx((nearest.find(["red dog cat"])[0][0], 1))
    assert none == []
    assert nearest.find_several(["red dog cat"], 1) == [first[:1]]


def test_thresholds_give_the_highest_mean_score():
    similarity = [0.95, 0.65, 0.45, 0.1]
    ours, theirs = [50, 50, 50, 50], [90, 60, 20, 10]
    assert choose_threshold(similarity, ours, theirs) == 0.6
    assert choose_threshold(similarity, ours, [49] * 4) == NEVER
    assert choose_threshold(similarity, ours, [50.1] * 4) == NEVER  # too small a gain
    assert choose_threshold(similarity, [0] * 4, theirs) == 0.0
    assert choose_threshold([], [], []) == NEVER
    assert choose_threshold([0.6, 0.5], [50, 50], [90, 10]) == 0.6  # of 0.6 itself, too
    assert choose_threshold(similarity, ours, theirs, [0, 0, 0, 1]) == NEVER


def test_memories_survive_a_file_and_damage_is_refused():
    packed = pack_pairs([(s, s.upper()) for s in SOURCES])
    assert unpack_nearest(packed).answers(["the blue house"]) == ["BLUE HOUSE BY THE SEA"]
    for damaged in (packed[:-9], torch.zeros(9, dtype=torch.uint8), packed[torch.randperm(9)]):
        with pytest.raises(ModelFileError, match="memory of the model is damaged"):
            unpack_nearest(damaged)


def test_a_memory_is_not_unpacked_without_limit(monkeypatch):
    monkeypatch.setattr("memorycell.language.nearest.MAX_BYTES", 100)
    packed = pack_pairs([("a" * 10_000, "b")])
    with pytest.raises(ModelFileError, match="too large"):
        unpack_nearest(packed)


def test_large_memories_keep_evenly_chosen_pairs(monkeypatch):
    monkeypatch.setattr("memorycell.language.nearest.MAX_PAIRS", 4)
    nearest = unpack_nearest(pack_pairs([(f"word{k}", str(k)) for k in range(9)]))
    assert np.array_equal(nearest.targets, ["0", "3", "6"])
