"""The linear path of a new forecaster as a ridge regression on the training split.

It stays so in training, which begins at the skill of ridge with the same window: the recurrent part
learns the rest. Starting at persistence, a short training does not reach it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from memorycell.applications.forecast.history import spaced
from memorycell.applications.forecast.ridge import best_penalty
from memorycell.applications.forecast.seasonal_path import SeasonalPath
from memorycell.applications.forecast.windows import StepInputs, last_steps, step_inputs

if TYPE_CHECKING:
    from memorycell.applications.forecast.dataset import ForecastDataset
    from memorycell.applications.forecast.model import Forecaster, ForecasterConfig

PARAMETERS = ("head.linear.",)
"""Names of the parameters of the linear path."""
MAX_COLUMNS = 1500
"""Inputs of the widest linear path that is fitted."""
MAX_ROWS, MAX_HELD_OUT = 8192, 2048
"""Training and validation steps of the regression, evenly spaced."""
LONG_WINDOW, LONG_WINDOW_ROWS = 96, 65_536
"""A longer window than the first needs more training steps, at most the second."""
RAW_TOLERANCE = 0.005
"""Of a path that reads raw windows, the strongest penalty whose error on validation is higher than
the lowest by at most this share (as the rule of one standard error, Breiman et al. 1984): the
level of the validation split, which such a path knows, is not that of later data.
"""
MIN_KNOWN_SHARE = 0.5
"""Share of the steps whose future is known; otherwise training begins at persistence."""


class LinearStart(NamedTuple):
    """Weight [horizon · targets, W · L] and bias [horizon · targets] of the linear path, and the
    mean absolute error on validation in scaled units.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    error: float


class Path(NamedTuple):
    """Weights [W · L + 1, horizon · targets] of a window and a one, and the mean absolute error on
    validation in scaled units.
    """

    weights: np.ndarray
    error: float


def fit_linear_path(dataset: ForecastDataset, config: ForecasterConfig) -> LinearStart | None:
    """The linear path that predicts the changes in the unit of the head; None with linear=trained,
    and where a regression does not fit the head or the data.
    """
    fit = FITS.get(dataset.settings.linear or "trained")
    if fit is None:
        return None
    columns = config.window * (config.linear or config.input_size)
    if config.head == "counts" or config.normal == "spread" or columns >= MAX_COLUMNS:
        return None
    valid = spaced(dataset.origins("valid"), MAX_HELD_OUT)
    if not len(valid):
        return None
    found = fit(dataset, config, valid)
    if found is None:
        return None
    weight, bias = (
        torch.tensor(part, dtype=torch.float32)
        for part in (found.weights[:-1].T, found.weights[-1])
    )
    return LinearStart(weight, bias, found.error)


