"""The linear path of a new forecaster as a ridge regression on the training split.

It stays so in training, which begins at the skill of ridge with the same window: the recurrent part
learns the rest. Starting at persistence, a short training does not reach it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from memorycell.applications.forecast.history import spaced
from memorycell.applications.forecast.ridge import best_penalty
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
MIN_KNOWN_SHARE = 0.5
"""Share of the steps whose future is known; otherwise training begins at persistence."""


class LinearStart(NamedTuple):
    """Weight [horizon · targets, W · L] and bias [horizon · targets] of the linear path, and the
    mean absolute error on validation in scaled units.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    error: float


def fit_linear_path(dataset: ForecastDataset, config: ForecasterConfig) -> LinearStart | None:
    """The linear path that predicts the changes in the unit of the head; None unless linear=ridge,
    and where a regression does not fit the head or the data.
    """
    if dataset.settings.linear != "ridge":
        return None
    columns = config.window * (config.linear or config.input_size)
    if config.head == "counts" or config.normal == "spread" or columns >= MAX_COLUMNS:
        return None
    train = spaced(dataset.origins("train"), dataset.linear_rows)
    valid = spaced(dataset.origins("valid"), MAX_HELD_OUT)
    x, y, _ = _regression(dataset, config, train)
    known = ~np.isnan(y).any(1)
    if not len(train) or not len(valid) or known.mean() < MIN_KNOWN_SHARE:
        return None
    if not known.all():
        x, y = x[known], y[known]
    weights, error = best_penalty(x, y, *_regression(dataset, config, valid))
    weight, bias = (
        torch.tensor(part, dtype=torch.float32) for part in (weights[:-1].T, weights[-1])
    )
    return LinearStart(weight, bias, error)


def set_linear_path(model: Forecaster, start: LinearStart | None) -> None:
    """Set the initial linear path of a new model."""
    if start is not None:
        with torch.no_grad():
            for network in model.networks:
                network.head.linear.weight.copy_(start.weight)
                network.head.linear.bias.copy_(start.bias)


def _regression(
    dataset: ForecastDataset, config: ForecasterConfig, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(windows [M, W · L + 1], changes [M, horizon · targets] in units, units [M, horizon ·
    targets]) of the steps `at` [M].
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
    )
    unit = np.ones_like(inputs.level) if inputs.unit is None else inputs.unit
    future = dataset.history.future[at][:, : config.horizon]
    change = (future - inputs.level[:, None]) / unit[:, None]
    units = np.broadcast_to(unit[:, None], change.shape)
    flat = inputs.window.reshape(len(at), -1)
    return (
        np.concatenate([flat, np.ones((len(at), 1))], 1),
        change.reshape(len(at), -1),
        units.reshape(len(at), -1),
    )
