"""Baselines of forecasts: fitted on the training steps, they predict quantiles at every step.

A point forecast becomes a distribution by adding the quantiles of its own errors on the training
steps, per lead time. What a baseline has fitted is in `arrays()`, for the model file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memorycell.models.quantiles import quantile_levels
from memorycell.training import metrics

RIDGE_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
MAX_RIDGE_COLUMNS = 1500
"""Columns of the widest window that ridge tries."""
MIN_VARIANCE = 1e-4
"""Lower bound of a return's variance, in scaled units."""


@dataclass
class History:
    """What is known at every step, and what follows.

    level    [N, C] the last known values of the targets
    inputs   [N, F] the inputs of the step
    start    [N] int64, the first step of the step's segment: earlier steps are unknown
    future   [N, horizon, C] the next values of the targets, NaN where unknown
    """

    level: np.ndarray
    inputs: np.ndarray
    start: np.ndarray
    future: np.ndarray


class Baseline(ABC):
    """A point forecast with the quantiles of its errors."""

    def __init__(self) -> None:
        self.spread = np.zeros(0)
        """[horizon, C, K] added to the point forecast"""

    @abstractmethod
    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """The point forecasts at the steps `at` [M]: [M, horizon, C]."""

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """Fit on the steps `train`, choose on `valid`, both [N] bool."""
        at = np.flatnonzero(train)
        self.spread = _quantiles_of(history.future[at] - self.point(history, at), quantiles)

    def predict(self, history: History, at: np.ndarray) -> np.ndarray:
        """The quantiles at the steps `at` [M]: [M, horizon, C, K]."""
        return self.point(history, at)[..., None] + self.spread

    def arrays(self) -> dict[str, np.ndarray]:
        """What was fitted."""
        return {"spread": self.spread}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set what was fitted. Raises KeyError."""
        self.spread = arrays["spread"]


class Persistence(Baseline):
    """No change: ŷ_{t+k} = y_t."""

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """See `Baseline`."""
        return np.repeat(history.level[at, None], history.future.shape[1], 1)


class SeasonalNaive(Baseline):
    """The value one season ago: ŷ_{t+k} = y_{t+k-m}, with m steps per season; y_t if unknown."""

    def __init__(self, season: int) -> None:
        super().__init__()
        self.season = season

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """See `Baseline`."""
        lead = np.arange(1, history.future.shape[1] + 1)
        source = at[:, None] + lead - self.season * -(-lead // self.season)
        source = np.where(source >= history.start[at, None], source, at[:, None])
        return np.asarray(history.level[source])


class Ridge(Baseline):
    """Linear regression from a window of inputs to every lead time, with an L2 penalty (Hoerl &
    Kennard 1970).

    ŷ_{t+k} - y_t = w_k · (inputs of the last W steps). Window and penalty minimise the absolute
    error on the validation steps.
    """

    def __init__(self, windows: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.windows = windows
        self.weights = np.zeros((0, 0, 0))
        """[W·F + 1, horizon, C]"""

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """See `Baseline`."""
        features = history.inputs.shape[1]
        best_error, best_weights = np.inf, self.weights
        usable = np.flatnonzero(train & ~np.isnan(history.future).any((1, 2)))
        held_out = np.flatnonzero(valid)
        gain = history.future - history.level[:, None]
        for width in self.windows:
            if width != min(self.windows) and width * features > MAX_RIDGE_COLUMNS:
                continue
            x = _windows(history, usable, width)
            y = gain[usable].reshape(len(usable), -1)
            gram, cross = x.T @ x, x.T @ y
            x_valid = _windows(history, held_out, width)
            y_valid = gain[held_out].reshape(len(held_out), -1)
            for penalty in RIDGE_PENALTIES:
                diagonal = np.full(len(gram), penalty)
                diagonal[-1] = 1e-9  # no penalty on the intercept
                weights = np.linalg.solve(gram + np.diag(diagonal), cross)
                error = float(np.nanmean(np.abs(y_valid - x_valid @ weights)))
                if error < best_error:
                    best_error = error
                    best_weights = weights.reshape(-1, *history.future.shape[1:])
        self.weights = best_weights
        super().fit(history, train, valid, quantiles)

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """See `Baseline`."""
        flat = self.weights.reshape(len(self.weights), -1)
        width = (len(flat) - 1) // history.inputs.shape[1]
        parts = np.array_split(at, len(at) // 8192 + 1)
        gain = np.concatenate([_windows(history, part, width) @ flat for part in parts])
        return np.asarray(history.level[at, None] + gain.reshape(len(at), *self.weights.shape[1:]))

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Baseline`."""
        return {"weights": self.weights, **super().arrays()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """See `Baseline`."""
        super().load(arrays)
        self.weights = arrays["weights"]


class Constant(Baseline):
    """Returns have the distribution of the training steps."""

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """See `Baseline`."""
        return np.zeros((len(at), *history.future.shape[1:]))


class RollingVariance(Constant):
    """Returns are σ_t times a variable with the distribution of r/σ in training; σ_t² is the mean
    square of the last `window` returns. The window minimises the CRPS on the validation steps.
    """

    choices: tuple[float, ...] = (10, 20, 40, 60, 120, 250)

    def __init__(self) -> None:
        super().__init__()
        self.chosen = float(self.choices[0])

    def sigma(self, history: History, choice: float) -> np.ndarray:
        """σ [N, C] of every step, from the returns up to it."""
        squares = history.level**2
        sums = np.concatenate([np.zeros((1, squares.shape[1])), squares.cumsum(0)])
        end = np.arange(1, len(squares) + 1)
        begin = np.maximum(history.start, end - int(choice))
        variance = (sums[end] - sums[begin]) / (end - begin)[:, None]
        return np.sqrt(np.maximum(variance, MIN_VARIANCE))

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """See `Baseline`."""
        at, held_out = np.flatnonzero(train), np.flatnonzero(valid)
        best_score, best = np.inf, (self.chosen, self.spread)
        for choice in self.choices:
            self.chosen = float(choice)
            ratios = history.future[at] / self.sigma(history, choice)[at, None]
            self.spread = _quantiles_of(ratios, quantiles)
            score = metrics.crps(history.future[held_out], self.predict(history, held_out))
            if score < best_score:
                best_score, best = score, (self.chosen, self.spread)
        self.chosen, self.spread = best

    def predict(self, history: History, at: np.ndarray) -> np.ndarray:
        """See `Baseline`."""
        return np.asarray(self.sigma(history, self.chosen)[at, None, :, None] * self.spread)

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Baseline`."""
        return {**super().arrays(), "chosen": np.array([self.chosen])}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """See `Baseline`."""
        super().load(arrays)
        self.chosen = float(arrays["chosen"][0])


class WeightedVariance(RollingVariance):
    """As `RollingVariance` with exponential weights: σ_t² = λ σ_{t-1}² + (1 - λ) r_t² (RiskMetrics,
    J.P. Morgan 1996).
    """

    choices = (0.8, 0.9, 0.94, 0.97, 0.985)

    def sigma(self, history: History, choice: float) -> np.ndarray:
        """See `RollingVariance`."""
        result = np.empty_like(history.level)
        variance = np.ones(result.shape[1])  # a segment starts from that of the training steps
        for step, r in enumerate(history.level):
            if history.start[step] == step:
                variance = np.ones_like(variance)
            variance = variance * choice + (1 - choice) * r**2
            result[step] = variance
        return np.sqrt(np.maximum(result, MIN_VARIANCE))


def forecast_baselines(horizon: int, season: int, context: int) -> dict[str, Baseline]:
    """The baselines of a series of values; the seasonal one only if there is a season."""
    windows = {max(horizon // 2, 1), horizon, 2 * horizon, 4 * horizon, season}
    baselines: dict[str, Baseline] = {"persistence": Persistence()}
    if season > 1:
        baselines["seasonal naive"] = SeasonalNaive(season)
    baselines["ridge"] = Ridge(tuple(sorted(w for w in windows if w <= context)))
    return baselines


def return_baselines() -> dict[str, Baseline]:
    """The baselines of a series of returns."""
    return {
        "constant": Constant(),
        "rolling variance": RollingVariance(),
        "weighted variance": WeightedVariance(),
    }


def load_baselines(
    arrays: Mapping[str, np.ndarray], season: int, *, returns: bool = False
) -> dict[str, Baseline]:
    """The baselines in a model file, from arrays named "baseline.array". Raises KeyError."""
    baselines = return_baselines() if returns else forecast_baselines(1, season, 1)
    for name, baseline in baselines.items():
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        baseline.load(own)
    return baselines


def _quantiles_of(values: np.ndarray, count: int) -> np.ndarray:
    """[horizon, C, K] of values [M, horizon, C], NaN excluded."""
    return np.moveaxis(np.nanquantile(values, quantile_levels(count), axis=0), 0, -1)


def _windows(history: History, at: np.ndarray, width: int) -> np.ndarray:
    """[M, W·F + 1]: the inputs of the last `width` steps, newest first, zero before the segment,
    and a one.
    """
    index = at[:, None] - np.arange(width)
    known = index >= history.start[at, None]
    values = history.inputs[np.maximum(index, 0)] * known[..., None]
    return np.concatenate([values.reshape(len(at), -1), np.ones((len(at), 1))], 1)
