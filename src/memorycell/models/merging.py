"""Several recurrent stacks as one with block-diagonal weights, for single steps and exports."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorycell.cells import CELLS
from memorycell.nn.layers import Recurrent, of_cell

MERGEABLE_CELLS = tuple(name for name, cell in CELLS.items() if cell.elementwise)
"""The cells whose units depend on each other through W_hh alone."""


def merged(stacks: Sequence[Recurrent]) -> Recurrent:
    """One stack, in one direction, whose hidden state is the concatenation of those of `stacks`,
    which have equal sizes and read the same input. A single stack is returned as it is.

    Raises ValueError for a cell whose units are normalised together.
    """
    first = stacks[0]
    if len(stacks) == 1:
        return first
    if first.cell not in MERGEABLE_CELLS:
        raise ValueError(
            f"members: networks of the cell {first.cell!r} cannot be merged into one; use one of"
            f" {', '.join(MERGEABLE_CELLS)}, or members=1"
        )
    whole = of_cell(
        first.cell,
        first.input_size,
        len(stacks) * first.hidden_size,
        first.num_layers,
        batch_first=True,
        zoneout=first.zoneout,
    )
    for layer in range(first.num_layers):
        parts = [stack.layer_parameters(layer, "") for stack in stacks]
        for name in parts[0]:
            values = [part[name].detach() for part in parts]
            shared_input = name == "weight_ih" and layer == 0
            combined = _rows(values, first.hidden_size, diagonal=not shared_input)
            with torch.no_grad():
                getattr(whole, f"{name}_l{layer}").copy_(combined)
    return whole.eval()


def _rows(values: Sequence[Tensor], hidden_size: int, *, diagonal: bool) -> Tensor:
    """Blocks of H rows: of each block, the rows of all stacks one after another. Columns are
    shared, or with `diagonal` those of each stack follow each other.
    """
    count = len(values)
    if values[0].ndim == 1:
        return torch.stack([v.view(-1, hidden_size) for v in values], 1).flatten()
    columns = values[0].shape[1]
    if not diagonal:
        stacked = torch.stack([v.view(-1, hidden_size, columns) for v in values], 1)
        return stacked.reshape(-1, columns)
    blocks = len(values[0]) // hidden_size
    out = values[0].new_zeros(blocks, count, hidden_size, count, columns)
    for k, value in enumerate(values):
        out[:, k, :, k] = value.view(blocks, hidden_size, columns)
    return out.reshape(-1, count * columns)
