"""The peers that speed is compared with, on the same weights: PyTorch, with and without
torch.compile, ONNX Runtime, OpenVINO, and our reference implementation. The states of their
sessions are stored here, in numpy arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorycell.cells import CELLS
from memorycell.nn.layers import Recurrent

PEERS = ("torch", "compiled", "onnxruntime", "openvino", "reference")
TORCH_CELLS = ("lstm", "gru", "rnn")
"""The cells that PyTorch, ONNX Runtime and OpenVINO support."""

Peer = Callable[..., np.ndarray]
Run = Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]]
"""Inputs by name -> outputs in order: y, then the final states."""


def stateful_peer(name: str, cell: str, layer: Recurrent, sessions: int = 1) -> Peer | str:
    """A function (x [n, I], slots [n] int64 or None) -> y [n, H] that stores the states of its
    sessions, or the reason why the peer cannot run the layer.

    slots   the sessions to step; by default all, in order
    """
    state_names = CELLS[cell].state
    run = _supported_function(name, cell, layer)
    if isinstance(run, str):
        return run
    states = {n: np.zeros((1, sessions, layer.hidden_size), np.float32) for n in state_names}

    def step(x: np.ndarray, slots: np.ndarray | None = None) -> np.ndarray:
        x = x.reshape(1, -1, layer.input_size)
        if slots is None:
            y, *after = run({"x": x, **states})
            states.update(zip(state_names, after, strict=True))
            return y[0]
        y, *after = run({"x": x, **{n: v[:, slots] for n, v in states.items()}})
        for n, value in zip(state_names, after, strict=True):
            states[n][:, slots] = value
        return y[0]

    return step


def sequence_peer(name: str, cell: str, layer: Recurrent, batch: int) -> Peer | str:
    """A function x [T, B, I] -> y [T, B, H] from zero states, or the reason as `stateful_peer`."""
    run = _supported_function(name, cell, layer)
    if isinstance(run, str):
        return run
    zeros = np.zeros((1, batch, layer.hidden_size), np.float32)
    states = dict.fromkeys(CELLS[cell].state, zeros)
    return lambda x: run({"x": x, **states})[0]


def torch_layer(layer: Recurrent) -> torch.nn.Module:
    """PyTorch's own layer with the same weights."""
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[layer.cell]
    theirs = kind(layer.input_size, layer.hidden_size, batch_first=True)
    theirs.load_state_dict(layer.state_dict())
    return theirs


def _supported_function(name: str, cell: str, layer: Recurrent) -> Run | str:
    if name != "reference" and cell not in TORCH_CELLS:
        return "cell not supported"
    try:
        return _run_function(name, cell, layer)
    except ModuleNotFoundError as error:
        return f"not installed: pip install {error.name}"


def _run_function(name: str, cell: str, layer: Recurrent) -> Run:
    if name == "torch":
        return _torch_function(torch_layer(layer))
    if name == "compiled":
        theirs = torch_layer(layer)
        theirs.compile()
        return _torch_function(theirs)
    if name == "reference":
        return _torch_function(copy.deepcopy(layer), backend="reference")
    model = _onnx_model(cell, layer)
    return _onnxruntime_function(model) if name == "onnxruntime" else _openvino_function(model)


def _torch_function(module: Any, **options: Any) -> Run:
    module.batch_first = False

    def run(feed: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        x, *states = [torch.from_numpy(value) for value in feed.values()]
        with torch.inference_mode():
            y, after = module(x, states[0] if len(states) == 1 else tuple(states), **options)
        return [t.numpy() for t in (y, *((after,) if isinstance(after, Tensor) else after))]

    return run


def _onnxruntime_function(model: bytes) -> Run:
    import onnxruntime

    limits = onnxruntime.SessionOptions()
    limits.intra_op_num_threads = limits.inter_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, limits, providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(None, feed))


def _openvino_function(model: bytes) -> Run:
    import io

    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda feed: [np.array(value) for value in request.infer(feed).values()]


def _onnx_model(cell: str, layer: Recurrent) -> bytes:
    """The layer as one ONNX operator whose states are inputs and outputs, without other work."""
    from onnx import TensorProto, helper

    from memorycell.exchange.onnx_export import IR_VERSION, OPSET
    from memorycell.exchange.onnx_graph import Graph
    from memorycell.exchange.onnx_layers import write_operator

    graph, names, size = Graph(), CELLS[cell].state, layer.hidden_size
    params = layer.layer_parameters(0, "")
    y, after = write_operator(graph, layer, params, "x", {name: name for name in names})
    graph.output(y, "y")
    for name in names:
        graph.output(after[name], f"{name}_n")

    def info(name: str, width: int, first: int | str = 1) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [first, "B", width])

    inputs = [info("x", layer.input_size, "T"), *(info(name, size) for name in names)]
    outputs = [info("y", size, "T"), *(info(f"{name}_n", size) for name in names)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, cell, inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return bytes(model.SerializeToString())
