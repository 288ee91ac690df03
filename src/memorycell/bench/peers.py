"""Those that speed is compared with, each with the states of its sessions kept by hand: PyTorch,
ONNX Runtime, OpenVINO.
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

PLAIN = ("lstm", "gru", "rnn")
"""The cells they have."""


def keeping(name: str, cell: str, layer: Recurrent, sessions: int = 1) -> Any:
    """A function (x [n, I], slots=[0]) -> y [n, H] that keeps the states of sessions by hand, or
    why there is none.
    """
    states = CELLS[cell].state
    call: Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]]
    kept = {n: np.zeros((1, sessions, layer.hidden_size), np.float32) for n in states}
    if name in ("torch", "reference"):
        if name == "torch" and cell not in PLAIN:
            return "has no such cell"
        module = torchs(layer) if name == "torch" else copy.deepcopy(layer)
        options: dict[str, Any] = {} if name == "torch" else {"backend": "reference"}
        module.batch_first = False  # type: ignore[assignment]

        def run_torch(feed: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
            tensors = [torch.from_numpy(v) for v in feed.values()]
            with torch.inference_mode():
                y, after = module(
                    tensors[0], tensors[1] if len(states) == 1 else tuple(tensors[1:]), **options
                )
            return [t.numpy() for t in (y, *((after,) if isinstance(after, Tensor) else after))]

        call = run_torch
    else:
        if cell not in PLAIN:
            return "has no such cell"
        try:
            call = _runtime(name, _onnx(cell, layer))
        except ModuleNotFoundError as error:
            return f"not installed: pip install {error.name}"

    def step(x: np.ndarray, slots: np.ndarray | None = None) -> np.ndarray:
        x = x.reshape(1, -1, layer.input_size)
        if slots is None:
            y, *after = call({"x": x, **kept})
            kept.update(zip(states, after, strict=True))
            return y[0]
        y, *after = call({"x": x, **{n: v[:, slots] for n, v in kept.items()}})
        for n, value in zip(states, after, strict=True):
            kept[n][:, slots] = value
        return y[0]

    return step


def _runtime(name: str, model: bytes) -> Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]]:
    """ONNX Runtime or OpenVINO: inputs by name -> outputs in order."""
    if name == "onnxruntime":
        import onnxruntime

        limits = onnxruntime.SessionOptions()
        limits.intra_op_num_threads = limits.inter_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(model, limits, providers=["CPUExecutionProvider"])
        return lambda feed: list(session.run(None, feed))
    import io

    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(
        core.read_model(io.BytesIO(model)), "CPU", settings
    ).create_infer_request()
    return lambda feed: [np.array(value) for value in request.infer(feed).values()]


def _onnx(cell: str, layer: Recurrent) -> bytes:
    """The layer as one ONNX operator with its state as inputs and outputs, and nothing around it."""
    from onnx import TensorProto, helper

    from memorycell.exchange import onnx_export

    graph, names, size = onnx_export.Graph(), CELLS[cell].state, layer.hidden_size
    y, after = onnx_export.operator(
        graph, layer, layer.layer_parameters(0, ""), "x", {n: n for n in names}, False
    )
    graph.rename(y, "y")
    for name in names:
        graph.rename(after[name], f"{name}_n")
    info = helper.make_tensor_value_info
    state: dict[str, Sequence[str | int | None]] = {n: [1, "B", size] for n in names}
    made = helper.make_graph(
        graph.nodes,
        cell,
        [
            info("x", TensorProto.FLOAT, [1, "B", layer.input_size]),
            *(info(n, TensorProto.FLOAT, shape) for n, shape in state.items()),
        ],
        [
            info("y", TensorProto.FLOAT, [1, "B", size]),
            *(info(f"{n}_n", TensorProto.FLOAT, s) for n, s in state.items()),
        ],
        graph.constants,
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17)], ir_version=onnx_export.IR_VERSION
    )
    return bytes(model.SerializeToString())


def torchs(layer: Recurrent) -> torch.nn.Module:
    """PyTorch's own layer with the same weights."""
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[layer.cell]
    theirs = kind(layer.input_size, layer.hidden_size, batch_first=True)
    theirs.load_state_dict(layer.state_dict())
    return theirs
