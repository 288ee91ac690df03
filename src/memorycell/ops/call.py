"""The input of a backend: the call and its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from memorycell.cells import Params, Tensors


@dataclass(frozen=True)
class Call:
    """Everything about a recurrence except its tensors.

    zoneout: probability that a unit keeps its previous (h, c) at a step (Krueger et al. 2016,
    arXiv:1606.01305); in evaluation mode, the expectation is used instead. time_first: sequences
    are [T, B, K] instead of [B, T, K], in and out.
    """

    cell: str = "lstm"
    reverse: bool = False
    zoneout: tuple[float, float] = (0.0, 0.0)
    training: bool = False
    trace: bool = False
    time_first: bool = False

    @property
    def time(self) -> int:
        """The axis of time."""
        return 0 if self.time_first else 1

    @property
    def expected_zoneout(self) -> tuple[float, float]:
        """Zoneout's expectation for h and c; in training, masks replace it."""
        return (0.0, 0.0) if self.training else self.zoneout


class Inputs(NamedTuple):
    """The tensors of a recurrence; shapes as in `memorycell.ops.recurrence`.

    masks   zoneout in training: 1 where a unit keeps its previous value at a step, [B, T, H] for h
            and for c; else empty
    """

    x: Tensor
    params: Params
    state: Tensors
    lengths: Tensor | None
    reset: Tensor | None
    masks: Tensors
