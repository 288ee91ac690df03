"""The anomaly score of a row: how unlikely it is under the distribution predicted for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.columns import GAP
from memorycell.applications.anomaly.head import STUDENT_T_DF
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.normal import Normal

MAX_STATIC_Z = 100.0
"""Readings are clipped to ± this value before they are averaged."""
MIN_LIKELIHOOD = 1e-12
"""Lower bound of the two parts of a score, whose ratio is needed."""
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
    values: np.ndarray, rows: int | np.ndarray, start: np.ndarray | float = 0.0
) -> np.ndarray:
    """The exponential average of values [N, S], s ← s + (v - s)/rows from `start`: [N, S].

    rows   the time constant, or one for each column [S]
    """
    if np.all(np.equal(rows, 1)):
        return values
    result, rate = np.empty_like(values), 1 / rows
    average = np.broadcast_to(start, values.shape[1:]).astype(np.float64)
    for k, value in enumerate(values):
        average = average + (value - average) * rate
        result[k] = average
    return result


class ScoreFunction:
    """The anomaly score of a trained detector. A row has two features: the deviates of its columns
    from their prediction, and its readings, in standard deviations from their level. Both are
    averaged over several time constants, n_r = smooth · 2^r rows for r = 0 … R - 1, with R the
    `scales` of the configuration. Under the normal distribution that an averaged feature has in
    training, with mean m and covariance C, and with d the feature minus m, its negative
    log-likelihood is, without its constant,

        q = ½ dᵀ C⁻¹ d = Σ_j ½ d_j (C⁻¹ d)_j

    the surprise of the prediction, and the static deviation: half the squared Mahalanobis distance
    of the averaged readings. The score of one time constant is their weighted geometric mean, and
    the score of the row that of all time constants:

        score_r = surprise_r^(1 - w) · static_r^w,   score = (score_0 · … · score_{R-1})^(1/R)

    with w the `static` of the configuration: a slow drift that was predicted raises the static
    deviation alone, a fault as a rule both; a short fault raises the scores of the short averages
    first, a weak one only those of the long ones. The terms of the sums, in proportion, are the
    contributions of the columns, whose sum is the score. For categories d is at least 0: one that
    is likelier than usual is no anomaly.

    Averaged features are [..., R P]: for each time constant the deviates, then the readings.
    """

    def __init__(self, model: Detector) -> None:
        config = model.config
        self.columns, self.sizes, self.scales = config.columns, config.sizes, config.scales
        self.weight, self.own = config.static, config.own_score
        self.is_refitted = False
        self.surprise = _stored(model.center, model.inverse)
        self.static: Normal | None = None
        if self.weight:
            self.static = _stored(model.static_center, model.static_inverse)
        features = self.center.size // self.scales
        self.smooth = np.repeat(config.smooth * 2 ** np.arange(self.scales), features)
        """[R P]: the time constant of each averaged feature, in rows."""

    @property
    def center(self) -> np.ndarray:
        """The mean [R P] of the averaged features in training, where averages start."""
        centers = [one.center for one in (self.surprise, self.static) if one is not None]
        return np.concatenate(centers, -1).ravel()

    def features(
        self, y: np.ndarray, z: np.ndarray, filled: np.ndarray, choices: np.ndarray
    ) -> np.ndarray:
        """What is averaged of rows: deviates, then readings without missing ones: [..., P].

        y [..., 2 K + V] the prediction of each row, z [..., K], filled [..., K] without missing
        values, choices [..., C]
        """
        deviates = normal_deviates(y, z, choices, self.sizes)
        if np.isnan(deviates).any():
            deviates = np.nan_to_num(deviates)
        if self.static is None:
            return deviates
        return np.concatenate([deviates, np.clip(filled, -MAX_STATIC_Z, MAX_STATIC_Z)], -1)

    def averaged(self, features: np.ndarray, start: np.ndarray | float = 0.0) -> np.ndarray:
        """The averages [N, R P], from `start`, of the features [N, P] of rows in their order."""
        return exponential_average(np.tile(features, self.scales), self.smooth, start)

    def averages(
        self, y: np.ndarray, z: np.ndarray, filled: np.ndarray, choices: np.ndarray
    ) -> np.ndarray:
        """The averaged features [N, R P] of the rows of a recording; those of the first row, which
        has no prediction, are the mean of training.

        y [N, 2 K + V], of which y[k] predicts row k + 1; z and filled [N, K], choices [N, C]
        """
        averaged = self.averaged(self.features(y[:-1], z[1:], filled[1:], choices[1:]), self.center)
        return np.concatenate([self.center[None], averaged])

    def contributions(self, averaged: np.ndarray) -> np.ndarray:
        """Averaged features [..., R P] -> contributions [..., S], whose sum is the score."""
        if self.scales == 1:
            return self._contributions(averaged)
        shares = self._contributions(averaged.reshape(*averaged.shape[:-1], self.scales, -1))
        scores = np.maximum(shares.sum(-1, keepdims=True), MIN_LIKELIHOOD)  # [..., R, 1]
        shares /= scores
        result: np.ndarray = shares.sum(-2)
        result *= np.exp(np.log(scores).sum(-2) / self.scales) / self.scales
        return result

    def _contributions(self, averaged: np.ndarray) -> np.ndarray:
        """As `contributions`, of each time constant: [..., R, P], or [..., P] if there is one."""
        size = self.surprise.center.shape[-1]
        d = averaged[..., :size] - self.surprise.center
        if self.sizes:
            d[..., self.columns :] = np.maximum(d[..., self.columns :], 0)
        result = self.surprise.terms(d)
        if self.static is None:
            return result
        static = self.static.terms(averaged[..., size:] - self.static.center)
        surprise_sum = np.maximum(result.sum(-1, keepdims=True), MIN_LIKELIHOOD)
        static_sum = np.maximum(static.sum(-1, keepdims=True), MIN_LIKELIHOOD)
        ratio = static_sum / surprise_sum
        result *= (1 - self.weight) * ratio**self.weight
        static *= self.weight * ratio ** (self.weight - 1)
        result[..., : self.columns] += static
        return result

    def scores(self, averaged: np.ndarray) -> np.ndarray:
        """Averaged features [..., R P] -> scores [...]."""
        contributions = self.contributions(averaged)
        return np.asarray(contributions.dot(np.ones(contributions.shape[-1])))

    @property
    def distributions(self) -> list[Normal]:
        """For each time constant that of the deviates, and that of the readings."""
        kinds = [one.split() for one in (self.surprise, self.static) if one is not None]
        return [one for scale in zip(*kinds, strict=True) for one in scale]

    def with_distributions(self, distributions: Sequence[Normal]) -> ScoreFunction:
        """The same score with other distributions. Raises ValueError where they do not fit."""
        sizes = [len(one.center) for one in self.distributions]
        if [len(one.center) for one in distributions] != sizes:
            raise ValueError("the distributions of the score do not fit the columns")
        other, kinds = copy.copy(self), len(sizes) // self.scales
        other.surprise, other.is_refitted = Normal.joined(distributions[::kinds]), True
        if self.static is not None:
            other.static = Normal.joined(distributions[1::kinds])
        return other

    def refitted(self, rows: np.ndarray) -> ScoreFunction:
        """The score with the distributions of other averaged features [N, R P]; see
        `Normal.refitted`.
        """
        distributions = self.distributions
        ends = np.cumsum([len(one.center) for one in distributions])
        parts = np.split(rows, ends[:-1], 1)
        return self.with_distributions(
            [one.refitted(part) for one, part in zip(distributions, parts, strict=True)]
        )


def _stored(center: Tensor, inverse: Tensor) -> Normal:
    return Normal(center.numpy().astype(np.float64), 0.5 * inverse.numpy().astype(np.float64))


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
