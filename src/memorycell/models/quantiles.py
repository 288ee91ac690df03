"""Quantiles: the levels of forecasts, and extreme quantiles of a sample."""

import math

import numpy as np


def quantile_levels(count: int) -> list[float]:
    """(k - 1/2) / K for k = 1..K: the levels at which K quantiles represent K equally likely
    outcomes.
    """
    return [(k + 0.5) / count for k in range(count)]


def interval(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 10%, 50% and 90% quantiles of [..., K]: the 80% interval and the median. Exact for K = 5,
    15, 25, …
    """
    levels = np.array(quantile_levels(quantiles.shape[-1]))
    low, median, high = (quantiles[..., int(np.abs(levels - p).argmin())] for p in (0.1, 0.5, 0.9))
    return low, median, high


def tail_quantile(values: np.ndarray, share: float) -> float:
    """The value that a share of the distribution of `values` [N] exceeds, also beyond the largest.

    The empirical quantile if at least ten values exceed it. Otherwise the tail above the 90%
    quantile u is modelled as a generalised Pareto distribution (Balkema & de Haan 1974; Pickands
    1975), fitted by probability-weighted moments (Hosking & Wallis 1987), and the value is u + σ/ξ
    ((share/0.1)^-ξ - 1). Values of a smoothed score are autocorrelated, so that their tail is
    estimated from fewer than N independent ones. Raises ValueError for fewer than 20 values, or a
    share outside (0, 1).
    """
    values = np.sort(np.asarray(values, np.float64))
    if len(values) < 20 or not 0 < share < 1:
        raise ValueError(
            f"expected 20 values or more and a share in (0, 1), got {len(values)} and {share}"
        )
    if share * len(values) >= 10 or share >= 0.1:
        return float(np.quantile(values, 1 - share))
    edge = float(np.quantile(values, 0.9))
    excess = values[values > edge] - edge
    if len(excess) < 2 or excess[-1] <= 0:
        return float(values[-1])
    # b0 = E[x], b1 = E[x (1 - F(x))]
    b0 = float(excess.mean())
    b1 = float((excess * (1 - (np.arange(len(excess)) + 0.65) / len(excess))).mean())
    shape = min(max(2 - b0 / (b0 - 2 * b1), -0.5), 0.5) if b0 > 2 * b1 else 0.0
    scale = b0 * (1 - shape)
    ratio = share * len(values) / len(excess)
    further = -math.log(ratio) if abs(shape) < 1e-6 else (ratio**-shape - 1) / shape
    return edge + scale * further
