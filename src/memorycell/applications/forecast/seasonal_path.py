"""linear=season: a linear path whose weights are shared by the phases of a season.

The step of a season that a forecast is for, its phase, is predicted from the earlier steps of that
phase alone, with the same weights for all phases, leads of the same season and targets (Lin et al.
2024, SparseTSF, arXiv:2405.00946): with W steps and a horizon of H, W/S · H/S weights instead of
W · H, which is what few years of data can tell apart. With the window x, its mean m, and A the
moving average over a season,

    z = (I + A) (x - m),    ŷ[S i + p] = m + Σ_j V[i, j] z[S j + p] + b[i].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.forecast.ridge import best_penalty
from memorycell.applications.forecast.windows import last_steps

if TYPE_CHECKING:
    from memorycell.applications.forecast.dataset import ForecastDataset
    from memorycell.applications.forecast.model import ForecasterConfig

CHUNK_STEPS = 2048
"""Steps whose windows are in memory at once."""


class SeasonalPath:
    """The regression of a linear path that reads `config.window` steps.

    season   S, steps; the newest full seasons of the window are read
    """

    def __init__(self, dataset: ForecastDataset, config: ForecasterConfig, season: int) -> None:
        self._history, self._config, self._season = dataset.history, config, season
        self._read = config.window // season * season
        self._features = _features(self._read, season)
        self._ahead, self._phase = np.divmod(dataset.history.future.leads - 1, season)

    def fit(
        self, train: np.ndarray, valid: np.ndarray, tolerance: float
    ) -> tuple[np.ndarray, float] | None:
        """(weights [W · L + 1, horizon · targets] of the window as it is, the mean absolute error
        on validation) from the steps to train and validate on; None where a season ahead is not
        known in training.
        """
        seasons = np.unique(self._ahead)
        size = self._read // self._season + 1
        gram, cross = np.zeros((len(seasons), size, size)), np.zeros((len(seasons), size, 1))
        for begin in range(0, len(train), CHUNK_STEPS):
            z, change = self._rows(train[begin : begin + CHUNK_STEPS])
            for k, ahead in enumerate(seasons):
                x, y = _known(z, change[..., ahead])
                gram[k] += x.T @ x
                cross[k] += x.T @ y
        if not gram[:, -1, -1].all():
            return None
        z, change = self._rows(valid)
        shared, errors, counts = np.zeros((size, self._ahead.max() + 1)), [], []
        for k, ahead in enumerate(seasons):
            x, y = _known(z, change[..., ahead])
            weights, error = best_penalty(gram[k], cross[k], x, y, np.ones_like(y), tolerance)
            shared[:, ahead] = weights[:, 0]
            errors.append(error)
            counts.append(len(y))
        return self._of_values(shared), float(np.average(errors, weights=counts))

    def _rows(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(z and a one [M, targets, S, W/S + 1], the changes from the mean [M, targets, S, H/S] in
        scaled units, NaN where unknown) of the steps `at` [M].
        """
        history, targets = self._history, self._config.targets
        steps = last_steps(history.inputs, history.start, at, self._read)
        window = np.moveaxis(steps[..., :targets].astype(float), -1, 1)
        z = np.ones((len(at), targets, self._season, self._read // self._season + 1))
        z[..., :-1] = np.moveaxis(
            (window @ self._features.T).reshape(len(at), targets, -1, self._season), -1, -2
        )
        change = np.full((len(at), targets, self._season, self._ahead.max() + 1), np.nan)
        future = np.moveaxis(history.future[at], -1, 1)
        change[..., self._phase, self._ahead] = future - window.mean(-1, keepdims=True)
        return z, change

    def _of_values(self, shared: np.ndarray) -> np.ndarray:
        """The weights of a window, for changes from the last value, of V and b [W/S + 1, H/S]."""
        config, read = self._config, self._read
        width = config.linear or config.input_size
        weights = np.zeros((config.window, width, config.horizon, config.targets))
        for lead, (ahead, phase) in enumerate(zip(self._ahead, self._phase, strict=True)):
            own = shared[:-1, ahead] @ self._features[phase :: self._season] + 1 / read
            own[-1] -= 1  # of the change from the last value
            for target in range(config.targets):
                weights[-read:, target, lead, target] = own
        bias = np.repeat(shared[-1, self._ahead], config.targets)[None]
        return np.concatenate([weights.reshape(-1, bias.size), bias])


def _known(z: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [K, W/S + 1] and changes [K, 1] where these are known."""
    known = ~np.isnan(change)
    return z[known], change[known][:, None]


def _features(size: int, season: int) -> np.ndarray:
    """(I + A) (I - 1 1ᵀ / size) [size, size]; A averages over a season around each step, with zeros
    outside of the window.
    """
    apart = np.abs(np.arange(size)[:, None] - np.arange(size))
    half = season // 2
    average = (apart <= half) / (2 * half + 1)
    return np.asarray((np.eye(size) + average) @ (np.eye(size) - 1 / size))
