"""Export a recurrent layer or a model to ONNX, with its state as inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from memorycell.exchange.onnx_graph import Graph
from memorycell.exchange.onnx_layers import write_stack
from memorycell.models.exporting import OnnxGraph, OnnxHead
from memorycell.models.model import Model, exported
from memorycell.nn.layers import Recurrent

import onnx  # isort: skip
from onnx import TensorProto, helper  # isort: skip

OPSET, IR_VERSION = 17, 9


def export(module: nn.Module, *, note: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """A recurrent layer or a model as an ONNX model, for any batch size and number of steps.

    Inputs: x [B, T, I] float32, or token ids x [B, T] int64; and the state by name (h, c, window),
    each [R, B, S] float32 as in `State`. Outputs, all float32: y [B, T, H] of a layer (directions
    concatenated), or the model's output (a forecaster's quantiles [B, T, horizon, targets, K] in
    scaled units, a language model's log_p [B, T, V]); and the new state, named h_n, c_n, window_n.
    The result has passed onnx's checker.

    note   JSON values for the file's metadata, under "memorycell"

    Raises ValueError for a model that cannot be exported, with the reason.
    """
    module = exported(module).eval()
    head = onnx_head(module)
    if isinstance(head, str):
        raise ValueError(f"export: {head}")
    sizes = {
        name: (int(t.shape[0]), int(t.shape[2]))
        for name, t in module.initial_state().asdict().items()  # type: ignore[operator]
        if t.shape[0]
    }
    graph = Graph()
    hidden, after = write_stack(graph, head.recurrent, head.write_input(graph, "x"))
    more = {name: name for name in sizes if name not in after}
    y, more_after = head.write_output(graph, "x", hidden, more)
    graph.output(y, head.output_name)
    for name, value in {**after, **more_after}.items():
        graph.output(value, f"{name}_n")

    info = helper.make_tensor_value_info
    inputs = [
        info("x", TensorProto.INT64, ["B", "T"])
        if head.tokens
        else info("x", TensorProto.FLOAT, ["B", "T", head.recurrent.input_size])
    ]
    outputs = [info(head.output_name, TensorProto.FLOAT, ["B", "T", *head.output_shape])]
    for name, (rows, size) in sizes.items():
        inputs.append(info(name, TensorProto.FLOAT, [rows, "B", size]))
        outputs.append(info(f"{name}_n", TensorProto.FLOAT, [rows, "B", size]))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "memorycell", inputs, outputs, graph.used_constants()),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="memorycell",
    )
    if note:
        helper.set_model_props(model, {"memorycell": json.dumps(note)})
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_head(module: nn.Module) -> OnnxHead | str:
    """The head of a recurrent layer or a model, or the reason why it cannot be exported. Raises
    TypeError for any other module.
    """
    if isinstance(module, Model):
        return module.onnx_head()
    if isinstance(module, Recurrent):
        return LayerOnnxHead(module)
    raise TypeError(f"export: expected a recurrent layer or a model, got {type(module).__name__}")


class LayerOnnxHead:
    """A recurrent layer alone: its hidden states are the output."""

    tokens = False
    output_name = "y"

    def __init__(self, recurrent: Recurrent) -> None:
        self.recurrent = recurrent
        self.output_shape: tuple[int, ...] = (recurrent.output_size * len(recurrent.directions),)

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """See `OnnxHead`."""
        return x

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """See `OnnxHead`."""
        return hidden, {}
