"""What the recurrent layers inside any PyTorch model do while it runs: every gate and state of
every step.

For the time of a `with recording(model)`, each recurrent layer (ours or torch's) runs with
`trace=True` on the same parameters and hands out what its gates did; the model's own code does not
change and sees the same outputs.
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

TORCHS = (nn.LSTM, nn.GRU, nn.RNN)


@dataclass
class Recorded:
    """One layer in one direction.

    name     where it stands in the model, e.g. "encoder layer 2 backwards"
    layer    the module it belongs to, one of ours; `place` is its number there, `reverse` its
             direction
    gates    name -> [B, T, H]: the cell's gates after activation, c where it has one, and h; calls
             a step at a time follow one another along T. With gradients, if the model ran with
             gradients
    inputs   [B, T, I]: what the module was given (of its first layer)
    """

    name: str
    layer: Recurrent
    place: int
    reverse: bool
    gates: dict[str, Tensor]
    inputs: Tensor


def recurrent_layers(model: nn.Module) -> dict[str, nn.RNNBase]:
    """The recurrent layers of a model by name, ours and torch's."""
    return {name: m for name, m in model.named_modules() if isinstance(m, (Recurrent, *TORCHS))}


@contextmanager
def recording(model: nn.Module) -> Iterator[list[Recorded]]:
    """Record every layer while the model runs inside the `with`; the list is filled at its end.

    In training as in evaluation; what is recorded is what ran, dropout included. Raises ValueError
    for a model without recurrent layers.
    """
    found = recurrent_layers(model)
    if not found:
        raise ValueError(
            f"inspect: no recurrent layer in {type(model).__name__}; it looks into LSTM, GRU and"
            " RNN layers, ours or torch's"
        )
    calls: dict[str, list[tuple[Any, Tensor]]] = {name: [] for name in found}
    ours = {name: view(module) for name, module in found.items()}

    def traced(name: str, original: nn.Module) -> Any:
        layer: Any = ours[name]

        def forward(*args: Any, **kwargs: Any) -> Any:
            layer.train(original.training)
            output, state, trace = type(layer).forward(layer, *args, **{**kwargs, "trace": True})
            calls[name].append((trace, _batch_first(layer, args[0] if args else kwargs["input"])))
            asked = kwargs.get("trace", False)
            return (output, state, trace) if asked else (output, state)

        return forward

    recorded: list[Recorded] = []
    try:
        for name, module in found.items():
            module.forward = traced(name, module)
        yield recorded
    finally:
        for module in found.values():
            del module.__dict__["forward"]
    for name, entries in calls.items():
        recorded += _joined(name, ours[name], entries)


def _joined(name: str, layer: Recurrent, entries: list[tuple[Any, Tensor]]) -> list[Recorded]:
    """The calls of a module one after another, as far as their batch sizes agree with the last."""
    entries = [e for e in entries if e[1].shape[0] == entries[-1][1].shape[0]]
    if not entries:
        return []
    inputs = torch.cat([x for _, x in entries], 1)
    result = []
    for row in range(layer.num_layers * len(layer.directions)):
        place, direction = divmod(row, len(layer.directions))
        gates = {
            gate: torch.cat([trace[row][gate] for trace, _ in entries], 1)
            for gate in entries[0][0][row]
        }
        several = layer.num_layers > 1
        title = f"{name} layer {place + 1}".strip() if several else name or "the layer"
        title += " backwards" if direction else ""
        result.append(Recorded(title, layer, place, bool(direction), gates, inputs))
    return result


def _batch_first(layer: Recurrent, given: Any) -> Tensor:
    if isinstance(given, PackedSequence):
        return pad_packed_sequence(given, batch_first=True)[0].detach()
    x: Tensor = given.detach()
    x = x[None] if x.ndim == 2 else x
    return x if layer.batch_first or given.ndim == 2 else x.transpose(0, 1)
