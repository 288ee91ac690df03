"""The width of intervals of numbers, so that they hold the stated share of values.

Split conformal prediction with normalised scores (Papadopoulos et al. 2008, ICTAI; Lei et al. 2018,
doi:10.1080/01621459.2017.1307116): the score of a value is the factor by which the interval around
the median must be widened to hold it. Of n validation values the ⌈0.8 (n + 1)⌉-th smallest score
gives intervals that hold at least 80% of further values of the same kind. Values of neighbouring
steps resemble each other and a later season differs from an earlier one, so that for time series
the share is approximate.
"""

from __future__ import annotations

import math

import numpy as np

from memorycell.applications.sequences.metrics import INTERVAL_SHARE
from memorycell.models.quantiles import interval

MIN_SCALE, MAX_SCALE = 0.1, 10.0
MIN_WIDTH = 1e-12
"""Of half an interval, in standard deviations of the target."""


def conformal_scale(quantiles: np.ndarray, truth: np.ndarray, unit: np.ndarray) -> float:
    """The factor of the distances from the median, from quantiles [n, K, Q] and values [n, K], NaN
    where unknown, of validation sequences or steps; `unit` [K] are deviations of the target.
    """
    low, median, high = interval(quantiles)
    above = truth > median
    width = np.where(above, high - median, median - low)
    scores = np.abs(truth - median) / np.maximum(width, MIN_WIDTH * unit)
    scores = np.sort(scores[~np.isnan(scores)])
    if not len(scores):
        return 1.0
    rank = min(math.ceil(INTERVAL_SHARE * (len(scores) + 1)), len(scores))
    return float(np.clip(scores[rank - 1], MIN_SCALE, MAX_SCALE))
