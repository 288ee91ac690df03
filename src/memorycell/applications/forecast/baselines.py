"""Simple methods a model must beat, all of one shape: fit on the training steps, predict quantiles
at every step.

A method's point forecast becomes a distribution by adding the quantiles of its own errors on the
training steps, lead time by lead time. Everything a method has learnt is in `arrays()`, so that a
model file can carry it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from memorycell.models.quantiles import quantile_levels
from memorycell.training import metrics

RIDGE_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
RIDGE_COLUMNS = 1500
"""The widest window ridge tries has at most this many columns."""


@dataclass
class History:
    """What is known at every step, and what came after it.

    level    [N, C] the targets' last known values
    inputs   [N, F] everything else a model sees at that step
    start    [N] int64, the step at which the step's segment begins: nothing before it is known
    future   [N, horizon, C] the targets' next values, NaN where unknown
    """

    level: np.ndarray
    inputs: np.ndarray
    start: np.ndarray
    future: np.ndarray


class Baseline(Protocol):
    """fit on `train`, choosing on `valid` (both [N] bool), then predict [N, horizon, C, K]."""

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """Learn from the training steps."""

    def predict(self, history: History, at: np.ndarray) -> np.ndarray:
        """The quantiles at the steps `at` [M]: [M, horizon, C, K]."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learnt."""


class Persistence:
    """Nothing changes: ŷ_{t+k} = y_t."""

    def __init__(self) -> None:
        self.spread = np.zeros(0)

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """[M, horizon, C]"""
        return np.repeat(history.level[at, None], history.future.shape[1], 1)

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """Learn the spread of the errors."""
        self.spread = error_quantiles(self, history, train, quantiles)

    def predict(self, history: History, at: np.ndarray) -> np.ndarray:
        """[M, horizon, C, K]"""
        return self.point(history, at)[..., None] + self.spread

    def arrays(self) -> dict[str, np.ndarray]:
        """Spread [horizon, C, K]"""
        return {"spread": self.spread}


