"""How many threads a training step runs on.

PyTorch's OpenMP threads spin after each operator. In a small step they wait for each other for
longer than they compute, and where other processes need the cores they wait for a time slice.
"""

from __future__ import annotations

import os
from types import TracebackType

import torch
from torch import nn

MIN_SHARED_WORK = 2e8
"""Floating-point operations of a step from which on threads share it: about 10 ms of one core."""
OPERATIONS_PER_WEIGHT = 6
"""Of a step of a sequence: a product and a sum forward, and twice as many backward."""
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
SHARE = "MEMORYCELL_THREADS_SHARE"
"""Set in worker processes whose `VARIABLES` are their share of the cores, not a user's choice."""


class StepThreads:
    """Runs small training steps on one thread, and restores PyTorch's number of threads at the end.

        with StepThreads(model) as threads:
            for batch in batches:
                threads.choose(batch.steps)

    A number that the user has set is left as it is: by `OMP_NUM_THREADS` or `MKL_NUM_THREADS`, or
    by `torch.set_num_threads` where it is neither that of the processors nor half of it, which is
    PyTorch's default on processors that run two threads per core. The choice depends on the work
    alone, not on how busy the machine is: results are reproducible.
    """

    def __init__(self, model: nn.Module) -> None:
        weights = sum(parameter.numel() for parameter in model.parameters())
        self._work_per_step = OPERATIONS_PER_WEIGHT * weights
        self._before: int | None = None

    def __enter__(self) -> StepThreads:
        self._before = None if user_has_chosen() else torch.get_num_threads()
        return self

    def choose(self, steps: int) -> None:
        """Set the threads for a batch of `steps` steps in all."""
        if self._before is None:
            return
        wanted = self._before if self._work_per_step * steps >= MIN_SHARED_WORK else 1
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            torch.set_num_threads(self._before)
            self._before = None


def user_has_chosen() -> bool:
    """Whether the number of threads is one that the user set; see `StepThreads`."""
    if os.environ.get(SHARE):
        return False
    if any(os.environ.get(name) for name in VARIABLES):
        return True
    count = processors()
    return torch.get_num_threads() not in (count, max(1, count // 2))


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
