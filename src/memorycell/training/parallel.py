"""Data-parallel training: every worker process learns from some rows of each batch, and the
gradients of all workers are summed.

The global batch is that of the settings (lanes, batch, budget) and so is the learning rate, for
every number of workers K: worker k takes the rows k, k + K, k + 2K, … of every batch. With

    w_k = known targets of worker k's rows / known targets of the batch

the sum over k of w_k times the mean loss of its rows is the mean loss of the batch, and the same
holds for gradients. Where a dataset has `OwnBatches`, a worker makes its own rows alone, weights
their mean loss by their known targets, and the sums are divided by the known targets of all;
otherwise it makes the complete batch and takes its rows. A step sends 2 (K - 1) / K times the bytes
of the parameters per worker (ring all-reduce).
Noise that a model draws in training, such as dropout, differs between the workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from memorycell.models.batches import B, rows_of
from memorycell.models.model import Model
from memorycell.state import State

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)
"""To wait for another worker: it may read data or evaluate meanwhile. One that dies is noticed at
once."""
JOIN_TIMEOUT = timedelta(seconds=60)
"""gloo was seen to wait for a connection that never comes; the workers are then started again."""


@runtime_checkable
class OwnBatches(Protocol):
    """A dataset that can make some rows of its batches without the others."""

    def own_batches(self, seed: int, rows: slice) -> Iterator[Any]:
        """`Dataset.batches` with these rows of each."""


@dataclass(frozen=True)
class Workers:
    """The worker processes of a run, as one of them sees them.

    rank    of this one; 0 validates, writes the model file and reports
    count   of all
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, writes and reports."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """Those of every batch that this worker learns from."""
        return slice(self.rank, None, self.count)

    def loss(
        self,
        model: Model[B],
        batch: B,
        state: State | None,
        autocast: AbstractContextManager[object],
        *,
        own: bool = False,
    ) -> tuple[Tensor, State | None, float]:
        """(the share of the loss of a batch that is this worker's, state of its rows, the weight of
        its loss in that share); `backward` of it gives its share of the gradients.

        own   the batch has this worker's rows alone; then the weight is their known targets, and
              the shares are those of the sum over the batch, not of its mean
        """
        if rows_of(batch) <= (0 if own else self.rank):
            return torch.zeros((), requires_grad=True), None, 0.0
        part, weight = (batch, model.loss_count(batch)) if own else model.part(batch, self.rows)
        with torch.set_grad_enabled(weight > 0), autocast:
            loss, state = model.loss(part, state)
        if weight == 0:  # nothing is known in these rows: the mean over none may be NaN
            return torch.zeros((), requires_grad=True), state, 0.0
        return loss * weight, state, float(weight)

    def sum_gradients(
        self,
        parameters: Sequence[nn.Parameter],
        loss: Tensor,
        seconds: float,
        weight: float | None = None,
    ) -> tuple[Tensor, float]:
        """Replace the gradients by their sums over the workers.

        loss      the share of this worker
        seconds   that this worker's clock shows
        weight    that this worker's loss has in its share; the sums are divided by the sum of all
                  weights. None: they are not

        Returns (the loss of the batch, the seconds of the first worker's clock): one message.
        """
        used = [float(p.grad is not None) for p in parameters]
        clock = seconds if self.first else 0.0
        numbers = torch.tensor([*used, clock, weight or 0.0], device=loss.device)
        grads = [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten().float()
            for p in parameters
        ]
        message = torch.cat([*grads, loss.detach().float().view(1), numbers])
        dist.all_reduce(message)
        *sums, total, numbers = message.split([*(p.numel() for p in parameters), 1, len(numbers)])
        *used, clock, known = numbers.tolist()
        scale = 1.0 if weight is None else 1 / max(known, 1.0)
        for parameter, total_gradient, count in zip(parameters, sums, used, strict=True):
            # No worker used it: as without workers, the optimiser leaves it alone.
            parameter.grad = (
                (total_gradient * scale).view_as(parameter).to(parameter.dtype) if count else None
            )
        return total[0] * scale, clock

    @torch.no_grad()
    def share_weights(self, *models: nn.Module) -> None:
        """Copy the first worker's weights to the others: on another processor initial weights that
        are fitted can differ in the last digit.
        """
        if self.count > 1:
            for model in models:
                for parameter in model.parameters():
                    dist.broadcast(parameter.data, src=0)

    def from_first(self, value: T) -> T:
        """The value that the first worker has, on every worker."""
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


ALONE = Workers()
"""Without other workers: the plain loop."""


def joined_device(device: torch.device) -> torch.device:
    """The device of this worker: of several GPUs, one each."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def join(device: torch.device) -> Workers:
    """Join the other workers, as `torch.distributed.run` describes them in the environment: gloo
    on CPUs, nccl on GPUs.
    """
    if device.type == "cuda":
        torch.cuda.set_device(joined_device(device))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=JOIN_TIMEOUT)
    if dist.group.WORLD is not None:
        dist.group.WORLD.set_timeout(TIMEOUT)
    return Workers(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """End what `join` began."""
    dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the first of those that `torch.distributed.run` started, or alone."""
    return not is_worker() or int(os.environ.get("RANK", 0)) == 0


def is_worker() -> bool:
    """Whether `torch.distributed.run` started this process as one of several workers."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1
