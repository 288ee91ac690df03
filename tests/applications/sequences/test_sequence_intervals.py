"""Intervals of numbers hold the stated share of values like those they were fitted on."""

import numpy as np
import pytest
from scipy.stats import norm, skewnorm

from memorycell.applications.sequences.intervals import MAX_SCALE, conformal_scale
from memorycell.models.quantiles import interval, quantile_levels

LEVELS = np.array(quantile_levels(15))


def scaled(quantiles, factor):
    median = quantiles[..., 7:8]
    return median + (quantiles - median) * factor


def coverage(quantiles, truth):
    low, _, high = interval(quantiles)
    return float(((truth >= low) & (truth <= high)).mean())


@pytest.mark.parametrize("wrong", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("law", [norm, skewnorm(5)])
def test_coverage_on_further_values(wrong, law):
    """Quantiles that are too narrow or too wide by a factor, of values whose spread varies."""
    rng = np.random.default_rng(1)
    spread = np.exp(rng.normal(size=(8000, 1)))
    truth = spread * law.rvs(size=(8000, 1), random_state=rng)
    exact = spread[..., None] * law.ppf(LEVELS)
    given = scaled(exact, wrong)
    factor = conformal_scale(given[:500], truth[:500], np.ones(1))
    assert coverage(scaled(given, factor)[500:], truth[500:]) == pytest.approx(0.8, abs=0.04)
    assert factor == pytest.approx(1 / wrong, rel=0.15)


def test_the_factor_is_the_smallest_one_that_holds_enough():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(98, 1))
    quantiles = np.broadcast_to(0.3 * norm.ppf(LEVELS), (98, 1, 15)) + 0.2
    factor = conformal_scale(quantiles, truth, np.ones(1))
    held = [coverage(scaled(quantiles, factor * f), truth) * 98 for f in (1 - 1e-9, 1 + 1e-9)]
    assert np.round(held).tolist() == [79, 80]  # ⌈0.8 · 99⌉ of 98


def test_unknown_values_and_points():
    truth = np.array([[0.5], [np.nan], [-0.5]])
    quantiles = np.broadcast_to(norm.ppf(LEVELS), (3, 1, 15))
    assert conformal_scale(quantiles[:2], truth[:2], np.ones(1)) == pytest.approx(
        0.5 / interval(quantiles)[2][0, 0]
    )
    assert conformal_scale(quantiles[1:2], truth[1:2], np.ones(1)) == 1
    assert conformal_scale(quantiles[..., 7:8], truth, np.ones(1)) == MAX_SCALE
