"""Linear models on features of sequences, and on windows of inputs at every step."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from memorycell.applications.sequences.baselines_inputs import EncodedSteps
from memorycell.applications.sequences.sequence_set import Target
from memorycell.models.quantiles import quantile_levels

QUANTILES = 15
"""Of the forecasts of numbers; see `models.quantiles.quantile_levels`."""
ALPHAS = np.logspace(-3, 4, 15)
"""Ridge penalties."""
MIN_ROWS = 3
MIN_POWER_SHARE = 1e-12
"""Of the largest eigenvalue; directions with less are left out."""
WINDOW_STEPS = 60
"""Inputs that a step sees: its own and those before it."""
MAX_WINDOW_VALUES = 1500
MAX_WINDOW_ROWS = 50_000
"""Steps on which a model of windows is fitted, evenly spaced."""


class Ridge:
    """Ridge regression of numbers [n, K] on features [n, P], standardised (Hoerl & Kennard 1970),
    with the penalty of the least leave-one-out error.

    The spread of its errors is that leave-one-out error.
    """

    def fit(self, features: np.ndarray, values: np.ndarray) -> Ridge:
        """Fit to features [n, P] and values [n, K]."""
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler().fit(features)
        x = self._scaler.transform(features).astype(np.float64)
        self._mean = values.mean(0)
        centred = values - self._mean
        if len(x) < MIN_ROWS:
            self._weights = np.zeros((x.shape[1], values.shape[1]))
            self._errors = centred
            return self
        # x xᵀ or xᵀ x, whichever is smaller: u holds orthonormal columns of the fitted values.
        wide = x.shape[1] >= len(x)
        power, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
        kept = power > power[-1] * MIN_POWER_SHARE
        power, vectors = power[kept], vectors[:, kept]
        u = vectors if wide else (x @ vectors) / np.sqrt(power)
        along, squares = u.T @ centred, u**2
        least = np.inf
        for alpha in ALPHAS:
            share = power / (power + alpha)
            leverage = np.minimum(squares @ share + 1 / len(x), 1 - 1e-6)
            errors = (centred - u @ (share[:, None] * along)) / (1 - leverage)[:, None]
            loss = float((errors**2).mean())
            if loss < least:
                least, self._errors = loss, errors
                inner = (np.sqrt(power) / (power + alpha))[:, None] * along
                v = (x.T @ vectors) / np.sqrt(power) if wide else vectors
                self._weights = v @ inner
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """[n, K]"""
        x = self._scaler.transform(features)
        return np.asarray(x @ self._weights + self._mean, np.float64)

    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """(weights [P, K], intercepts [K]) of features that are not standardised."""
        scale, mean = self._scaler.scale_, self._scaler.mean_
        weights = self._weights / scale[:, None]
        return weights, self._mean - mean @ weights

    def quantiles(self, features: np.ndarray) -> np.ndarray:
        """[n, K, QUANTILES]: the prediction and the quantiles of the errors."""
        return with_errors(self.predict(features), self._errors)


def with_errors(points: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Quantiles [n, K, QUANTILES] of points [n, K] with the errors [m, K], less their mean."""
    centred = errors - errors.mean(0)
    spread = np.quantile(centred, quantile_levels(QUANTILES), axis=0)  # [Q, K]
    return np.asarray(points[:, :, None] + spread.T[None])


Logistic: TypeAlias = tuple[np.ndarray, Any]
"""(outcomes that occur, a `LogisticRegression`, or None where it is one outcome)."""


