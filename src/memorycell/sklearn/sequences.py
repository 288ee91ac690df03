"""Classes and numbers of sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from memorycell.face.frames import is_frame
from memorycell.sklearn.estimator import TrainedEstimator

if TYPE_CHECKING:
    import polars as pl

SEQUENCE, TARGET = "sequence", "target"
"""Columns of the table that the sequences are written to; the others are x0, x1, …"""


class SequenceEstimator(TrainedEstimator):
    """Reads X as sequences: an array [N, T] of N sequences of one feature, an array [N, T, F], or a
    list of N arrays [T_i] or [T_i, F]. NaN where a value is missing.
    """

    task = "sequences"
    task_settings = (
        *("pooling", "bidirectional", "augment", "members", "hidden", "layers", "cell", "dropout"),
        *("epochs", "lr"),
    )

    def __init__(
        self,
        *,
        pooling: str | None = None,
        bidirectional: bool | None = None,
        augment: str | None = None,
        members: int | None = None,
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
        self.pooling = pooling
        self.bidirectional = bidirectional
        self.augment = augment
        self.members = members
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

    def _answers(self, X: Any) -> pl.DataFrame:
        """The trained model's answers, a row per sequence."""
        check_is_fitted(self)
        found = self._prediction(_table(self._sequences(X, reset=False)))
        return found

    def _sequences(self, X: Any, *, reset: bool) -> list[np.ndarray]:
        """Arrays [T_i, F]. Raises ValueError for other features than in `fit`."""
        least = 2 if reset else 1
        if is_frame(X) or not _is_nested(X):
            values = validate_data(
                self, X, reset=reset, ensure_all_finite="allow-nan", ensure_min_samples=least
            )
            return list(np.asarray(values, np.float64)[..., None])
        arrays = [
            check_array(
                np.asarray(one, np.float64).reshape(len(one), -1), ensure_all_finite="allow-nan"
            )
            for one in X
        ]
        if len(arrays) < least:
            raise ValueError(f"X: n_samples={len(arrays)}, at least {least} are needed")
        if reset:
            self.n_features_in_ = arrays[0].shape[1]
        for k, array in enumerate(arrays):
            if array.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X: sequence {k} has {array.shape[1]} features, but"
                    f" {type(self).__name__} is expecting {self.n_features_in_} features as input"
                )
        return arrays


class SequenceClassifier(ClassifierMixin, SequenceEstimator):  # type: ignore[misc]
    """Predicts the class of a sequence.

    X is an array [N, T] of N sequences of one feature, an array [N, T, F], or a list of N arrays
    [T_i] or [T_i, F]. `model_` classifies while a sequence arrives, and exports.

    pooling, bidirectional, augment, members, hidden, layers, cell, dropout, epochs, lr
               settings of the task, see `memorycell.settings("sequences")`
    minutes    approximate training time; None: by epochs
    device     see `memorycell.train`
    random_state   the seed of the weights and batches
    verbose    progress on stderr
    settings   further settings by name

    Fitted: `model_`, `classes_` and `n_features_in_` (T for an array [N, T], else F).
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on sequences with classes y [N]. Raises `UserError`, a ValueError."""
        sequences = self._sequences(X, reset=True)
        labels = _targets(self, y)
        check_classification_targets(labels)
        check_consistent_length(sequences, labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: one class, {self.classes_[0]!r}; at least two classes are needed")
        names = [f"class {k}" for k in numbers]
        self._train(
            _table(sequences, {TARGET: names}), sequence=SEQUENCE, target=TARGET, kind="class"
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities [N, C] of the classes in the order of `classes_`."""
        found = self._answers(X)
        names = [f"p class {k}" for k in range(len(self.classes_))]
        zeros = np.zeros(found.height)  # a class without a training sequence has no probability
        columns = [found[n].to_numpy() if n in found.columns else zeros for n in names]
        p = np.stack(columns, 1)
        return np.asarray(p / p.sum(1, keepdims=True))  # rounded in the answers

    def predict(self, X: Any) -> np.ndarray:
        """The most likely classes [N]."""
        p = self.predict_proba(X)
        return np.asarray(self.classes_[p.argmax(1)])


class SequenceRegressor(RegressorMixin, SequenceEstimator):  # type: ignore[misc]
    """Predicts a number, or several, of a sequence.

    X and the parameters are those of `SequenceClassifier`. `model_` gives intervals.

    Fitted: `model_` and `n_features_in_` (T for an array [N, T], else F).
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on sequences with numbers y [N] or [N, K]. Raises `UserError`, a ValueError."""
        sequences = self._sequences(X, reset=True)
        numbers = _targets(self, y, multi_output=True).astype(np.float64)
        check_consistent_length(sequences, numbers)
        self._is_single = numbers.ndim == 1
        columns = numbers.reshape(len(numbers), -1).T
        self._target_names = [TARGET, *(f"{TARGET} {k}" for k in range(1, len(columns)))]
        table = _table(sequences, dict(zip(self._target_names, columns, strict=True)))
        self._train(table, sequence=SEQUENCE, target=",".join(self._target_names), kind="number")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The medians [N], or [N, K] where y had columns."""
        found = self._answers(X).select(self._target_names).to_numpy()
        return np.asarray(found[:, 0] if self._is_single else found)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _is_nested(X: Any) -> bool:
    """Whether X is not simply an array [N, T]: sequences of several features, or of any length."""
    if not isinstance(X, (list, tuple)):
        return X.ndim == 3 or (X.dtype == object and X.ndim == 1) if hasattr(X, "dtype") else False
    if not all(isinstance(one, (list, tuple, np.ndarray)) and len(one) for one in X):
        return False
    return len({len(one) for one in X}) > 1 or any(not np.isscalar(one[0]) for one in X)


def _table(
    sequences: Sequence[np.ndarray], targets: Mapping[str, Sequence[Any] | np.ndarray] | None = None
) -> pl.DataFrame:
    """A row per step, with the targets repeated."""
    import polars as pl

    lengths = [len(one) for one in sequences]
    steps = np.concatenate(sequences)
    columns: dict[str, Any] = {SEQUENCE: np.repeat(np.arange(len(sequences)), lengths)}
    columns |= {f"x{k}": column for k, column in enumerate(steps.T)}
    for name, own in (targets or {}).items():
        columns[name] = np.repeat(np.asarray(own), lengths)
    return pl.DataFrame(columns)


def _targets(estimator: SequenceEstimator, y: Any, *, multi_output: bool = False) -> np.ndarray:
    """[N], or with multi_output also [N, K] of finite numbers. Raises ValueError."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y"
            " is None"
        )
    if not multi_output:
        return np.asarray(column_or_1d(y, warn=True))
    values = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
    return np.asarray(column_or_1d(values, warn=True) if values.ndim < 2 else values)
