"""Support for PyTorch's scripting, symbolic tracing and autocast."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def as_torch_layer(layer: Any) -> nn.RNNBase:
    """A torch.nn layer that shares the parameters of a plain layer. Raises ValueError if torch.nn
    has no equivalent.
    """
    if not layer.is_plain():
        raise ValueError(f"torch.nn has no layer like {layer}")
    torch_layer = copy.copy(layer)
    # By inheritance, not by name: users may set `torch.nn.LSTM = memorycell.LSTM`.
    torch_layer.__class__ = next(
        kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn")
    )
    return torch_layer


def fx_leaf(layer: nn.Module, input: Any, hx: Any) -> Any:  # noqa: A002
    """One node in the graph of torch.fx.symbolic_trace, as for PyTorch's layers, which it
    recognises by the name of their Python module.
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
