"""Baselines that ignore the order of rows, or use little of it.

Each is fitted on normal rows [N, C] and scores rows [M, C]; a higher score is more anomalous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np


class OutlierDetector(Protocol):
    """The interface of the baselines."""

    def fit(self, rows: np.ndarray) -> OutlierDetector:
        """Fit on normal rows [N, C]."""

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Scores [M] of consecutive rows [M, C]."""


class FlagEverything:
    """Flags every row: the F1 that needs no detector."""

    def fit(self, rows: np.ndarray) -> FlagEverything:
        """Does nothing."""
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Infinity."""
        return np.full(len(rows), np.inf)


class MovingZScore:
    """The largest |z| of a row, with the mean and standard deviation of each column over the
    previous `window` rows.
    """

    def __init__(self, window: int = 60) -> None:
        self.window = window

    def fit(self, rows: np.ndarray) -> MovingZScore:
        """Sets the smallest standard deviation: 1% of that of the normal rows."""
        self.min_std = np.maximum(0.01 * rows.std(0), 1e-9)
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """See `OutlierDetector`; 0 for the first two rows."""
        mean, std = self.moving(rows)
        return np.abs((rows - mean) / std).max(1)

    def moving(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation) [M, C] of the rows before each; the row itself and 1 with
        fewer than two.
        """
        sums = np.concatenate([np.zeros((1, rows.shape[1])), rows.cumsum(0)])
        squares = np.concatenate([np.zeros((1, rows.shape[1])), (rows**2).cumsum(0)])
        end = np.arange(len(rows))
        begin = np.maximum(0, end - self.window)
        count = np.maximum(end - begin, 1)[:, None]
        mean = (sums[end] - sums[begin]) / count
        std = np.sqrt(np.maximum((squares[end] - squares[begin]) / count - mean**2, 0))
        too_few = (end < 2)[:, None]
        return np.where(too_few, rows, mean), np.maximum(np.where(too_few, 1.0, std), self.min_std)


class Mahalanobis:
    """½ (x - m)ᵀ C⁻¹ (x - m) with the mean m and covariance C of the normal rows (Mahalanobis 1936;
    Hotelling's T²).
    """

    def fit(self, rows: np.ndarray) -> Mahalanobis:
        """Estimates m and C."""
        self.mean = rows.mean(0)
        self.covariance = np.atleast_2d(np.cov(rows.T)) + 1e-6 * np.eye(rows.shape[1])
        self.inverse = np.linalg.inv(self.covariance)
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """See `OutlierDetector`."""
        d = rows - self.mean
        return 0.5 * np.einsum("nc,cd,nd->n", d, self.inverse, d)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Negative log-likelihood [M] of rows under the normal distribution of m and C."""
        _, log_determinant = np.linalg.slogdet(self.covariance)
        return self.score(rows) + 0.5 * (log_determinant + rows.shape[1] * np.log(2 * np.pi))


class IsolationForest:
    """Isolation forest of 100 trees (Liu, Ting & Zhou 2008; scikit-learn)."""

    def fit(self, rows: np.ndarray) -> IsolationForest:
        """Fits the trees."""
        from sklearn import ensemble

        self.trees = ensemble.IsolationForest(random_state=0, n_jobs=1).fit(rows)
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """See `OutlierDetector`."""
        return -np.asarray(self.trees.score_samples(rows))


BASELINES: Mapping[str, Callable[[], OutlierDetector]] = {
    "flag everything": FlagEverything,
    "moving z-score": MovingZScore,
    "mahalanobis": Mahalanobis,
    "isolation forest": IsolationForest,
}
