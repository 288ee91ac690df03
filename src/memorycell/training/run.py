"""One training run: truncated back-propagation with carried state, and the best weights so far."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias

import torch
from torch import Tensor, nn

from memorycell.application.contract import B, Dataset, M, Metrics
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.inspection.flow import GradientFlow
from memorycell.models.batches import on_device
from memorycell.ops import binding
from memorycell.state import State
from memorycell.training.adamw import AdamW
from memorycell.training.device import supports_bfloat16
from memorycell.training.events import Epoch, OnEvent, Step
from memorycell.training.gradients import GradientWatch
from memorycell.training.parallel import ALONE, OwnBatches, Workers
from memorycell.training.schedule import (
    learning_rate,
    planned_epochs,
    share_done,
    timed_learning_rate,
)
from memorycell.training.threads import StepThreads

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CPU = torch.device("cpu")
EndedBy: TypeAlias = Literal["updates", "epochs", "minutes", "patience"]
SEED_STRIDE = 1_000_003
"""Between the seeds of two runs, so that none of their epochs share one."""
WORKER_STRIDE = 1 << 40
"""Between the seeds of two workers."""
VALIDATION_SHARE = 0.1
"""Of the time to train, kept for the first validation, whose duration is not known yet."""


@dataclass
class Progress:
    """The numbers of a run that a checkpoint stores.

    epochs            None before the run is planned, after the first epoch
    steps_per_epoch   0 before
    """

    best: float = math.inf
    best_epoch: int = -1
    epoch: int = 0
    step: int = 0
    epochs: int | None = None
    steps_per_epoch: int = 0
    seconds: float = 0.0
    budget_s: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)


class Run(Generic[M, B]):
    """Trains a model on a dataset.

    selection_metric   the validation metric that selects the best epoch, lower is better
    best_baseline      that metric of the best baseline, for whoever follows the run
    budget_s           seconds to train, at most where the settings have a number of steps; None: by
                       epochs or steps. Training stops between two batches when they are over but
                       for the validation that follows
    device             of the model, its average, the optimiser and the batches. Initial weights,
                       batches and validation are the CPU's: what is saved, and how it is scored,
                       does not depend on it
    workers            that train together; the first one's clock, validation and weights count
    """

    def __init__(
        self,
        dataset: Dataset[M, B],
        settings: TrainSettings,
        selection_metric: str,
        best_baseline: float | None,
        budget_s: float | None,
        device: torch.device = CPU,
        workers: Workers = ALONE,
    ) -> None:
        self.dataset, self.settings, self.device = dataset, settings, device
        self.workers = workers
        self.selection_metric, self.best_baseline = selection_metric, best_baseline
        self.progress = Progress(
            epochs=settings.epochs if budget_s is None else None, budget_s=budget_s
        )
        torch.manual_seed(settings.seed)
        self.model = dataset.build()
        self.best_weights = copy_weights(self.model)
        self.average = dataset.build()
        self.average.load_state_dict(self.best_weights)
        self.model.to(device)
        self._scored = self.average if device == CPU else copy.deepcopy(self.average)
        self.average.to(device)
        self.optimizer = _optimizer(self.model, settings)
        self.gradients = GradientWatch()
        self.flow = GradientFlow(self.model, every=1)
        self.threads = StepThreads(self.model)
        self.speed = 0.0
        self._own_rows = False
        self.ended_by: EndedBy = "epochs"
        self._validation_s = VALIDATION_SHARE * (budget_s or 0.0)
        self.bfloat16 = _uses_bfloat16(settings.precision, device)

    def fit(
        self,
        on_event: OnEvent,
        on_checkpoint: Callable[[bool], None],
        tensorboard: Path | None = None,
    ) -> None:
        """Train until the epochs, the time or the patience end.

        on_checkpoint   called after every epoch with whether it is the best so far
        """
        writer = _tensorboard(tensorboard) if self.workers.first else None
        self.workers.share_weights(self.model, self.average)
        p = self.progress
        while p.epochs is None or p.epoch < p.epochs:
            began, first_step = time.monotonic(), self.flow.steps
            loss = self._train_epoch(on_event)
            valid = self._validate()
            self._check_finite(valid)
            better = valid[self.selection_metric] < p.best
            if better:
                p.best, p.best_epoch = valid[self.selection_metric], p.epoch
                self.best_weights = copy_weights(self._scored)  # with what validation fits
            p.seconds += self._agreed(time.monotonic() - began)
            p.epoch += 1
            if p.epochs is None or p.budget_s is not None or self.settings.steps is not None:
                p.epochs = planned_epochs(
                    p.steps_per_epoch,
                    epochs_done=p.epoch,
                    seconds=p.seconds,
                    budget_s=p.budget_s,
                    steps=self.settings.steps,
                    steps_done=p.step,
                )
            if self._is_time_over(0.0):
                p.epochs = p.epoch
            p.history.append(self._history_entry(loss, valid, first_step))
            if writer is not None:
                for name, value in p.history[-1].items():
                    writer.add_scalar(name, value, p.epoch)
            on_event(
                Epoch(
                    epoch=p.epoch,
                    epochs=p.epochs,
                    loss=loss,
                    valid=valid,
                    best=p.best,
                    best_baseline=self.best_baseline,
                    seconds=p.seconds,
                    speed=self.speed,
                    warning=self.gradients.warning(),
                )
            )
            on_checkpoint(better)
            if p.epoch - 1 - p.best_epoch >= (self.settings.patience or max(p.epochs // 3, 3)):
                self.ended_by = "patience"
                break
        else:
            self.ended_by = self._end()
        if writer is not None:
            writer.close()

    def _end(self) -> EndedBy:
        """What ended a run that was not ended by its patience."""
        if self.progress.step == self.settings.steps:
            return "updates"
        return "epochs" if self.progress.budget_s is None else "minutes"

    def best_model(self) -> M:
        """The model with the best weights, on the CPU and in evaluation mode."""
        self._scored.load_state_dict(self.best_weights)
        return self._scored.eval()

    def _validate(self) -> Metrics:
        """The metrics of the average on "valid"."""
        began = time.monotonic()
        valid = self.dataset.validate(self._average_on_cpu()) if self.workers.first else {}
        self._validation_s = self._agreed(time.monotonic() - began)
        return valid if self.workers.count == 1 else self.workers.from_first(valid)

    def _agreed(self, seconds: float) -> float:
        """Seconds on the clock of the first worker."""
        return seconds if self.workers.count == 1 else self.workers.from_first(seconds)

    def _average_on_cpu(self) -> M:
        if self._scored is not self.average:
            self._scored.load_state_dict(self.average.state_dict())
        return self._scored

    def _train_epoch(self, on_event: OnEvent) -> float:
        """The mean loss of one epoch, of the batches with a finite one; NaN where none has."""
        p, began = self.progress, time.monotonic()
        self.model.train()
        losses: list[float] = []
        batches, data_steps = 0, 0
        state: State | None = None
        seed = self.settings.seed * SEED_STRIDE + p.epoch
        self._freeze(self.dataset.frozen_parameters(p.epoch))
        # Per epoch, so that a resumed run draws the same numbers; other ones on every worker.
        torch.manual_seed(seed + WORKER_STRIDE * self.workers.rank)
        for batch in self._batches(seed):
            self.threads.choose(batch.steps)
            batch = on_device(batch, self.device)
            result, state, clock = self._train_step(batch, state, time.monotonic() - began)
            loss = float(result)
            if math.isfinite(loss):
                losses.append(loss)
            p.step += 1
            batches += 1
            data_steps += batch.steps * (self.workers.count if self._own_rows else 1)
            seconds = time.monotonic() - began
            self.speed = data_steps / max(seconds, 1e-9)
            on_event(
                Step(
                    epoch=p.epoch,
                    epochs=p.epochs,
                    step=p.step,
                    steps=self._planned_steps(batches),
                    loss=loss,
                    seconds=p.seconds + seconds,
                    speed=self.speed,
                )
            )
            if p.step == self.settings.steps:
                break
            if self._is_time_over(seconds if clock is None else clock):
                break
        p.steps_per_epoch = max(p.steps_per_epoch, batches)
        return math.fsum(losses) / len(losses) if losses else math.nan

    def _batches(self, seed: int) -> Iterator[B]:
        """Those of an epoch; of several workers with the rows of this one alone where the dataset
        can make them.
        """
        if self.workers.count > 1 and isinstance(self.dataset, OwnBatches):
            self._own_rows = True
            return self.dataset.own_batches(seed, self.workers.rows)
        return self.dataset.batches(seed)

    def _planned_steps(self, batches: int) -> int | None:
        """The steps of the run, `batches` into an epoch; None before it is planned."""
        p = self.progress
        if self.settings.steps is not None:
            return self.settings.steps
        return None if p.epochs is None else p.epochs * max(p.steps_per_epoch, batches)

    def _is_time_over(self, epoch_s: float) -> bool:
        """Whether the next batch would leave no time for a validation, epoch_s into the epoch."""
        p = self.progress
        if p.budget_s is None:
            return False
        return p.seconds + epoch_s + self._validation_s >= p.budget_s

    def _learning_rate(self, epoch_s: float) -> float:
        p, steps = self.progress, self.settings.steps
        if p.budget_s is not None or steps is not None:
            share = share_done(p.step, p.seconds + epoch_s, steps=steps, budget_s=p.budget_s)
            return timed_learning_rate(self.settings.lr, p.step, share)
        return learning_rate(
            self.settings.lr,
            p.step,
            epoch=p.epoch,
            epochs=p.epochs,
            steps_per_epoch=p.steps_per_epoch,
        )

    def _train_step(
        self, batch: B, state: State | None, epoch_s: float
    ) -> tuple[Tensor, State | None, float | None]:
        """(loss, state after the batch where one is carried, seconds into the epoch before the
        batch on the clock of the first of several workers)
        """
        carried = state.detach() if batch.carry and state is not None else None
        self.optimizer.zero_grad(set_to_none=True)
        clock = None
        if self.workers.count == 1:
            with self._autocast():
                loss, state = self.model.loss(batch, carried)
            loss.backward()
        else:
            loss, state, weight = self.workers.loss(
                self.model, batch, carried, self._autocast(), own=self._own_rows
            )
            loss.backward()
            loss, clock = self.workers.sum_gradients(
                self._trained, loss, epoch_s, weight if self._own_rows else None
            )
        rate = self._learning_rate(epoch_s if clock is None else clock)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.flow.record()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip))
        self.gradients.add(norm)
        if math.isfinite(norm):
            self.optimizer.step()
        else:  # such a step would ruin every weight
            state = None
        self._update_average()
        return loss.detach(), state, clock

    @property
    def _trained(self) -> list[nn.Parameter]:
        """The parameters that are not frozen."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def _autocast(self) -> AbstractContextManager[object]:
        if not self.bfloat16:  # a device without autocast refuses even to disable it
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _freeze(self, prefixes: tuple[str, ...]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not prefixes or not name.startswith(prefixes))

    @torch.no_grad()
    def _update_average(self) -> None:
        """The moving average of the weights (Polyak & Juditsky 1992), faster at first."""
        step = self.progress.step
        decay = min(self.settings.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.model.parameters()), 1 - decay
        )

    def _history_entry(self, loss: float, valid: Metrics, first_step: int) -> dict[str, float]:
        flow = {
            f"gradient of {layer}": norms["median"]
            for layer, norms in self.flow.summary(first_step).items()
            if math.isfinite(norms["median"])
        }
        known = {"loss": loss} if math.isfinite(loss) else {}
        return {**known, **{f"valid_{k}": v for k, v in valid.items()}, **flow}

    def _check_finite(self, valid: Metrics) -> None:
        if math.isfinite(valid[self.selection_metric]):
            return
        p = self.progress
        kept = (
            f"; the best model, of epoch {p.best_epoch + 1}, is kept" if p.best_epoch >= 0 else ""
        )
        raise UserError(
            f"training diverged in epoch {p.epoch + 1}: try a third of the lr (--set lr=…){kept}"
        )


def copy_weights(module: nn.Module) -> dict[str, Tensor]:
    """Name -> a copy of every parameter and buffer, on the CPU."""
    return {n: v.detach().to(CPU, copy=True) for n, v in module.state_dict().items()}


def _uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether products are in bfloat16. Raises `UserError` where the device has none."""
    if precision == "float32":
        return False
    supported = supports_bfloat16(device)
    if precision == "bfloat16":
        if not supported:
            raise UserError(f"precision=bfloat16: not on {device}; use precision=float32")
        return True
    if device.type == "cpu":  # where emulating it is slow
        return binding.engine is not None and "bf16" in binding.engine.instruction_set()
    return supported


def _optimizer(model: nn.Module, settings: TrainSettings) -> AdamW:
    """Weight decay on matrices alone."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=settings.lr)


def _tensorboard(folder: Path | None) -> SummaryWriter | None:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise UserError("--tensorboard needs a package: pip install 'memorycell[log]'") from None
    return SummaryWriter(str(folder))
