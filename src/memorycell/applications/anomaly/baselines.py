"""Scores of rows that know of no order in time, or of little: what a detector must beat.

Each is fitted on normal rows [N, C] and scores rows [M, C], the higher the stranger.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Outliers(Protocol):
    """One shape for all."""

    def fit(self, rows: np.ndarray) -> Outliers:
        """Learn what is normal."""

    def score(self, rows: np.ndarray) -> np.ndarray:
        """[M], of rows one after another."""


class Everything:
    """Every row is an anomaly: what any F1 is to be compared with."""

    def fit(self, rows: np.ndarray) -> Everything:
        """Nothing."""
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Infinity."""
        return np.full(len(rows), np.inf)


class MovingZ:
    """The largest |z| of a row, each column against the mean and the deviation of its own last
    `window` rows.
    """

    def __init__(self, window: int = 60) -> None:
        self.window = window

    def fit(self, rows: np.ndarray) -> MovingZ:
        """A floor for the deviations: a hundredth of those of the normal rows."""
        self.floor = np.maximum(0.01 * rows.std(0), 1e-9)
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """See `Outliers`; 0 for the first two rows."""
        mean, deviation = self.moving(rows)
        return np.abs((rows - mean) / deviation).max(1)

    def moving(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, deviation) [M, C] of the rows before each; the row itself where there are fewer
        than two.
        """
        sums = np.concatenate([np.zeros((1, rows.shape[1])), rows.cumsum(0)])
        squares = np.concatenate([np.zeros((1, rows.shape[1])), (rows**2).cumsum(0)])
        end = np.arange(len(rows))
        begin = np.maximum(0, end - self.window)
        count = np.maximum(end - begin, 1)[:, None]
        mean = (sums[end] - sums[begin]) / count
        deviation = np.sqrt(np.maximum((squares[end] - squares[begin]) / count - mean**2, 0))
        young = (end < 2)[:, None]
        return np.where(young, rows, mean), np.maximum(np.where(young, 1.0, deviation), self.floor)


class Mahalanobis:
    """½ (x - m)ᵀ C⁻¹ (x - m), with the mean and covariance of the normal rows (Mahalanobis 1936;
    Hotelling's T²).
    """

    def fit(self, rows: np.ndarray) -> Mahalanobis:
        """M and C."""
        self.mean = rows.mean(0)
        self.covariance = np.atleast_2d(np.cov(rows.T)) + 1e-6 * np.eye(rows.shape[1])
        self.inverse = np.linalg.inv(self.covariance)
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """See `Outliers`."""
        d = rows - self.mean
        return 0.5 * np.einsum("nc,cd,nd->n", d, self.inverse, d)

    def nats(self, rows: np.ndarray) -> np.ndarray:
        """Negative log-likelihood [M] of rows under that normal distribution."""
        _, log_determinant = np.linalg.slogdet(self.covariance)
        return self.score(rows) + 0.5 * (log_determinant + rows.shape[1] * np.log(2 * np.pi))


class Forest:
    """Isolation forest (Liu, Ting & Zhou 2008), scikit-learn's, of 100 trees."""

    def fit(self, rows: np.ndarray) -> Forest:
        """The trees."""
        from sklearn.ensemble import IsolationForest

        self.trees = IsolationForest(random_state=0, n_jobs=1).fit(rows)
        return self

    def score(self, rows: np.ndarray) -> np.ndarray:
        """See `Outliers`."""
        return -np.asarray(self.trees.score_samples(rows))
