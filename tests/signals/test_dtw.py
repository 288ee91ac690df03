"""Dynamic time warping against its recurrence."""

import itertools

import numpy as np
import pytest

from memorycell.signals.dtw import DtwClassifier


def test_distances_are_those_of_the_recurrence():
    rng = np.random.default_rng(0)
    known = [rng.normal(size=(n, 3)) for n in (1, 4, 7, 7, 12, 30)]
    classifier = DtwClassifier(known, np.arange(6))
    for length in (1, 5, 13):
        query = rng.normal(size=(length, 3))
        distances = classifier.distances(query)
        found = dict(zip(classifier.classes.tolist(), distances, strict=True))
        for k, other in enumerate(known):
            cost = np.full((length + 1, len(other) + 1), np.inf)
            cost[0, 0] = 0
            for i, j in itertools.product(range(length), range(len(other))):
                step = ((query[i] - other[j]) ** 2).sum()
                cost[i + 1, j + 1] = step + min(cost[i, j + 1], cost[i + 1, j], cost[i, j])
            assert found[k] == pytest.approx(cost[-1, -1] / (length + len(other)), rel=1e-4)
    assert classifier.classify([known[3], known[5] + 1e-3]).tolist() == [3, 5]
