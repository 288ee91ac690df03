"""Anomalies in the rows of a table, with the conventions of scikit-learn's outlier detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.metrics import average_precision_score
from sklearn.utils.validation import check_is_fitted

from memorycell.sklearn.estimator import TrainedEstimator

MARGIN = 1e-9
"""How far a row that is flagged for another reason than its score is moved past the threshold."""


class AnomalyDetector(OutlierMixin, TrainedEstimator):  # type: ignore[misc]
    """Detects rows that the rows before them do not lead to expect.

    X is an array [n, F] of numbers, or a data frame with times and words; its rows are in the order
    of time. y is not used in `fit`. `model_` says which columns are to blame, and runs live.

    columns    to monitor, by name or by position; None: all that vary
    time, group, settle, budget, smooth, window, hidden, layers, cell, dropout, epochs, lr
               settings of the task, see `memorycell.settings("anomaly")`; `budget` is the target
               fraction of normal rows that are flagged
    minutes    approximate training time; None: by epochs
    device     see `memorycell.train`
    random_state   the seed of the weights and batches
    verbose    progress on stderr
    settings   further settings by name

    Fitted: `model_`, `n_features_in_`, `feature_names_in_` and `offset_`, minus the threshold of
    the score.
    """

    task = "anomaly"
    task_settings = (
        *("time", "group", "settle", "budget", "smooth", "window"),
        *("hidden", "layers", "cell", "dropout", "epochs", "lr"),
    )

    def __init__(
        self,
        columns: str | int | Sequence[str | int] | None = None,
        *,
        time: str | None = None,
        group: str | None = None,
        settle: int | None = None,
        budget: float | None = None,
        smooth: int | None = None,
        window: int | None = None,
        hidden: int | None = None,
        layers: int | None = None,
        cell: str | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        minutes: float | None = None,
        device: str | None = None,
        random_state: Any = 0,
        verbose: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.columns = columns
        self.time = time
        self.group = group
        self.settle = settle
        self.budget = budget
        self.smooth = smooth
        self.window = window
        self.hidden = hidden
        self.layers = layers
        self.cell = cell
        self.dropout = dropout
        self.epochs = epochs
        self.lr = lr
        self.minutes = minutes
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.settings = settings

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on the rows of X in the order of time. y is not used. Raises `UserError`, a
        ValueError.
        """
        table = self._table(X, reset=True)
        self._train(table, columns=self._names(self.columns))
        self.offset_ = -float(self.model_.model.threshold)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """1 for every row that is normal, -1 for an anomaly: [n] int."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def decision_function(self, X: Any) -> np.ndarray:
        """The threshold minus the score of every row [n]; negative for anomalies. Rows that set the
        level of their recording (`settle`) have the threshold's score.
        """
        check_is_fitted(self)
        table = self._table(X, reset=False)
        found = self._prediction(table)
        margin = (found["threshold"] - found["score"]).fill_null(0.0).to_numpy()
        flagged = found["anomaly"].fill_null(False).to_numpy()
        margin = np.where(flagged, np.minimum(margin, -MARGIN), np.maximum(margin, 0.0))
        result = np.zeros(table.height)
        result[found["row"].to_numpy() - 1] = margin
        return result

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the anomaly score of every row [n]: lower is more abnormal."""
        return self.decision_function(X) + self.offset_

    def score(self, X: Any, y: Any = None) -> float:
        """With labels y [n], -1 or True for anomalies as in `predict`: the average precision of the
        scores. Without: the mean of `score_samples`.
        """
        scores = self.score_samples(X)
        if y is None:
            return float(scores.mean())
        labels = np.asarray(y)
        anomalies = labels if labels.dtype == bool else labels == -1
        return float(average_precision_score(anomalies, -scores))
