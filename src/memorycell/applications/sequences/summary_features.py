"""Summary features of sequences: what a classifier without memory of the order may know."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from memorycell.applications.sequences.baselines_inputs import EncodedSteps

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
LAGS = (1, 2, 4, 8, 16)
"""Of the autocorrelations, in steps."""
BANDS = (0.0, 0.05, 0.125, 0.25, 0.5)
"""Edges of the bands of frequencies, in cycles per step."""
MIN_POWER = 1e-8


def summary_features(data: EncodedSteps) -> np.ndarray:
    """Features float32 [N, P]. Of each channel: mean, standard deviation, minimum, maximum, first
    and last value, `QUANTILES`, slope per sequence, mean absolute step, autocorrelations at `LAGS`
    (0 beyond the length), log power in `BANDS`; the share of missing values; then the logarithm of
    the length, and static values.
    """
    parts = np.zeros((len(data), 0), np.float32)
    for k, (members, steps) in enumerate(data.by_length()):
        own = _features(steps)
        if k == 0:
            parts = np.zeros((len(data), own.shape[1]), np.float32)
        parts[members] = own
    return np.concatenate(
        [parts, data.missing, np.log(data.lengths)[:, None], data.static], 1, dtype=np.float32
    )


def _features(x: np.ndarray) -> np.ndarray:
    """Features [n, P] of sequences of one length [n, T, E]."""
    size = x.shape[1]
    mean, std = x.mean(1), x.std(1)
    centred = x - mean[:, None]
    variance = np.maximum(std**2, MIN_POWER)
    time = np.linspace(-0.5, 0.5, size, dtype=np.float32) if size > 1 else np.zeros(1, np.float32)
    found = [mean, std, x.min(1), x.max(1), x[:, 0], x[:, -1]]
    found += list(np.quantile(x, QUANTILES, axis=1).astype(np.float32))
    found.append(np.einsum("t,nte->ne", time, centred) / max(float((time**2).sum()), 1e-6))
    found.append(np.abs(np.diff(x, axis=1)).mean(1) if size > 1 else np.zeros_like(mean))
    for lag in LAGS:
        product = (
            (centred[:, lag:] * centred[:, :-lag]).sum(1) / size
            if size > lag
            else np.zeros_like(mean)
        )
        found.append(product / variance)
    power = np.abs(np.fft.rfft(centred, axis=1)) ** 2 / size**2
    frequency = np.fft.rfftfreq(size)
    for low, high in pairwise(BANDS):
        inside = (frequency > low) & (frequency <= high)
        found.append(np.log(power[:, inside].sum(1) + MIN_POWER))
    return np.concatenate(found, 1).astype(np.float32)
