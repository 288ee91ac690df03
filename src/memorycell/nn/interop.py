"""What PyTorch's tools and inputs ask of a layer: scripting, symbolic tracing, packed sequences,
autocast.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence


def torchs(layer: Any) -> nn.RNNBase:
    """A torch.nn layer over the very parameters of a plain one of ours. Raises ValueError for
    another.
    """
    if not layer.is_plain():
        raise ValueError(f"torch.nn has no layer like {layer}")
    theirs = copy.copy(layer)
    # By inheritance, not by name: `torch.nn.LSTM = memorycell.LSTM` is one way to try a drop-in.
    theirs.__class__ = next(
        kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn")
    )
    return theirs


def is_sound(packed: PackedSequence | None) -> bool:
    """Whether batch sizes are positive, never grow, and add up to the data: PyTorch's padding does
    not check them.
    """
    if packed is None or torch.compiler.is_compiling():
        return True
    sizes = packed.batch_sizes
    counted = (
        sizes.ndim == 1
        and len(sizes) > 0
        and int(sizes[-1]) > 0
        and bool((sizes[1:] <= sizes[:-1]).all())
    )
    return counted and int(sizes.sum()) == len(packed.data)


def as_leaf(layer: nn.Module, input: Any, hx: Any) -> Any:  # noqa: A002
    """One node in the graph of torch.fx.symbolic_trace, as PyTorch's layers are; it knows those by
    their module's name.
    """
    tracer = input.tracer
    return tracer.create_proxy(
        "call_module", tracer.path_of_module(layer), (input,) if hx is None else (input, hx), {}
    )


def autocast_dtype(device: str) -> torch.dtype | None:
    """The type of products under autocast on this device, or None."""
    if not torch._C._is_any_autocast_enabled() or not torch.amp.is_autocast_available(device):
        return None
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
