"""The window of the last steps at each step, and its normalisation.

Serves PyTorch in training and numpy per step: `A` is a tensor or an array.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from memorycell.applications.forecast.arrays import A, concatenate, mask_like

MIN_WINDOW_STD = 0.05
"""Lower bound of the standard deviation of a window, in those of the training steps."""
RETURN_DECAY = 0.94
"""Weight of a return in the size of its window, relative to the next one (RiskMetrics, J.P. Morgan
1996).
"""


class StepInputs(NamedTuple, Generic[A]):
    """What a forecaster reads at a step.

    window      [..., W, L] for the linear path
    recurrent   [..., F] for the recurrent part
    level       [..., targets] where forecasts start, and their unit
    unit
    """

    window: A
    recurrent: A
    level: A
    unit: A | None


def last_steps(values: np.ndarray, start: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """[M, width, F]: the values [N, F] of the last steps at each of the steps `at` [M], itself
    included; zero before its segment. start [N], the first step of each step's segment
    """
    size, features = values.shape
    first = at - (width - 1)
    if values.flags.c_contiguous and size >= width:  # copies a run of memory per step
        runs = sliding_window_view(values.reshape(-1), width * features)
        steps = runs[np.maximum(first, 0) * features].reshape(len(at), width, features)
        early = np.flatnonzero(first < start[at])
    else:
        steps = np.empty((len(at), width, features), values.dtype)
        early = np.arange(len(at))
    index = at[early, None] + np.arange(1 - width, 1)
    known = index >= start[at[early], None]
    steps[early] = values[np.maximum(index, 0)] * known[..., None]
    return steps


def step_inputs(
    windows: A,
    x: A,
    *,
    targets: int,
    linear: int | None,
    normal: str,
    seen: int,
    decay: A | None,
    raw_linear: bool = False,
) -> StepInputs[A]:
    """The inputs of a step with its targets normalised by their window.

    windows [..., W, F] with the step last, x [..., F] of the step; see `ForecasterConfig` for the
    rest, `window_statistics` for decay
    """
    window, level = windows[..., :linear], x[..., :targets]
    if normal == "no":
        return StepInputs(window, x, level, None)
    past = windows[..., :targets]
    observed = mask_like(windows[..., seen, None] > 0.5, windows)
    mean, std = window_statistics(past, observed, decay)
    if not raw_linear:
        past = (past - mean[..., None, :]) / std[..., None, :] * observed
        window = concatenate([past, window[..., targets:]])
    if normal == "spread":
        return StepInputs(window, x, level * 0, std)
    return StepInputs(window, concatenate([(level - mean) / std, x[..., targets:]]), level, std)


def window_statistics(windows: A, observed: A, decay: A | None) -> tuple[A, A]:
    """(mean, standard deviation) [..., targets] of windows [..., W, targets] over the observed
    steps, [..., W, 1] of ones and zeros.

    decay   [W, 1] weights of the steps for a root mean square around zero, as for returns; None:
            equal weights
    """
    if decay is not None:
        observed = observed * decay
    count = observed.sum(-2) + 1e-6
    mean = (windows * observed).sum(-2) / count
    if decay is not None:
        mean = mean * 0
    square = ((windows - mean[..., None, :]) ** 2 * observed).sum(-2) / count
    return mean, (square + MIN_WINDOW_STD**2) ** 0.5
