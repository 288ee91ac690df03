"""Recurrent layers as ONNX nodes.

Cells that ONNX defines become its operators (LSTM with peepholes and with coupled gates, GRU, RNN).
Other cells, and layers with zoneout or a projection, become a Scan whose body is the cell's
equation: the function in `cells.py`, run on symbolic tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memorycell.cells import CELLS
from memorycell.exchange.onnx_graph import Graph, SymbolicTensor
from memorycell.nn.layers import Recurrent

import onnx  # isort: skip
from onnx import TensorProto, helper  # isort: skip

OPERATORS = {
    "lstm": "LSTM",
    "peephole": "LSTM",
    "coupled": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU",
    "rnn": "RNN",
    "rnn_relu": "RNN",
}
BLOCKS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""ONNX orders the LSTM's blocks i, o, f, c and the GRU's z, r, h: the index of each of its blocks
in torch's order.
"""


def write_stack(graph: Graph, module: Recurrent, x: str) -> tuple[str, dict[str, str]]:
    """All layers and directions, from the state inputs "h" and "c".

    x [B, T, input_size] -> (hidden states [B, T, directions·H] of the last layer, the final state
    tensors by name)
    """
    names = CELLS[module.cell].state
    rows = module.num_layers * len(module.directions)
    states = {
        name: [name] if rows == 1 else graph.split(name, 0, [1] * rows) for name in names
    }  # each [1, B, S]
    x = graph.op("Transpose", x, perm=[1, 0, 2])
    final: dict[str, list[str]] = {name: [] for name in names}
    native = module.cell in OPERATORS and not any(module.zoneout) and not module.proj_size
    write = write_operator if native else write_scan
    for layer in range(module.num_layers):
        outputs = []
        for d, direction in enumerate(module.directions):
            row = layer * len(module.directions) + d
            params = {n: p.detach() for n, p in module.layer_parameters(layer, direction).items()}
            state = {name: states[name][row] for name in names}
            y, after = write(graph, module, params, x, state, reverse=bool(d))
            outputs.append(y)
            for name in names:
                final[name].append(after[name])
        x = outputs[0] if len(outputs) == 1 else graph.op("Concat", *outputs, axis=2)
    return graph.op("Transpose", x, perm=[1, 0, 2]), {
        name: values[0] if rows == 1 else graph.op("Concat", *values, axis=0)
        for name, values in final.items()
    }


def write_operator(
    graph: Graph,
    module: Recurrent,
    params: dict[str, Tensor],
    x: str,
    state: dict[str, str],
    *,
    reverse: bool = False,
) -> tuple[str, dict[str, str]]:
    """One layer in one direction as an ONNX operator.

    x [T, B, I], state tensors [1, B, S] by name -> (hidden states [T, B, H], final state tensors)
    """
    cell, kind, hidden_size = module.cell, OPERATORS[module.cell], module.hidden_size

    def in_onnx_order(rows: Tensor) -> Tensor:
        blocks = rows.split(hidden_size)
        if cell == "coupled":  # i = 1 - σ(a) = σ(-a), and with input_forget f = 1 - i
            blocks = (-blocks[0], blocks[0], blocks[1], blocks[2])
        return torch.cat([blocks[k] for k in BLOCKS[kind]])

    zero = params["weight_ih"].new_zeros(len(params["weight_ih"]))
    bias = torch.cat([in_onnx_order(params[name] + zero) for name in ("bias_ih", "bias_hh")])
    inputs = [
        x,
        graph.constant(in_onnx_order(params["weight_ih"])[None], "W_ih"),
        graph.constant(in_onnx_order(params["weight_hh"])[None], "W_hh"),
        graph.constant(bias[None], "B"),
        "",  # sequence lengths
        *state.values(),
    ]
    options: dict[str, Any] = {"hidden_size": hidden_size}
    options["direction"] = "reverse" if reverse else "forward"
    if cell == "peephole":  # in ONNX's order i, o, f
        w_ci, w_cf, w_co = params["weight_ch"].chunk(3)
        inputs.append(graph.constant(torch.cat([w_ci, w_co, w_cf])[None], "P"))
    if cell == "coupled":
        options["input_forget"] = 1
    if cell == "gru":
        options["linear_before_reset"] = 1
    if kind == "RNN":
        options["activations"] = ["Relu" if cell == "rnn_relu" else "Tanh"]
    y, *after = graph.ops(kind, *inputs, outputs=1 + len(state), **options)
    return graph.op("Squeeze", y, graph.constant([1])), dict(zip(state, after, strict=True))


