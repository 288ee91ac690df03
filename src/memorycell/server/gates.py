"""Gates and cell states of single steps: the step runs a second time on PyTorch, with a trace.

The answer itself is the engine's; the gates equal the engine's up to rounding.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from memorycell.inspection.trace import LayerTrace, recurrent_layers, trace_layers
from memorycell.nn.conv import ConvRecurrent
from memorycell.streaming.stream import Stream

MAX_STEPS = 512
"""Of one request; of more, the last are given."""


class GateRecord:
    """The gates of the steps that a request runs; see `to_json`.

    complete   whether the session reads its complete input again at every item
    """

    def __init__(self, *, complete: bool = False) -> None:
        self._layers: list[dict[str, Any]] = []
        self._steps: list[np.ndarray] = []  # [T, values]
        self._items: list[int] = []  # steps of each item
        self._taken = 0
        self.complete = complete

    def step(self, stream: Stream, x: np.ndarray) -> None:
        """Record the step of a stream that is about to be taken: x [I] or [T, I]."""
        traces = trace_step(stream.module, stream.state, x)
        self.add(traces)

    def add(self, traces: list[LayerTrace]) -> None:
        """Record the traces of a run with one sequence."""
        traces = [trace for trace in traces if not trace.reverse]
        if not traces:
            return
        layers = [
            {"name": trace.name, "units": trace.units, "names": list(trace.gates)}
            for trace in traces
        ]
        if layers != self._layers:
            self._layers, self._steps = layers, []
        steps = min(trace.steps for trace in traces)
        values = [
            gate[0, :steps].float().numpy() for trace in traces for gate in trace.gates.values()
        ]
        self._steps.append(np.concatenate(values, 1)[-MAX_STEPS:])
        self._taken += steps

    def end_item(self) -> None:
        """The steps since the last call were those of one item. Of a session that reads its
        complete input again, those of the items before are forgotten.
        """
        if self.complete and self._taken:
            self._steps = self._steps[-1:]
        self._items.append(self._taken)
        self._taken = 0

    @contextmanager
    def tracing(self, module: nn.Module) -> Iterator[None]:
        """Record what a module runs inside the `with`."""
        if not recurrent_layers(module):
            yield
            return
        with torch.no_grad(), trace_layers(module) as traces:
            yield
        self.add([trace for trace in traces if trace.gates["h"].shape[0] == 1])

    def to_json(self) -> dict[str, Any] | None:
        """`{"layers": [{"name", "units", "names"}], "steps", "data"}`; the data are base64 text of
        float32 (little endian), [steps, values]: for each layer and name its units. Of several
        items also "items", the steps of each. None where nothing was recorded.
        """
        if not self._steps:
            return None
        values = np.concatenate(self._steps)[-MAX_STEPS:]
        gates: dict[str, Any] = {
            "layers": self._layers,
            "steps": len(values),
            "data": base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode(),
        }
        if len(self._items) > 1:
            gates["items"] = self._items
        if self.complete:
            gates["complete"] = True
        return gates


@torch.no_grad()
def trace_step(module: nn.Module, state: Any, x: np.ndarray) -> list[LayerTrace]:
    """The traces of the steps x [I] or [T, I] from a state of one sequence; none for a module
    without gates. Of convolutional layers each channel is a unit: its mean over the grid.
    """
    inputs = torch.from_numpy(np.ascontiguousarray(np.atleast_2d(x), np.float32))
    batch_first = bool(getattr(module, "batch_first", True))
    inputs = inputs[None] if batch_first else inputs[:, None]
    given = state if len(state) > 1 else state[0]
    if recurrent_layers(module):
        with trace_layers(module) as traces:
            module(inputs, given)
        return traces
    layers = conv_layers(module)
    if not layers:
        return []
    *_, gates = module(inputs, given, trace=True)
    name, layer = next(iter(layers.items()))
    return [
        LayerTrace(
            f"{name or 'the layer'} {k + 1}",
            cast(Any, layer),
            k,
            False,
            {gate: value.mean((-2, -1)) for gate, value in each.items()},
            inputs,
        )
        for k, each in enumerate(gates)
    ]


def conv_layers(module: nn.Module) -> dict[str, ConvRecurrent]:
    """The convolutional recurrent layers of a module by name."""
    found = module.named_modules()
    return {name: part for name, part in found if isinstance(part, ConvRecurrent)}


def has_gates(module: nn.Module) -> bool:
    """Whether the steps of a module can be watched."""
    return bool(recurrent_layers(module)) or bool(conv_layers(module))