def _raw_and_season(
    dataset: ForecastDataset, config: ForecasterConfig, valid: np.ndarray
) -> Path | None:
    """The mean of the raw and the seasonal path, which err differently (Bates & Granger 1969, The
    combination of forecasts); the raw one reads half of the window where it is better so. The
    error is the mean of theirs, which that of the mean does not exceed.
    """
    raw = [_ridge(dataset, config, valid)]
    if config.window > 1:
        raw.append(_ridge(dataset, replace(config, window=config.window // 2), valid))
    found = [path for path in raw if path is not None]
    season = _season(dataset, config, valid)
    if not found or season is None:
        return season or (found[0] if found else None)
    best = min(found, key=lambda path: path.error)
    weights = season.weights.copy()
    weights[-len(best.weights) :] += best.weights
    return Path(weights / 2, (best.error + season.error) / 2)


def _season(dataset: ForecastDataset, config: ForecasterConfig, valid: np.ndarray) -> Path | None:
    """`SeasonalPath`, from the training steps whose window is full, where there are any."""
    season = dataset.settings.season or 1
    if config.window < season:
        return None
    train = dataset.origins("train")
    full = train[train - dataset.series.start[train] >= config.window - 1]
    train = spaced(full if len(full) else train, LONG_WINDOW_ROWS)
    found = SeasonalPath(dataset, config, season).fit(train, valid, RAW_TOLERANCE)
    return None if found is None else Path(*found)


def _ridge(dataset: ForecastDataset, config: ForecasterConfig, valid: np.ndarray) -> Path | None:
    """A regression from every step of the window to every lead time."""
    products = _products(dataset, config)
    if products is None:
        return None
    tolerance = RAW_TOLERANCE if config.raw_linear else 0.0
    weights, error = best_penalty(*products, *_regression(dataset, config, valid), tolerance)
    return Path(_of_values(weights, config) if config.raw_linear else weights, error)


FITS = {"ridge": _ridge, "raw": _ridge, "season": _season, "raw+season": _raw_and_season}


def _products(
    dataset: ForecastDataset, config: ForecasterConfig
) -> tuple[np.ndarray, np.ndarray] | None:
    """(XᵀX, XᵀY) of the training steps; None where too few of their futures are known."""
    rows = dataset.linear_rows
    if config.window > LONG_WINDOW and rows == MAX_ROWS:
        rows = LONG_WINDOW_ROWS
    train = spaced(dataset.origins("train"), rows)
    gram: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0
    count = 0
    for begin in range(0, len(train), MAX_ROWS):
        x, y, _ = _regression(dataset, config, train[begin : begin + MAX_ROWS])
        known = ~np.isnan(y).any(1)
        if not known.all():
            x, y = x[known], y[known]
        gram, cross, count = gram + x.T @ x, cross + x.T @ y, count + len(x)
    if not count or count < MIN_KNOWN_SHARE * len(train):
        return None
    return np.asarray(gram), np.asarray(cross)


def set_linear_path(model: Forecaster, start: LinearStart | None) -> None:
    """Set the initial linear path of a new model."""
    if start is not None:
        with torch.no_grad():
            for network in model.networks:
                network.head.linear.weight.copy_(start.weight)
                network.head.linear.bias.copy_(start.bias)


def shrink_correction(dataset: ForecastDataset, model: Forecaster) -> list[str]:
    """Keep the share `correction` of what the recurrent part adds to the median (the location of a
    distribution); notes.
    """
    share = dataset.settings.correction
    if share == 1:
        return []
    if dataset.linear_error() is None:
        return [f"correction={share:g} has no effect: the linear path is not a fitted one"]
    with torch.no_grad():
        for network in model.networks:
            head = network.head
            for parameter in (head.recurrent.weight, head.recurrent.bias):
                parameter[head.location_index :: head.params_per_value] *= share
    return [f"of what the recurrent part adds to the median {share:.0%} is kept"]


def _regression(
    dataset: ForecastDataset, config: ForecasterConfig, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(windows [M, W · L + 1], changes [M, horizon · targets] in units, units [M, horizon ·
    targets]) of the steps `at` [M].

    Where the path reads raw windows, they are the differences of the values from the last one, and
    the last one, so that the penalty favours no level; both sides are divided by the mean unit, so
    that restless windows do not decide alone. See `_of_values` for the path of the values.
    """
    windows = last_steps(dataset.inputs, dataset.series.start, at, config.window)
    inputs: StepInputs[np.ndarray] = step_inputs(
        windows.astype(np.float64),
        dataset.inputs[at].astype(np.float64),
        targets=config.targets,
        linear=config.linear,
        normal=config.normal,
        seen=config.seen,
        decay=None,
        raw_linear=config.raw_linear,
    )
    unit = np.ones_like(inputs.level) if inputs.unit is None else inputs.unit
    window = inputs.window
    if config.raw_linear:
        unit = np.repeat(unit.mean(-1, keepdims=True), config.targets, -1)
        window = window.copy()
        window[:, :-1, : config.targets] -= inputs.level[:, None]
    flat = np.concatenate([window.reshape(len(at), -1), np.ones((len(at), 1))], 1)
    if config.raw_linear:
        flat /= unit[:, :1]
    future = dataset.history.future[at][:, : config.horizon]
    change = (future - inputs.level[:, None]) / unit[:, None]
    units = np.broadcast_to(unit[:, None], change.shape)
    return flat, change.reshape(len(at), -1), units.reshape(len(at), -1)


def _of_values(weights: np.ndarray, config: ForecasterConfig) -> np.ndarray:
    """The weights [W · L + 1, K] of raw windows from those of their differences; see
    `_regression`.
    """
    weights, targets = weights.copy(), config.targets
    steps = weights[:-1].reshape(config.window, -1, weights.shape[1])
    steps[-1, :targets] -= steps[:-1, :targets].sum(0)
    return weights
