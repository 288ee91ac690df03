"""Trace the recurrent layers inside any PyTorch model: every gate and state at every step.

Inside `with trace_layers(model)` each recurrent layer (ours or torch's) runs with `trace=True` on
the same parameters. The model's code is unchanged and gets the same outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from memorycell.nn.adopt import view
from memorycell.nn.layers import Recurrent

TORCH_LAYERS = (nn.LSTM, nn.GRU, nn.RNN)


@dataclass
class LayerTrace:
    """Trace of one layer in one direction.

    name      path in the model, e.g. "encoder layer 2 backwards"
    module    the stack it belongs to, as one of ours, sharing the parameters
    index     number of the layer in the stack, from 0; `reverse`: its direction
    gates     name -> [B, T, H]: the cell's gates after activation, c if the cell has one, and h.
              Calls with one step each are concatenated along T. With gradients if the model ran
              with gradients
    inputs    [B, T, I]: input of the stack
    """

    name: str
    module: Recurrent
    index: int
    reverse: bool
    gates: dict[str, Tensor]
    inputs: Tensor

    @property
    def steps(self) -> int:
        """T."""
        return self.gates["h"].shape[1]

    @property
    def units(self) -> int:
        """H, or the projection size."""
        return self.gates["h"].shape[2]


def recurrent_layers(model: nn.Module) -> dict[str, nn.RNNBase]:
    """The recurrent layers of a model by name, ours and torch's."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (Recurrent, *TORCH_LAYERS))
    }


@contextmanager
def trace_layers(model: nn.Module) -> Iterator[list[LayerTrace]]:
    """Trace every recurrent layer of a model while it runs inside the `with`. The list is filled on
    exit.

    Works in training and evaluation mode, and records the actual run, dropout included. Raises
    ValueError for a model without recurrent layers.
    """
    modules = recurrent_layers(model)
    if not modules:
        raise ValueError(
            f"inspect: no recurrent layer in {type(model).__name__}; expected LSTM, GRU or RNN"
            " layers, ours or torch's"
        )
    calls: dict[str, list[tuple[Any, Tensor]]] = {name: [] for name in modules}
    views = {name: view(module) for name, module in modules.items()}

    def traced_forward(name: str, original: nn.Module) -> Any:
        layer: Any = views[name]

        def forward(*args: Any, **kwargs: Any) -> Any:
            layer.train(original.training)
            output, state, trace = type(layer).forward(layer, *args, **{**kwargs, "trace": True})
            calls[name].append((trace, _batch_first(layer, args[0] if args else kwargs["input"])))
            return (output, state, trace) if kwargs.get("trace", False) else (output, state)

        return forward

    traces: list[LayerTrace] = []
    try:
        for name, module in modules.items():
            module.forward = traced_forward(name, module)
        yield traces
    finally:
        for module in modules.values():
            del module.__dict__["forward"]
    for name, module_calls in calls.items():
        traces += _concatenate(name, views[name], module_calls)


def _concatenate(name: str, module: Recurrent, calls: list[tuple[Any, Tensor]]) -> list[LayerTrace]:
    """The calls of a module along T; calls whose batch size differs from the last are dropped."""
    calls = [call for call in calls if call[1].shape[0] == calls[-1][1].shape[0]]
    if not calls:
        return []
    inputs = torch.cat([x for _, x in calls], 1)
    traces = []
    for row in range(module.num_layers * len(module.directions)):
        index, direction = divmod(row, len(module.directions))
        gates = {
            gate: torch.cat([trace[row][gate] for trace, _ in calls], 1)
            for gate in calls[0][0][row]
        }
        title = name or "the layer"
        if module.num_layers > 1:
            title = f"{name} layer {index + 1}".strip()
        if direction:
            title += " backwards"
        traces.append(LayerTrace(title, module, index, bool(direction), gates, inputs))
    return traces


def _batch_first(layer: Recurrent, value: Any) -> Tensor:
    """The input of a call as [B, T, I]."""
    if isinstance(value, PackedSequence):
        return pad_packed_sequence(value, batch_first=True)[0].detach()
    x: Tensor = value.detach()
    if x.ndim == 2:
        return x[None]
    return x if layer.batch_first else x.transpose(0, 1)
