"""How many epochs to train, and the learning rate at every step."""

from __future__ import annotations

import math

from memorycell.errors import DataError

MIN_EPOCHS, MIN_STEPS, MAX_EPOCHS = 24, 400, 200
"""A plan by epochs has at least the first, more until the second, at most the third."""
MAX_EPOCHS_IN_TIME = 1_000_000
"""The same where the plan is a time."""
MAX_WARM_UP_STEPS = 100


def planned_epochs(
    steps_per_epoch: int,
    *,
    epochs_done: int,
    seconds: float,
    budget_s: float | None,
    steps: int | None = None,
    steps_done: int | None = None,
) -> int:
    """The epochs of a run, from the length of those done.

    With a number of steps the last epoch ends with them; else with a budget in seconds the plan
    follows the measured speed, so that the learning rate reaches zero when the time is over. Raises
    `DataError` for a training split without batches.

    steps_done   by default those of full epochs
    """
    if steps_per_epoch < 1:
        raise DataError("the training split is empty: more data are needed")
    if steps is not None:
        done = epochs_done * steps_per_epoch if steps_done is None else steps_done
        return epochs_done + max(0, -(-(steps - done) // steps_per_epoch))
    if budget_s is not None:
        planned = int(min(budget_s * epochs_done / max(seconds, 1e-6), MAX_EPOCHS_IN_TIME))
        return max(2, epochs_done, planned)
    return min(max(MIN_EPOCHS, -(-MIN_STEPS // steps_per_epoch)), MAX_EPOCHS)


def learning_rate(
    peak: float, step: int, *, epoch: int, epochs: int | None, steps_per_epoch: int
) -> float:
    """Linear warm-up over the first epoch (at most 100 steps), then cosine decay to zero.

    epochs            None before the run is planned
    steps_per_epoch   0 in the first epoch
    """
    warm_up_steps = min(steps_per_epoch or MAX_WARM_UP_STEPS, MAX_WARM_UP_STEPS)
    warm_up = min(1.0, (step + 1) / warm_up_steps)
    if epoch == 0 or epochs is None:
        return peak * warm_up
    total = epochs * steps_per_epoch
    share = (step - steps_per_epoch) / max(total - steps_per_epoch, 1)
    return peak * warm_up * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def share_done(step: int, seconds: float, *, steps: int | None, budget_s: float | None) -> float:
    """The share of a run that is over, of its steps or of its time.

    Of a run that has both, the steps decide and the time is a limit: the share is at least 2 t - 1
    of the share t of the time, so that the learning rate is zero when the limit ends the run. A run
    whose steps take less than the limit, at an even speed, is not affected by its speed.
    """
    timed = seconds / budget_s if budget_s is not None and budget_s > 0 else 0.0
    if steps is None:
        return timed
    return step / steps if budget_s is None else max(step / steps, 2 * timed - 1)


def timed_learning_rate(peak: float, step: int, share: float) -> float:
    """As `learning_rate`, for a run of which a share of the time or of the steps is over: warm-up
    over the first 100 steps (at most a tenth of all), and cosine decay to zero at the end.
    """
    warm_up = min(1.0, max((step + 1) / MAX_WARM_UP_STEPS, share / 0.1))
    return peak * warm_up * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
