"""The values of a sequence relative to its own mean and deviation so far.

Where sequences differ in scale by orders of magnitude, a common scaling hides the shape of the
small ones. The deviation so far is an input too, as a logarithm. Both are known after every row
(running moments; reversible instance normalisation, Kim et al. 2022, uses those of the complete
sequence).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MIN_SEQUENCES = 10
MIN_SPREAD = 100.0
"""Values are read relative to their sequence where the 90% quantile of the standard deviations of
the sequences is this many times their 10% quantile.
"""
FLOOR_SHARE = 1e-3
"""Of that 10% quantile: the smallest deviation that is divided by."""


def no_moments(count: int) -> np.ndarray:
    """The moments [4, F] of a sequence before its first row: the first known value, and of the
    distances from it the number, the sum and the sum of squares.
    """
    moments = np.zeros((4, count))
    moments[0] = np.nan
    return moments


def running_moments(
    values: np.ndarray, before: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [T, F], NaN where unknown; moments [4, F] before the first row -> (mean [T, F],
    standard deviation [T, F], moments after the last row). Where nothing is known yet the mean is
    NaN and the deviation 0.
    """
    if before is None:
        before = no_moments(values.shape[1])
    known = ~np.isnan(values)
    at = known.argmax(0)[None]
    first = np.where(np.isnan(before[0]), np.take_along_axis(values, at, 0)[0], before[0])
    distance = np.where(known, values - first, 0.0)
    terms = np.stack([known.astype(np.float64), distance, distance**2])
    # Summed in the order of single rows, for equal rounding.
    sums = np.concatenate([before[1:, None], terms], 1).cumsum(1)[:, 1:]
    count = np.maximum(sums[0], 1)
    mean = sums[1] / count
    variance = np.maximum(sums[2] / count - mean**2, 0.0)
    mean = np.where(sums[0] > 0, first + mean, np.nan)
    return mean, np.sqrt(variance), np.concatenate([first[None], sums[:, -1]])


def scale_floor(sequences: Sequence[np.ndarray]) -> float:
    """The smallest deviation that is divided by, of a column of N sequences [T_i], NaN where
    missing; 0 where their scales are alike and a common scaling is enough.
    """
    with np.errstate(invalid="ignore"):
        stds = np.array([_std(values) for values in sequences])
    stds = stds[stds > 0]
    if len(stds) < MIN_SEQUENCES:
        return 0.0
    low, high = np.quantile(stds, [0.1, 0.9])
    return float(low * FLOOR_SHARE) if high > MIN_SPREAD * low else 0.0


def _std(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.std()) if len(known) > 1 else 0.0