class FeatureModel:
    """A linear model of a target of sequences on their features [N, P]: logistic or ridge.

    logistic   classes and labels by logistic regression, with probabilities; otherwise by the
               largest of the scores of ridge regression
    """

    def __init__(self, *, logistic: bool) -> None:
        self.logistic = logistic

    def fit(self, features: np.ndarray, target: Target) -> FeatureModel:
        """Fit to features [N, P]."""
        from sklearn.preprocessing import StandardScaler

        self._target = target
        values = target.array
        if target.kind == "number":
            self._ridge = Ridge().fit(features, values)
        elif not self.logistic:
            outcomes = np.eye(len(target.names))[values] if target.is_class else values
            self._ridge = Ridge().fit(features, 2.0 * outcomes - 1)
        else:
            columns = values[:, None] if target.is_class else values > 0.5
            self._scaler = StandardScaler().fit(features)
            x = self._scaler.transform(features)
            self._models = [_logistic(x, column) for column in columns.T]
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """As `metrics.Prediction` of the target's kind."""
        target = self._target
        if target.kind == "number":
            return self._ridge.quantiles(features)
        if not self.logistic:
            scores = self._ridge.predict(features)
            if target.kind == "labels":
                return np.asarray(1 / (1 + np.exp(-np.clip(scores * 4, -30, 30))))
            return _softmax(scores)
        x = self._scaler.transform(features)
        if target.kind == "labels":
            return np.stack([_probability(model, x) for model in self._models], 1)
        probability = np.zeros((len(x), len(target.names)))
        known, given = self._models[0]
        probability[:, known] = given.predict_proba(x) if given is not None else 1.0
        return probability


def _logistic(x: np.ndarray, outcomes: np.ndarray) -> Logistic:
    """Fit to features [n, P] and outcomes [n]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.unique(outcomes)
    if len(known) == 1:
        return known.astype(np.int64), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return known.astype(np.int64), LogisticRegression(max_iter=500).fit(x, outcomes)


def _probability(model: Logistic, x: np.ndarray) -> np.ndarray:
    """Of outcome 1, [n]."""
    known, given = model
    if given is None:
        return np.full(len(x), float(known[0]))
    return np.asarray(given.predict_proba(x)[:, 1])


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


@dataclass
class WindowModel:
    """Ridge regression of a target at every step on the inputs of the last `window` steps, and on
    the static values; no earlier target is an input. Steps before the first are zero (the mean).

    At up to `MAX_WINDOW_VALUES` values fewer steps.
    """

    window: int = WINDOW_STEPS

    def fit(self, data: EncodedSteps, target: Target, known: np.ndarray) -> WindowModel:
        """known: the steps [R] int64 to fit on, numbers of rows of `data.flat`."""
        self._target = target
        width = max(data.flat.shape[1], 1)
        self.window = max(1, min(self.window, int(data.lengths.max()), MAX_WINDOW_VALUES // width))
        if len(known) > MAX_WINDOW_ROWS:
            known = known[np.linspace(0, len(known) - 1, MAX_WINDOW_ROWS).astype(np.int64)]
        values = target.array[known]
        if target.is_class:
            values = 2.0 * np.eye(len(target.names))[values] - 1
        features = window_features(data, known, self.window)
        self._ridge = Ridge().fit(features, values)
        return self

    def predict(self, data: EncodedSteps) -> list[np.ndarray]:
        """As `metrics.Prediction` of the target's kind."""
        found = []
        for begin in range(0, len(data.flat), MAX_WINDOW_ROWS):
            rows = np.arange(begin, min(begin + MAX_WINDOW_ROWS, len(data.flat)))
            features = window_features(data, rows, self.window)
            if self._target.is_class:
                found.append(_softmax(self._ridge.predict(features)))
            else:
                found.append(self._ridge.quantiles(features))
        flat = np.concatenate(found)
        return [flat[a:b] for a, b in pairwise(data.starts.tolist())]


def window_features(data: EncodedSteps, rows: np.ndarray, window: int) -> np.ndarray:
    """float32 [n, window · E + S]: the inputs of the last `window` steps of rows [n], those before
    the sequence zero, and the static values.
    """
    sequence = np.searchsorted(data.starts, rows, side="right") - 1
    at = rows[:, None] - np.arange(window)
    inside = at >= data.starts[sequence][:, None]
    steps = np.where(inside[:, :, None], data.flat[np.maximum(at, 0)], np.float32(0))
    return np.concatenate([steps.reshape(len(rows), -1), data.static[sequence]], 1)
