"""Baselines of forecasts: fitted on the training steps, they predict quantiles at every step.

A point forecast becomes a distribution by adding the quantiles of its own errors on the training
steps, per lead time. What a baseline has fitted is in `arrays()`, for the model file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from memorycell.applications.forecast.history import History, spaced
from memorycell.models.quantiles import quantile_levels
from memorycell.training import metrics

MAX_ERRORS = 50_000
"""Steps whose errors give the quantiles of a baseline; of more, evenly spaced ones."""
MIN_VARIANCE = 1e-4
"""Lower bound of a return's variance, in scaled units."""


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
        at = spaced(np.flatnonzero(train), MAX_ERRORS)
        self.spread = _quantiles_of(history.future[at] - self.point(history, at), quantiles)

    def predict(self, history: History, at: np.ndarray) -> np.ndarray:
        """The quantiles at the steps `at` [M]: [M, horizon, C, K]."""
        return self.point(history, at)[..., None] + self.spread

    def arrays(self) -> dict[str, np.ndarray]:
        """What was fitted."""
        return {"spread": self.spread}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set what was fitted. Raises KeyError or ValueError."""
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} of a baseline is not finite")
        if arrays["spread"].ndim != 3:
            raise ValueError("the errors of a baseline have a wrong shape")
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
        at = spaced(np.flatnonzero(train), MAX_ERRORS)
        held_out = spaced(np.flatnonzero(valid), MAX_ERRORS)
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


def seasonal_error(values: np.ndarray, start: np.ndarray, train: np.ndarray, season: int) -> float:
    """Mean |y_t - y_{t-m}| over the steps `train` [N] bool; 1 where it is unknown or 0.

    values [N, C]; start [N], the first step of each step's segment
    """
    same = (start[season:] == start[:-season]) & train[season:]
    error = np.abs(values[season:] - values[:-season])[same]
    mean = float(np.nanmean(error)) if (~np.isnan(error)).any() else 0.0
    return mean if mean > 0 else 1.0


def _quantiles_of(values: np.ndarray, count: int) -> np.ndarray:
    """[horizon, C, K] of values [M, horizon, C], NaN excluded; where a lead time has none, those of
    the nearest one before it (or after it), or zeros.
    """
    found = np.zeros((*values.shape[1:], count))
    for k in range(values.shape[2]):
        known = ~np.isnan(values[:, :, k])
        leads = np.flatnonzero(known.any(0))
        for lead in leads:
            own = values[known[:, lead], lead, k]
            found[lead, k] = np.quantile(own, quantile_levels(count))
        for lead in np.setdiff1d(np.arange(values.shape[1]), leads):
            if len(leads):
                found[lead, k] = found[leads[max(np.searchsorted(leads, lead) - 1, 0)], k]
    return found