class SeasonalNaive(Persistence):
    """As it was a season ago: ŷ_{t+k} = y_{t+k-m}, with m the season in steps; before that is
    known, y_t.
    """

    def __init__(self, season: int) -> None:
        super().__init__()
        self.season = season

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """[M, horizon, C]"""
        lead = np.arange(1, history.future.shape[1] + 1)
        source = at[:, None] + lead - self.season * -(-lead // self.season)
        source = np.where(source >= history.start[at, None], source, at[:, None])
        return np.asarray(history.level[source])


class Ridge(Persistence):
    """Linear regression from a window of past inputs to every lead time, with a penalty on the
    weights.

    ŷ_{t+k} - y_t = w_k · (inputs of the last W steps), Hoerl & Kennard (1970). The window and the
    penalty are chosen on the validation steps, by absolute error.
    """

    def __init__(self, windows: tuple[int, ...] = (), weights: np.ndarray | None = None) -> None:
        super().__init__()
        self.windows = windows
        self.weights = np.zeros((0, 0, 0)) if weights is None else weights  # [W·F + 1, horizon, C]

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """Learn weights for every window and penalty, and keep the best."""
        features = history.inputs.shape[1]
        best = np.inf
        chosen = self.weights
        usable = np.flatnonzero(train & ~np.isnan(history.future).any((1, 2)))
        held_out = np.flatnonzero(valid)
        gain = history.future - history.level[:, None]
        for width in self.windows:
            if width != min(self.windows) and width * features > RIDGE_COLUMNS:
                continue
            x = _windows(history, usable, width)
            y = gain[usable].reshape(len(usable), -1)
            gram, cross = x.T @ x, x.T @ y
            x_valid = _windows(history, held_out, width)
            for penalty in RIDGE_PENALTIES:
                diagonal = np.full(len(gram), penalty)
                diagonal[-1] = 1e-9  # the intercept goes free
                weights = np.linalg.solve(gram + np.diag(diagonal), cross)
                error = np.nanmean(
                    np.abs(gain[held_out].reshape(len(held_out), -1) - x_valid @ weights)
                )
                if error < best:
                    best = float(error)
                    chosen = weights.reshape(-1, *history.future.shape[1:])
        self.weights = chosen
        super().fit(history, train, valid, quantiles)

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """[M, horizon, C]"""
        flat = self.weights.reshape(len(self.weights), -1)
        width = (len(flat) - 1) // history.inputs.shape[1]
        gain = np.concatenate(
            [
                _windows(history, part, width) @ flat
                for part in np.array_split(at, len(at) // 8192 + 1)
            ]
        )
        return np.asarray(history.level[at, None] + gain.reshape(len(at), *self.weights.shape[1:]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights [W·F + 1, horizon, C], spread [horizon, C, K]"""
        return {"weights": self.weights, "spread": self.spread}


def forecast_baselines(horizon: int, season: int, context: int) -> dict[str, Persistence]:
    """The three that every forecaster is compared with; without a season, two."""
    windows = {max(horizon // 2, 1), horizon, 2 * horizon, 4 * horizon, season}
    methods: dict[str, Persistence] = {"persistence": Persistence()}
    if season > 1:
        methods["seasonal naive"] = SeasonalNaive(season)
    methods["ridge"] = Ridge(tuple(sorted(w for w in windows if w <= context)))
    return methods


class Constant(Persistence):
    """Returns are drawn from the same distribution every day: that of the training steps."""

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """[M, horizon, C]: nothing is known of the mean."""
        return np.zeros((len(at), *history.future.shape[1:]))


class RollingSpread(Constant):
    """Returns are σ_t times draws from one distribution, that of r/σ in training, with σ_t² the
    mean of the squares of the last `window` returns. The window is chosen on the validation steps,
    by CRPS.
    """

    choices: tuple[float, ...] = (10, 20, 40, 60, 120, 250)

    def __init__(self) -> None:
        super().__init__()
        self.chosen = float(self.choices[0])

    def sigma(self, history: History, choice: float) -> np.ndarray:
        """[N, C] of every step, from the returns up to it."""
        squares = history.level**2
        sums = np.concatenate([np.zeros((1, squares.shape[1])), squares.cumsum(0)])
        end = np.arange(1, len(squares) + 1)
        begin = np.maximum(history.start, end - int(choice))
        return np.sqrt(np.maximum((sums[end] - sums[begin]) / (end - begin)[:, None], 1e-4))

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """Learn the distribution of r/σ for every choice, and keep the best."""
        best, at, held_out = np.inf, np.flatnonzero(train), np.flatnonzero(valid)
        for choice in self.choices:
            self.chosen = float(choice)
            ratios = history.future[at] / self.sigma(history, choice)[at, None]
            self.spread = np.moveaxis(
                np.nanquantile(ratios, quantile_levels(quantiles), axis=0), 0, -1
            )
            score = metrics.crps(history.future[held_out], self.predict(history, held_out))
            if score < best:
                best, kept = score, (self.chosen, self.spread)
        self.chosen, self.spread = kept

    def predict(self, history: History, at: np.ndarray) -> np.ndarray:
        """[M, horizon, C, K]"""
        return np.asarray(self.sigma(history, self.chosen)[at, None, :, None] * self.spread)

    def arrays(self) -> dict[str, np.ndarray]:
        """Spread [horizon, C, K], chosen [1]"""
        return {"spread": self.spread, "chosen": np.array([self.chosen])}


class WeightedSpread(RollingSpread):
    """The same with weights that fall off exponentially: σ_t² = λ σ_{t-1}² + (1 - λ) r_t²
    (RiskMetrics, J.P. Morgan 1996).
    """

    choices = (0.8, 0.9, 0.94, 0.97, 0.985)

    def sigma(self, history: History, choice: float) -> np.ndarray:
        """See `RollingSpread`."""
        result = np.empty_like(history.level)
        now = np.ones(
            result.shape[1]
        )  # before anything is known, the deviation of the training part
        for step, r in enumerate(history.level):
            now = (np.ones_like(now) if history.start[step] == step else now) * choice + (
                1 - choice
            ) * r**2
            result[step] = now
        return np.sqrt(np.maximum(result, 1e-4))


def return_baselines() -> dict[str, Persistence]:
    """What a forecaster of returns is compared with."""
    return {
        "constant": Constant(),
        "rolling variance": RollingSpread(),
        "weighted variance": WeightedSpread(),
    }


def restored(
    arrays: Mapping[str, np.ndarray], season: int, *, returns: bool = False
) -> dict[str, Persistence]:
    """The baselines a model file carries, from arrays named "method.array"."""
    methods = return_baselines() if returns else forecast_baselines(1, season, 1)
    for name, method in methods.items():
        method.spread = arrays[f"{name}.spread"]
        if isinstance(method, RollingSpread):
            method.chosen = float(arrays[f"{name}.chosen"][0])
        if isinstance(method, Ridge):
            method.weights = arrays[f"{name}.weights"]
    return methods


def error_quantiles(
    method: Persistence, history: History, train: np.ndarray, quantiles: int
) -> np.ndarray:
    """[horizon, C, K]: the quantiles of a point forecast's errors over the training steps."""
    at = np.flatnonzero(train)
    errors = history.future[at] - method.point(history, at)
    return np.moveaxis(np.nanquantile(errors, quantile_levels(quantiles), axis=0), 0, -1)


def _windows(history: History, at: np.ndarray, width: int) -> np.ndarray:
    """[M, W·F + 1]: the inputs of the last `width` steps, newest first, zero before the segment,
    and a one.
    """
    index = at[:, None] - np.arange(width)
    known = index >= history.start[at, None]
    values = history.inputs[np.maximum(index, 0)] * known[..., None]
    return np.concatenate([values.reshape(len(at), -1), np.ones((len(at), 1))], 1)
