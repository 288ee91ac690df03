"""Import recurrent layers from ONNX files: the LSTM, GRU and RNN operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.errors import UserError
from memorycell.exchange.onnx_layers import BLOCKS  # first: names the extra if onnx is missing
from memorycell.nn.layers import GRU, LSTM, RNN, Recurrent

import onnx  # isort: skip
from onnx import helper, numpy_helper  # isort: skip

KINDS: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
DIRECTIONS = {"forward": [""], "bidirectional": ["", "_reverse"]}


def from_onnx(path: str | Path) -> dict[str, Recurrent]:
    """The recurrent layers of an ONNX model by node name (LSTM_0, … for nodes without one).

    An LSTM with peepholes becomes a `peephole` cell, with input_forget a `coupled` cell; a GRU with
    linear_before_reset=0 becomes a `gru_reset_before` cell. Layers read [T, B, I] as the operator
    does, or [B, T, I] with layout=1. Other operators are ignored.

    Raises `UserError`, naming the node, for a file that is not an ONNX model, weights that are not
    constants of the file, other activations, clipping, or direction=reverse.
    """
    path = Path(path)
    try:
        model = onnx.load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # protobuf raises types of its own
        raise UserError(f"{path}: not an ONNX model ({str(error).splitlines()[0]})") from None
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    layers: dict[str, Recurrent] = {}
    for node in model.graph.node:
        if node.op_type in KINDS:
            name = node.name or f"{node.op_type}_{len(layers)}"
            try:
                layers[name] = _convert(node, constants, f"{path}: node {name!r}")
            except UserError:
                raise
            except (ValueError, RuntimeError, IndexError) as error:
                first = str(error).splitlines()[0]
                raise UserError(
                    f"{path}: node {name!r}: inconsistent weight shapes ({first})"
                ) from None
    if not layers:
        raise UserError(
            f"{path}: contains no LSTM, GRU or RNN operator; only these can be imported"
        )
    return layers


def _convert(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], where: str) -> Recurrent:
    kind = node.op_type
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    direction = options.get("direction", b"forward").decode()
    coupled = bool(options.get("input_forget", 0))
    _check(kind, options, direction, where)
    arrays: dict[str, np.ndarray] = {}
    for index, key in ((1, "W"), (2, "R"), (3, "B"), (7, "P")):
        name = node.input[index] if index < len(node.input) else ""
        if name:
            if name not in constants:
                raise UserError(
                    f"{where}: {key} ({name!r}) is computed, not a constant of the file; fold"
                    " constants first"
                )
            arrays[key] = numpy_helper.to_array(constants[name]).astype(np.float32)
    if "P" in arrays and coupled:
        raise UserError(f"{where}: peepholes combined with input_forget are not supported")
    suffixes = DIRECTIONS[direction]
    arguments: dict[str, Any] = {
        "bias": "B" in arrays,
        "batch_first": bool(options.get("layout", 0)),
        "bidirectional": len(suffixes) == 2,
    }
    if kind == "LSTM":
        arguments["cell"] = "peephole" if "P" in arrays else "coupled" if coupled else "lstm"
    if kind == "GRU":
        arguments["cell"] = "gru" if options.get("linear_before_reset", 0) else "gru_reset_before"
    if kind == "RNN":
        arguments["nonlinearity"] = (options.get("activations") or [b"Tanh"])[0].decode().lower()
    size = int(options["hidden_size"]) if "hidden_size" in options else arrays["R"].shape[2]
    layer = KINDS[kind](arrays["W"].shape[2], size, **arguments)
    inverse = np.argsort(BLOCKS[kind])

    def in_torch_order(rows: np.ndarray) -> torch.Tensor:
        blocks = np.split(rows, len(inverse))
        blocks = [blocks[k] for k in inverse]
        if coupled:  # f = 1 - i = σ(-a): the rows of f are the negated rows of i
            blocks = [-blocks[0], blocks[2], blocks[3]]
        return torch.from_numpy(np.ascontiguousarray(np.concatenate(blocks)))

    state: dict[str, torch.Tensor] = {}
    for d, suffix in enumerate(suffixes):
        state |= {
            f"weight_ih_l0{suffix}": in_torch_order(arrays["W"][d]),
            f"weight_hh_l0{suffix}": in_torch_order(arrays["R"][d]),
        }
        if "B" in arrays:
            ih, hh = np.split(arrays["B"][d], 2)
            state |= {
                f"bias_ih_l0{suffix}": in_torch_order(ih),
                f"bias_hh_l0{suffix}": in_torch_order(hh),
            }
        if "P" in arrays:
            p_i, p_o, p_f = np.split(arrays["P"][d], 3)
            state[f"weight_ch_l0{suffix}"] = torch.from_numpy(np.concatenate([p_i, p_f, p_o]))
    layer.load_state_dict(state)
    return layer


def _check(kind: str, options: dict[str, Any], direction: str, where: str) -> None:
    if direction not in DIRECTIONS:
        raise UserError(
            f"{where}: direction={direction!r}: only forward and bidirectional are supported"
        )
    activations = [a.decode() for a in options.get("activations", [])]
    known = [ACTIVATIONS[kind]] + ([["Relu"]] if kind == "RNN" else [])
    if activations and not any(activations == a * len(DIRECTIONS[direction]) for a in known):
        raise UserError(
            f"{where}: activations {', '.join(activations)}: memorycell's {kind} has"
            f" {', '.join(ACTIVATIONS[kind])}"
        )
    if "clip" in options:
        raise UserError(f"{where}: clip={options['clip']}: memorycell does not clip gates")
