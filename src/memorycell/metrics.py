"""Measures of a forecast: one function each, with its equation, unit and source. NaN in `truth` means unknown: left out."""

from __future__ import annotations

import numpy as np

from memorycell.quantiles import quantile_levels


def mae(truth: np.ndarray, point: np.ndarray) -> float:
    """Mean absolute error, mean |y - ŷ|, in the unit of y."""
    return float(np.nanmean(np.abs(truth - point)))


def mse(truth: np.ndarray, point: np.ndarray) -> float:
    """Mean squared error, mean (y - ŷ)², in the unit of y squared."""
    return float(np.nanmean((truth - point) ** 2))


def mase(truth: np.ndarray, point: np.ndarray, naive_error: float) -> float:
    """Mean absolute scaled error: MAE over the mean |y_t - y_{t-m}| of the training data. Hyndman & Koehler (2006)."""
    return mae(truth, point) / naive_error


def crps(truth: np.ndarray, quantiles: np.ndarray) -> float:
    """Continuous ranked probability score, in the unit of y; lower is better. Matheson & Winkler (1976).

    truth [...], quantiles [..., K] at `quantile_levels(K)`. For K equally likely outcomes q_k

        CRPS = 2/K · Σ_k max(τ_k (y - q_k), (τ_k - 1)(y - q_k))

    is exact (Bröcker 2012, QJRMS 138:1611); for a single outcome it is |y - q|.
    """
    levels = np.array(quantile_levels(quantiles.shape[-1]), dtype=quantiles.dtype)
    error = truth[..., None] - quantiles
    return float(np.nanmean(2 * np.maximum(levels * error, (levels - 1) * error)))


def coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the known values that lie in [low, high]; 0.8 is right for an 80% interval."""
    known = ~np.isnan(truth)
    return float(((truth >= low) & (truth <= high))[known].mean())
