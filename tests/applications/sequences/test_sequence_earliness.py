"""Early decisions: the lowest threshold that costs little accuracy, with confidence."""

import numpy as np
import pytest
from scipy.stats import binom

from memorycell.applications.sequences.earliness import (
    CONFIDENCE,
    MAX_RISK,
    NEVER,
    _highest_rate,
    decide,
    fit_threshold,
)


def paths_of(count, early_p, wrong):
    """Sequences of two steps: the first answer has the probability `early_p` and is wrong in
    `wrong` of them, the second is right.
    """
    paths = [np.array([[1 - early_p, early_p], [0.005, 0.995]]) for _ in range(count)]
    for path in paths[:wrong]:
        path[0] = path[0, ::-1]
    return paths, np.ones(count, np.int64)


def test_decisions_stop_where_they_are_sure():
    paths = [
        np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]]),
        np.array([[0.5, 0.5], [0.45, 0.55], [0.4, 0.6], [0.3, 0.7]]),
    ]
    early = decide(paths, np.array([1, 1]), 0.85)
    assert early.accuracy == 0.5  # the first is sure of the wrong class after two steps
    assert early.seen == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("count", "wrong", "wanted"),
    [
        (200, 0, 0.6),
        (200, 1, 0.6),
        (200, 20, 0.97),  # the first threshold above the early answers
        (1000, 20, 0.97),  # 2% of accuracy, at most 2.7% with confidence
        (60, 0, 0.6),
        (60, 1, 0.97),  # at most 6.3% with confidence
        (44, 0, NEVER),  # also a rate of 5.1% loses none of 44 in every tenth case
        (45, 0, 0.6),
        (2, 0, NEVER),
    ],
)
def test_thresholds_cost_little_accuracy_with_confidence(count, wrong, wanted):
    assert fit_threshold(*paths_of(count, 0.96, wrong)) == pytest.approx(wanted)


def test_a_lower_threshold_does_not_follow_one_that_failed():
    """At 0.9 wrong answers stop early; below, all stop at the first step and are right."""
    paths, truth = paths_of(100, 0.65, 0)
    for path in paths[:20]:
        path[0] = [0.1, 0.9]
        path[1] = [0.9, 0.1]
    paths = [np.concatenate([p[:1], p[1:], [[0.005, 0.995]]]) for p in paths]
    for path in paths[:20]:
        path[0] = [0.35, 0.65]
    assert fit_threshold(paths, truth) == pytest.approx(0.93)


@pytest.mark.parametrize(("count", "total"), [(0, 40), (3, 120), (119, 120), (120, 120)])
def test_the_bound_is_the_binomial_one(count, total):
    rate = _highest_rate(count, total)
    if count == total:
        assert rate == 1
    else:
        assert binom.cdf(count, total, rate) == pytest.approx(1 - CONFIDENCE, abs=1e-9)


def test_the_promise_holds_for_further_sequences():
    """Of 300 trainings in which the lowest threshold costs 8%, few choose it."""
    rng = np.random.default_rng(0)
    chosen = []
    for _ in range(300):
        paths, truth = paths_of(60, 0.96, int(rng.binomial(60, MAX_RISK + 0.03)))
        chosen.append(fit_threshold(paths, truth) < 0.96)
    assert np.mean(chosen) <= 1 - CONFIDENCE
