"""The anomaly score of a row: how unlikely it is under the distribution predicted for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.columns import GAP
from memorycell.applications.anomaly.head import STUDENT_T_DF
from memorycell.applications.anomaly.model import Detector
from memorycell.models.quantiles import tail_quantile

WARM_UP_ROWS = 20
"""Rows at the start of a recording whose scores are not used to fit thresholds."""
MIN_SETTLE_SCORES = 20
"""Scores that a recording's own threshold needs."""
STUCK_RUN_FACTOR, STUCK_EXTRA_ROWS = 2, 10
"""A column is stuck once it has repeated one value for more than `STUCK_RUN_FACTOR` times its
longest run in training, plus `STUCK_EXTRA_ROWS`.
"""
MAX_BLAMED_COLUMNS = 3
MIN_BLAME = 0.2
"""Smallest share of the score for which a column is blamed."""

V = STUDENT_T_DF
# Arrays, since numpy takes twice as long with Python floats.
DF, WALLACE_FACTOR = np.array(V), np.array(V * ((8 * V + 1) / (8 * V + 3)) ** 2)


def normal_deviates(
    y: np.ndarray, z: np.ndarray, choices: np.ndarray, sizes: Sequence[int]
) -> np.ndarray:
    """The deviations of rows from their prediction, as normal deviates [..., K + C]; NaN where
    missing.

    y [..., 2 K + V] as in `NextRow`, z [..., K] z-scores, choices [..., C] ids

    For a number u = (z - μ)/σ under Student's t, Wallace's (1959) normal deviate, ±√(ν log(1 +
    u²/ν)) (8ν + 1)/(8ν + 3); for a category √(-2 log p), which has the same density in nats.
    """
    k = z.shape[-1]
    u = z - y[..., :k]
    u /= np.exp(y[..., k : 2 * k])
    deviates = u * u
    deviates /= DF
    np.log1p(deviates, out=deviates)
    deviates *= WALLACE_FACTOR
    np.sqrt(deviates, out=deviates)
    np.copysign(deviates, u, out=deviates)
    if not sizes:
        return deviates
    parts, begin = [deviates], 2 * k
    for column, size in enumerate(sizes):
        log_p = np.take_along_axis(y[..., begin : begin + size], choices[..., column, None], -1)
        parts.append(np.sqrt(np.maximum(-2 * log_p, 0)))
        begin += size
    return np.concatenate(parts, -1)


def exponential_average(
    values: np.ndarray, rows: int, start: np.ndarray | float = 0.0
) -> np.ndarray:
    """The exponential average of values [N, S], s ← s + (v - s)/rows from `start`: [N, S]."""
    if rows == 1:
        return values
    result, rate = np.empty_like(values), 1 / rows
    average = np.broadcast_to(start, values.shape[1:]).astype(np.float64)
    for k, value in enumerate(values):
        average = average + (value - average) * rate
        result[k] = average
    return result


class ScoreFunction:
    """The anomaly score of a trained detector. With s the averaged deviates of a row, m and C their
    mean and covariance in training, and d = s - m:

        score = ½ dᵀ C⁻¹ d = Σ_j ½ d_j (C⁻¹ d)_j

    the negative log-likelihood of s under that normal distribution, without its constant. The terms
    of the sum are the contributions of the columns. For categories d is at least 0: one that is
    likelier than usual is no anomaly.
    """

    def __init__(self, model: Detector) -> None:
        self.columns, self.smooth = model.config.columns, model.config.smooth
        self.sizes = model.config.sizes
        self.center = model.center.numpy().astype(np.float64)
        self._half_inverse = 0.5 * model.inverse.numpy().astype(np.float64)

    def contributions(self, averaged: np.ndarray) -> np.ndarray:
        """Averaged deviates [..., S] -> contributions [..., S], whose sum is the score."""
        d = averaged - self.center
        if self.sizes:
            d[..., self.columns :] = np.maximum(d[..., self.columns :], 0)
        result: np.ndarray = d.dot(self._half_inverse)  # for one row three times as fast as @
        result *= d
        return result

    def of_rows(
        self, y: np.ndarray, z: np.ndarray, choices: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(contributions [N, S] of the rows of a recording, averaged deviates [S] after the last).

        y [N, 2 K + V], of which y[k] predicts row k + 1; z [N, K], choices [N, C]
        """
        deviates = np.nan_to_num(normal_deviates(y[:-1], z[1:], choices[1:], self.sizes))
        deviates = np.concatenate([self.center[None], deviates])
        averaged = exponential_average(deviates, self.smooth, self.center)
        return self.contributions(averaged), averaged[-1]


def fit_score(model: Detector, averaged: Sequence[np.ndarray]) -> None:
    """Set the parameters of the score and the threshold of a detector.

    averaged   averaged deviates [N, S] of normal rows, one array per recording
    """
    rows = np.concatenate(averaged)
    model.center.copy_(torch.from_numpy(rows.mean(0)))
    covariance = np.atleast_2d(np.cov(rows.T))
    variance = np.diag(covariance)
    # What the average of independent standard normal deviates has.
    min_variance = 1 / (2 * model.config.smooth - 1)
    covariance = covariance + np.diag(np.maximum(min_variance - variance, 1e-3 * variance))
    model.inverse.copy_(torch.from_numpy(np.linalg.inv(covariance)))
    score = ScoreFunction(model)
    scores = np.concatenate([score.contributions(part).sum(-1) for part in averaged])
    model.threshold.fill_(tail_quantile(scores, model.config.budget))


def recording_threshold(model: Detector, codec: ReadingsCodec, scores: np.ndarray) -> float:
    """The threshold of training; with `settle`, the recording's own, from its settling rows."""
    if not codec.settle:
        return float(model.threshold)
    own = scores[min(WARM_UP_ROWS, codec.settle // 4) : codec.settle]
    return tail_quantile(own, model.config.budget) if len(own) >= MIN_SETTLE_SCORES else math.inf


def max_run_lengths(codec: ReadingsCodec) -> np.ndarray:
    """[K]: the longest run of equal values for which a column is not stuck."""
    return np.array(
        [
            math.inf if column == GAP else STUCK_RUN_FACTOR * longest + STUCK_EXTRA_ROWS
            for column, longest in zip(codec.columns, codec.longest, strict=True)
        ]
    )


def blame(codec: ReadingsCodec, contributions: np.ndarray, stuck: np.ndarray) -> dict[str, float]:
    """The columns responsible for an anomaly -> their shares of its score, the largest first; stuck
    columns precede them with 1.

    contributions [S], stuck [K] bool
    """
    shares = {codec.columns[k]: 1.0 for k in np.flatnonzero(stuck)}
    total = max(float(np.maximum(contributions, 0).sum()), 1e-12)
    for k in np.argsort(-contributions)[:MAX_BLAMED_COLUMNS]:
        if contributions[k] / total >= MIN_BLAME:
            shares.setdefault(codec.names[k], round(float(contributions[k]) / total, 2))
    if shares:
        return shares
    largest = int(contributions.argmax())
    return {codec.names[largest]: round(float(contributions[largest]) / total, 2)}
