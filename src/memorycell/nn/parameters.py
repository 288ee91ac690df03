"""The parameters of a recurrent layer: shapes per cell and initial values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from memorycell.cells import CELLS

if TYPE_CHECKING:
    from memorycell.nn.recurrent import Recurrent


def add_cell_parameters(layer: Recurrent) -> None:
    """Replace torch's parameters by uninitialised ones with the cell's blocks of rows, and add the
    cell's extra parameters.
    """
    cell, hidden = CELLS[layer.cell], layer.hidden_size
    rows = len(cell.blocks) * hidden
    for names in layer._all_weights:
        suffix = names[0].removeprefix("weight_ih")
        for name in names:
            value = cast(Tensor, layer._parameters.pop(name)).detach()
            if not name.startswith("weight_hr"):
                value = value.new_empty(rows, *value.shape[1:])
            layer.register_parameter(name, nn.Parameter(value))
        for name, multiple in cell.extra.items():
            parameter = nn.Parameter(value.new_empty(multiple * hidden))
            layer.register_parameter(name + suffix, parameter)
    layer._init_flat_weights()


def initialise(layer: Recurrent) -> None:
    """Torch's initial values (uniform in ±1/√H, drawn in torch's order), then `recurrent_init` and
    `forget_bias`.
    """
    blocks, hidden = CELLS[layer.cell].blocks, layer.hidden_size
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
                for block in parameter.split(hidden):
                    nn.init.orthogonal_(block)
            elif (
                layer.forget_bias is not None
                and "f" in blocks
                and name.startswith(("bias_ih", "bias_hh"))
            ):
                start = blocks.index("f") * hidden
                parameter[start : start + hidden] = (
                    layer.forget_bias if name.startswith("bias_ih") else 0.0
                )
