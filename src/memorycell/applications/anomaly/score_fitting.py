"""Fitting the anomaly score and its threshold, on normal rows of training or of a recording."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch

from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.score import ScoreFunction
from memorycell.models.quantiles import tail_quantile

WARM_UP_ROWS = 20
"""Rows at the start of a recording whose scores are not used to fit thresholds."""
MIN_SETTLE_SCORES = 20
"""Scores that a recording's own threshold needs."""
HELD_OUT_PARTS = 2
"""Parts of the normal rows, in the order of time. Each is scored by the distributions of the
others, so that the threshold allows for drift and for what the fit adapts to.
"""


def fit_score(model: Detector, averaged: Sequence[np.ndarray]) -> None:
    """Set the parameters of the score and the threshold of a detector.

    averaged   averaged features [N, R P] of normal rows, one array per recording
    """
    score = ScoreFunction(model)
    rows = np.concatenate(averaged)
    by_scale = rows.reshape(len(rows), score.scales, -1)
    size, smooth = model.center.shape[-1], score.smooth.reshape(score.scales, -1)
    for r in range(score.scales):
        # What the average of independent standard normal deviates has.
        min_variance = 1 / (2 * float(smooth[r, 0]) - 1)
        _store(model, "", r, by_scale[:, r, :size], min_variance)
        if model.config.static:
            _store(model, "static_", r, by_scale[:, r, size:], 0.0)
    score = ScoreFunction(model)
    if model.config.static:
        scores = [held_out_scores(score, part) for part in averaged]
    else:
        scores = [score.scores(part) for part in averaged]
    model.threshold.fill_(tail_quantile(np.concatenate(scores), model.config.budget))


def _store(model: Detector, kind: str, scale: int, rows: np.ndarray, min_variance: float) -> None:
    """Write the mean and the inverse covariance of rows [N, S] of a time constant."""
    center, inverse = model.get_buffer(f"{kind}center"), model.get_buffer(f"{kind}inverse")
    if model.config.scales > 1:
        center, inverse = center[scale], inverse[scale]
    covariance = np.atleast_2d(np.cov(rows.T))
    variance = np.diag(covariance)
    covariance = covariance + np.diag(np.maximum(min_variance - variance, 1e-3 * variance + 1e-9))
    center.copy_(torch.from_numpy(rows.mean(0)))
    inverse.copy_(torch.from_numpy(np.linalg.inv(covariance)))


def held_out_scores(score: ScoreFunction, averaged: np.ndarray) -> np.ndarray:
    """The scores [N] of averaged features [N, R P] of one recording, each by the distributions of
    the other parts of the recording.
    """
    edges = np.linspace(0, len(averaged), HELD_OUT_PARTS + 1).astype(int)
    scores = []
    for begin, end in itertools.pairwise(edges):
        others = np.concatenate([averaged[:begin], averaged[end:]])
        held_out = averaged[begin:end]
        fitted = score.refitted(others) if len(others) > 1 else score
        scores.append(fitted.scores(held_out))
    return np.concatenate(scores)


def recording_score(
    score: ScoreFunction, model: Detector, codec: ReadingsCodec, averaged: np.ndarray
) -> tuple[ScoreFunction, float]:
    """(the score of a recording, its threshold): those of training; with `settle` a threshold, and
    with `own_score` distributions, from the averaged features [N, R P] of its settling rows.
    """
    if not codec.settle:
        return score, float(model.threshold)
    rows = averaged[min(WARM_UP_ROWS, codec.settle // 4) : codec.settle]
    if len(rows) < MIN_SETTLE_SCORES:
        return score, math.inf
    if not score.own:
        return score, tail_quantile(score.scores(rows), model.config.budget)
    scores = held_out_scores(score, rows)
    return score.refitted(rows), tail_quantile(scores, model.config.budget)
