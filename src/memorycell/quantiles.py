"""The quantile levels that forecasts are given at."""

import numpy as np


def quantile_levels(count: int) -> list[float]:
    """(k - 1/2) / K for k = 1..K: the levels at which K quantiles stand for K equally likely outcomes."""
    return [(k + 0.5) / count for k in range(count)]


def interval(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 10%, 50% and 90% quantiles of [..., K]: the 80% interval and the median. Exact for K = 5, 15, 25, …"""
    levels = np.array(quantile_levels(quantiles.shape[-1]))
    low, median, high = (quantiles[..., int(np.abs(levels - p).argmin())] for p in (0.1, 0.5, 0.9))
    return low, median, high
