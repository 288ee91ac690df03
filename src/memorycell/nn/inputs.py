"""Checks of a layer's input and state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from memorycell.cells import CELLS
from memorycell.nn.interop import autocast_dtype
from memorycell.state import State

if TYPE_CHECKING:
    from memorycell.nn.recurrent import Recurrent


def is_valid_packing(packed: PackedSequence) -> bool:
    """Whether the batch sizes are positive, do not increase and add up to the data; PyTorch's
    padding does not check them.
    """
    if torch.compiler.is_compiling():
        return True
    sizes = packed.batch_sizes
    return (
        sizes.ndim == 1
        and len(sizes) > 0
        and int(sizes[-1]) > 0
        and bool((sizes[1:] <= sizes[:-1]).all())
        and int(sizes.sum()) == len(packed.data)
    )


def is_valid_for_torch(layer: Recurrent, x: Tensor, hx: Any, batch: int, packed: bool) -> bool:
    """Whether torch's layer accepts the shapes and types; if not, its forward raises the error."""
    batched = x.ndim == 3 or packed
    half = () if autocast_dtype(x.device.type) is None else (torch.bfloat16,)
    types = (cast(Tensor, getattr(layer, "weight_ih_l0")).dtype, *half)  # noqa: B009
    has_shape = x.ndim == (2 if packed or not batched else 3) and x.shape[-1] == layer.input_size
    if not (has_shape and x.dtype in types):
        return False
    if hx is None:
        return True
    shapes = tuple(layer.state_shapes(batch).values())
    states = (hx,) if len(shapes) == 1 and not isinstance(hx, State) else hx
    if not isinstance(states, (tuple, list)) or len(states) != len(shapes):
        return False
    return all(
        isinstance(s, Tensor)
        and s.shape == (shape if batched else (shape[0], shape[2]))
        and s.dtype in types
        and s.device == x.device
        for s, shape in zip(states, shapes, strict=True)
    )


def has_resets(reset: Tensor) -> bool:
    """Whether any sequence begins within a batch; on the CPU, where resets cost nothing, True. On
    a GPU a call without resets is one call of cuDNN for all layers.
    """
    return reset.is_cpu or reset.is_meta or torch.compiler.is_compiling() or bool(reset.any())


def check_inputs(layer: Recurrent, x: Tensor, hx: Any) -> None:
    """Torch's checks of input and states, for calls that torch's layers do not have.

    Raises RuntimeError as torch does, and ValueError for another number of states.
    """
    layer._update_flat_weights()
    x = x if x.ndim == 3 else x.unsqueeze(0 if layer.batch_first else 1)
    if x.shape[1 if layer.batch_first else 0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    if hx is None:
        layer.check_input(x, None)
        return
    names = CELLS[layer.cell].state
    states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    if len(states) != len(names):
        raise ValueError(f"hx: expected {', '.join(names)}, got {len(states)} tensors")
    states = tuple(s if s.ndim == 3 else s[:, None] for s in states)
    if names in (("h", "c"), ("h",)) and (len(names) > 1) == (layer.mode == "LSTM"):
        layer.check_forward_args(x, states if len(names) > 1 else states[0], None)  # type: ignore[arg-type]
        return
    layer.check_input(x, None)
    shapes = layer.state_shapes(x.shape[0 if layer.batch_first else 1])
    for (name, shape), state in zip(shapes.items(), states, strict=True):
        if state.shape != shape:
            raise RuntimeError(f"Expected hidden {name} {shape}, got {list(state.shape)}")
