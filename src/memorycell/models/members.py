"""Several networks of one kind as one model: they read the same input, their outputs are averaged,
and their states are stored together (deep ensembles, Lakshminarayanan et al. 2017,
arXiv:1612.01474).

The first network is the model itself; `others` are its further members. Their state tensors follow
its own, with the member's number in their names: h, c, h_2, c_2, …
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from memorycell.state import Layout, State
from memorycell.streaming.stepping import Stepper

MAX_MEMBERS = 32

T = TypeVar("T")
Average = Callable[[list[np.ndarray]], np.ndarray]
"""The outputs of all members -> their average."""


def check_members(members: object) -> None:
    """Raises ValueError."""
    if not isinstance(members, int) or isinstance(members, bool) or not 1 <= members <= MAX_MEMBERS:
        raise ValueError(
            f"members: expected a whole number from 1 to {MAX_MEMBERS}, got {members!r}"
        )


def join_states(states: Sequence[State]) -> State:
    """The states of all members as one."""
    return State(
        **{
            member_name(name, k): tensor
            for k, state in enumerate(states)
            for name, tensor in state.asdict().items()
        }
    )


def split_state(state: State, members: int) -> list[State]:
    """The states of `members` members, of one that `join_states` gave."""
    if members == 1:
        return [state]
    given = state.asdict()
    size = len(given) // members
    names = list(given)[:size]
    return [State(**{name: given[member_name(name, k)] for name in names}) for k in range(members)]


def member_name(name: str, member: int) -> str:
    """The name of a state tensor of member 0, 1, … in the joined state."""
    return name if member == 0 else f"{name}_{member + 1}"


def mean_log_p(log_p: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of distributions, from their log-probabilities [..., V]."""
    if len(log_p) == 1:
        return log_p[0]
    return torch.logsumexp(torch.stack(list(log_p)), 0) - math.log(len(log_p))


class MembersStepper:
    """Steps the members of a model, each by its own stepper; see `Stepper`. In a session's row the
    values of a member follow those of the one before.

    average   of their outputs
    """

    def __init__(self, steppers: Sequence[Stepper], average: Average) -> None:
        first = steppers[0]
        self.precision, self.input_size = first.precision, first.input_size
        self.layout = Layout(
            {
                member_name(name, k): size
                for k, one in enumerate(steppers)
                for name, size in one.layout.sizes.items()
            }
        )
        self.bounded = all(getattr(one, "bounded", False) for one in steppers)
        ends = np.cumsum([one.layout.width for one in steppers]).tolist()
        self._parts = [
            (one, slice(end - one.layout.width, end))
            for one, end in zip(steppers, ends, strict=True)
        ]
        self._average = average

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        if x.ndim == 1 or len(ring) == 1:  # one row before and one after
            after = row if len(ring) == 1 else (row + 1) % len(ring)
            outputs = []
            for one, part in self._parts:
                own = ring[row : row + 1, part].copy()
                outputs.append(one.step_one(own, 0, x)[0])
                ring[after, part] = own[0]
            return self._average(outputs), after
        outputs, after = [], row
        for one, part in self._parts:
            own = ring[:, part].copy()
            y, after = one.step_one(own, row, x)
            outputs.append(y)
            ring[:, part] = own
        return self._average(outputs), after

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        if len(rows) and (
            rows.min() < 0 or rows.max() >= len(block) or len(np.unique(rows)) < len(rows)
        ):
            raise ValueError(f"rows: expected distinct rows in 0..{len(block) - 1}")
        own_rows = np.arange(len(rows))
        outputs = []
        for one, part in self._parts:
            own = np.ascontiguousarray(block[rows, part])
            outputs.append(one.step_many(own, own_rows, x))
            block[rows, part] = own
        return self._average(outputs)
