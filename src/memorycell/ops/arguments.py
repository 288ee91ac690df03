"""The arguments and results of the native recurrence, in the order of the operator's schema."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor

from memorycell.cells import CELLS


class Arguments(NamedTuple):
    """What a recurrence is computed from. The first twelve have gradients.

    x_part = x weight_ih^T + bias, or x itself if weight_ih is None. weight_hr [P, H] is the
    projection's, or None. A vector that the cell does not use is None. c_0 is c, or the states
    after h joined: [B, cell_width · H].
    """

    x: Tensor
    weight_ih: Tensor | None
    bias: Tensor | None
    h_0: Tensor
    c_0: Tensor | None
    weight_hh: Tensor
    weight_ch: Tensor | None
    bias_hh: Tensor | None
    gain_hh: Tensor | None
    gain_c: Tensor | None
    bias_c: Tensor | None
    weight_hr: Tensor | None
    lengths: Tensor | None
    border: Tensor | None
    mask_h: Tensor | None
    mask_c: Tensor | None
    cell: str
    reverse: bool
    time_first: bool
    precision: str
    zone_h: float
    zone_c: float
    keep: bool

    @property
    def differentiable(self) -> tuple[Tensor | None, ...]:
        """The arguments with gradients."""
        return cast(tuple[Tensor | None, ...], self[:GRADIENTS])

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, T, H and the columns of x_part, G·H."""
        batch, steps = (self.x.shape[1], self.x.shape[0]) if self.time_first else self.x.shape[:2]
        hidden = (self.weight_hh if self.weight_hr is None else self.weight_hr).shape[1]
        return batch, steps, hidden, self.weight_hh.shape[0]

    @property
    def h_size(self) -> int:
        """The features of h: P with a projection, else H."""
        return self.weight_hh.shape[1]

    def sequence_shape(self, *features: int) -> tuple[int, ...]:
        """The shape of a sequence with these features per step."""
        return (*self.x.shape[:2], *features)


GRADIENTS = Arguments._fields.index("lengths")
"""The number of arguments with gradients."""


class Results(NamedTuple):
    """Output and final state; with `keep`, also what the backward pass reads."""

    output: Tensor
    h_n: Tensor
    c_n: Tensor | None
    gates: Tensor | None
    cells: Tensor | None
    normalised: Tensor | None
    rstd: Tensor | None


def gates_kept(cell: str) -> int:
    """The number of values kept per unit and step; for the plain recurrent nets, h itself."""
    return 1 if cell.startswith("rnn") else 5 if cell == "slstm" else 4


def cell_width(cell: str) -> int:
    """The width of the engine's cell state, in units of hidden_size: that of c, or of c, n and m
    joined.
    """
    return max(1, len(CELLS[cell].state) - 1)


def cell_parts(c: Tensor | None, cell: str) -> tuple[Tensor, ...]:
    """The cell states [..., H] of a tensor that has them one after another. Not by `chunk`, whose
    results cannot be changed in place.
    """
    width = cell_width(cell)
    if c is None or width == 1:
        return () if c is None else (c,)
    size = c.shape[-1] // width
    return tuple(c.narrow(-1, k * size, size) for k in range(width))
