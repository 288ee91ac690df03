"""The parameters of a recurrent layer: shapes per cell and initial values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from memorycell.cells import CELLS

if TYPE_CHECKING:
    from memorycell.nn.recurrent import Recurrent


def check_cell_options(layer: Recurrent) -> None:
    """Raises ValueError for an option that the cell does not have."""
    cell, heads = CELLS[layer.cell], layer.heads
    wrong = {
        "heads": heads != 1 and not cell.stabilised,
        "proj_size": layer.proj_size > 0 and not (cell.recurrent and not cell.reads_input),
        "zoneout": layer.zoneout != (0.0, 0.0) and cell.stabilised,
        "weight_drop": layer.weight_drop > 0 and not cell.recurrent,
        "recurrent_init": layer.recurrent_init != "uniform" and not cell.recurrent,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"{name}: the {layer.cell} cell has none, got {getattr(layer, name)}")
    if not isinstance(heads, int) or heads < 1 or layer.hidden_size % heads:
        raise ValueError(
            f"heads: expected a divisor of hidden_size={layer.hidden_size}, got {heads}"
        )
    if heads > 1 and layer.proj_size:
        raise ValueError("heads: not with proj_size")


def add_cell_parameters(layer: Recurrent) -> None:
    """Replace torch's parameters by uninitialised ones with the cell's blocks of rows, and add the
    cell's extra parameters.
    """
    cell, hidden, heads = CELLS[layer.cell], layer.hidden_size, layer.heads
    rows = cell.num_rows(hidden, heads)
    for names in layer._all_weights:
        suffix = names[0].removeprefix("weight_ih")
        input_size = getattr(layer, names[0]).shape[1]
        for name in list(names):
            value = cast(Tensor, layer._parameters.pop(name)).detach()
            if name.startswith(("weight_hh", "bias_hh")) and not cell.recurrent:
                names.remove(name)
                layer._flat_weights_names.remove(name)
                continue
            if not name.startswith("weight_hr"):
                columns = list(value.shape[1:])
                if name.startswith("weight_hh"):
                    columns = [value.shape[1] // heads]
                value = value.new_empty(rows, *columns)
            layer.register_parameter(name, nn.Parameter(value))
        for name, shape in cell.extra_shapes(input_size, hidden).items():
            layer.register_parameter(name + suffix, nn.Parameter(value.new_empty(shape)))
    layer._init_flat_weights()


def dense_recurrent_weight(weight_hh: Tensor, blocks: int, heads: int) -> Tensor:
    """W_hh [G·H, H] from the block of each head, [G·H, H / heads]: zero between heads."""
    hidden, size = len(weight_hh) // blocks, weight_hh.shape[1]
    gates = weight_hh.view(blocks, heads, hidden // heads, size)
    same = torch.eye(heads, dtype=weight_hh.dtype, device=weight_hh.device)
    dense = gates[:, :, :, None, :] * same[None, :, None, :, None]
    return dense.reshape(blocks * hidden, heads * size)


def initialise(layer: Recurrent) -> None:
    """Torch's initial values (uniform in ±1/√H, drawn in torch's order), then `recurrent_init` and
    `forget_bias`.
    """
    cell, hidden = CELLS[layer.cell], layer.hidden_size
    forget = cell.rows(hidden, layer.heads).get("f")
    bound = 1.0 / math.sqrt(hidden)
    for name, parameter in layer.named_parameters():
        if name.startswith("gain_"):
            nn.init.ones_(parameter)
        elif name.startswith("bias_c_"):
            nn.init.zeros_(parameter)
        else:
            nn.init.uniform_(parameter, -bound, bound)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if layer.recurrent_init == "orthogonal" and name.startswith("weight_hh"):
                for block in parameter.split(hidden // layer.heads):
                    nn.init.orthogonal_(block)
            elif (
                layer.forget_bias is not None
                and forget is not None
                and name.startswith(("bias_ih", "bias_hh"))
            ):
                parameter[forget] = layer.forget_bias if name.startswith("bias_ih") else 0.0
