"""The window of the last steps at each step, and its normalisation.

Serves PyTorch in training and numpy per step: `A` is a tensor or an array.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

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


def step_inputs(
    windows: A,
    x: A,
    *,
    targets: int,
    linear: int | None,
    normal: str,
    seen: int,
    decay: A | None,
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
