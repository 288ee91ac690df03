"""What a backend is asked to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from memorycell.cells import Params, Tensors


@dataclass(frozen=True)
class Call:
    """What to run: everything about a recurrence except its numbers.

    zoneout: probability that a unit keeps its previous (h, c) at a step (Krueger et al. 2016, arXiv:1606.01305); while
    evaluating, the expectation is taken instead.
    """

    cell: str = "lstm"
    reverse: bool = False
    zoneout: tuple[float, float] = (0.0, 0.0)
    training: bool = False
    trace: bool = False


class Inputs(NamedTuple):
    """The numbers of a recurrence; shapes as in `memorycell.ops.recurrence`.

    masks   zoneout in training: 1 where a unit keeps its old value at a step, [B, T, H] for h and for c; else empty
    """

    x: Tensor
    params: Params
    state: Tensors
    lengths: Tensor | None
    reset: Tensor | None
    masks: Tensors
