"""Run all layers and directions of a recurrent stack over a full sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell import ops
from memorycell.cells import Tensors
from memorycell.nn.regularise import variational_dropout, weight_drop
from memorycell.ops.call import Call

if TYPE_CHECKING:
    from memorycell.nn.recurrent import Recurrent

Trace = tuple[dict[str, Tensor], ...]


def run_stack(
    layer: Recurrent,
    call: Call,
    x: Tensor,
    state: Tensors,
    lengths: Tensor | None,
    reset: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensors, Trace]:
    """(output, final state, trace); see `memorycell.ops.recurrence` for the shapes of one layer.

    state   h_0, and c_0 if the cell has one: [L·directions, B, H or P]; the final state likewise
    trace   one dict per layer and direction, in the order of h_n, each value [B, T, H]
    """
    finals: list[Tensors] = []
    traces: list[dict[str, Tensor]] = []
    calls = (call, replace(call, reverse=True)) if layer.bidirectional else (call,)
    for k in range(layer.num_layers):
        if k and layer.dropout:
            x = F.dropout(x, layer.dropout, layer.training)
        x = variational_dropout(x, layer.variational_dropout, layer.training, call.time)
        outputs = []
        for direction, directed in zip(layer.directions, calls, strict=True):
            params = layer.layer_parameters(k, direction)
            if layer.weight_drop:
                params["weight_hh"] = weight_drop(
                    params["weight_hh"], layer.weight_drop, layer.training
                )
            initial = tuple(s[len(finals)] for s in state)
            result = ops.recurrence(directed, x, params, initial, lengths, reset, backend)
            outputs.append(result.output)
            finals.append(result.state)
            if result.trace is not None:
                traces.append(_batch_first(result.trace) if call.time_first else result.trace)
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
    if len(finals) == 1:
        final = tuple(s[None] for s in finals[0])
    else:
        final = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    return x, final, tuple(traces)


def _batch_first(trace: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.transpose(0, 1) for name, value in trace.items()}