def write_scan(
    graph: Graph,
    module: Recurrent,
    params: dict[str, Tensor],
    x: str,
    state: dict[str, str],
    *,
    reverse: bool = False,
) -> tuple[str, dict[str, str]]:
    """The same as a Scan over the cell's equation, for every cell, with zoneout and projection."""
    cell = CELLS[module.cell]
    rows = len(params["weight_ih"])
    # The equations are typed for tensors; symbolic tensors are Any to the type checker.
    shapes = module.state_shapes(1)
    sizes = {name: shapes[name][2] for name in state}
    outer: Any = {
        n: SymbolicTensor(graph, graph.constant(p, n), tuple(p.shape)) for n, p in params.items()
    }
    columns = params["weight_ih"].shape[1]
    x_part: Any = SymbolicTensor(graph, x, (0, 0, columns))
    if cell.reads_input:
        rows = columns
    else:
        weight_ih = graph.constant(params["weight_ih"].T, "W_ih")
        product: Any = SymbolicTensor(graph, graph.op("MatMul", x, weight_ih), (0, 0, rows))
        x_part = cell.input_transform(product, outer)

    body = Graph(prefix="step_")
    before: dict[str, Any] = {
        name: SymbolicTensor(body, body.name(name), (0, sizes[name])) for name in state
    }
    step_x: Any = SymbolicTensor(body, body.name("x_part"), (0, rows))
    h_part: Any = before["h"]
    if cell.recurrent and not cell.reads_input:
        weight_hh = graph.constant(params["weight_hh"].T, "W_hh")
        h_part = SymbolicTensor(body, body.op("MatMul", before["h"].name, weight_hh), (0, rows))
    inner: Any = {n: SymbolicTensor(body, p.name, p.shape) for n, p in outer.items()}
    new, _ = cell.step(step_x, h_part, tuple(before.values()), inner)
    after: dict[str, Any] = dict(zip(state, new, strict=True))
    if "weight_hr" in params:
        weight_hr = graph.constant(params["weight_hr"].T, "W_hr")
        projected = body.op("MatMul", after["h"].name, weight_hr)
        after["h"] = SymbolicTensor(body, projected, before["h"].shape)
    if any(module.zoneout):
        rates = dict(zip(state, module.zoneout, strict=False))
        after = {n: before[n] * rates[n] + value * (1 - rates[n]) for n, value in after.items()}
    outputs = {name: body.op("Identity", value.name) for name, value in after.items()}
    y = body.op("Identity", outputs["h"])

    def info(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", size])

    step = helper.make_graph(
        body.nodes,
        "step",
        [*(info(s.name, sizes[n]) for n, s in before.items()), info(step_x.name, rows)],
        [*(info(outputs[n], sizes[n]) for n in state), info(y, sizes["h"])],
        body.constants,
    )
    axis = graph.constant([0])
    start = [graph.op("Squeeze", value, axis) for value in state.values()]
    *final, hidden = graph.ops(
        "Scan",
        *start,
        x_part.name,
        outputs=len(state) + 1,
        body=step,
        num_scan_inputs=1,
        scan_input_directions=[int(reverse)],
        scan_output_directions=[int(reverse)],
    )
    return hidden, {
        n: graph.op("Unsqueeze", value, axis) for n, value in zip(state, final, strict=True)
    }
