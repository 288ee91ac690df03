"""Recurrent layers out of ONNX files: the LSTM, GRU and RNN operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.errors import UserError
from memorycell.exchange.onnx_layers import BLOCKS  # says what to install where onnx is missing
from memorycell.nn.layers import GRU, LSTM, RNN, Recurrent

import onnx  # isort: skip
from onnx import helper, numpy_helper  # isort: skip

KINDS: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
DIRECTIONS = {"forward": [""], "bidirectional": ["", "_reverse"]}


def from_onnx(path: str | Path) -> dict[str, Recurrent]:
    """The recurrent layers of an ONNX model by the names of their nodes (LSTM_0, … where they have
    none).

    A layer with peepholes becomes a `peephole` cell, one with input_forget a `coupled` cell. Layers
    read [T, B, I] as the operator does, [B, T, I] with layout=1. Other operators stay behind. A GRU
    with linear_before_reset=0 becomes a `gru_reset_before` cell.

    Raises `UserError` for a file that is not an ONNX model, weights that are not constants of the
    file, other activations, a clip, or a single direction backwards, naming the node.
    """
    path = Path(path)
    try:
        model = onnx.load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # protobuf's own kinds, which are not ours to name
        raise UserError(f"{path}: not an ONNX model ({str(error).splitlines()[0]})") from None
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    found: dict[str, Recurrent] = {}
    for node in model.graph.node:
        if node.op_type in KINDS:
            name = node.name or f"{node.op_type}_{len(found)}"
            try:
                found[name] = _convert(node, constants, f"{path}: node {name!r}")
            except (ValueError, RuntimeError, IndexError) as error:
                first = str(error).splitlines()[0]
                raise UserError(
                    f"{path}: node {name!r}: its weights do not fit each other ({first})"
                ) from None
    if not found:
        raise UserError(f"{path}: no LSTM, GRU or RNN operator in it; only these become layers")
    return found


def _convert(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], where: str) -> Recurrent:
    kind = node.op_type
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    direction = options.get("direction", b"forward").decode()
    coupled = bool(options.get("input_forget", 0))
    _check(kind, options, direction, where)
    arrays: dict[str, np.ndarray] = {}
    for place, key in ((1, "W"), (2, "R"), (3, "B"), (7, "P")):
        given = node.input[place] if place < len(node.input) else ""
        if given:
            if given not in constants:
                raise UserError(
                    f"{where}: {key} ({given!r}) is computed, not a constant of the file; fold"
                    " constants first"
                )
            arrays[key] = numpy_helper.to_array(constants[given]).astype(np.float32)
    if "P" in arrays and coupled:
        raise UserError(
            f"{where}: peepholes together with input_forget; memorycell has no such cell"
        )
    ends = DIRECTIONS[direction]
    arguments: dict[str, Any] = {
        "bias": "B" in arrays,
        "batch_first": bool(options.get("layout", 0)),
        "bidirectional": len(ends) == 2,
    }
    if kind == "LSTM":
        arguments["cell"] = "peephole" if "P" in arrays else "coupled" if coupled else "lstm"
    if kind == "GRU":
        arguments["cell"] = "gru" if options.get("linear_before_reset", 0) else "gru_reset_before"
    if kind == "RNN":
        arguments["nonlinearity"] = (options.get("activations") or [b"Tanh"])[0].decode().lower()
    size = int(options["hidden_size"]) if "hidden_size" in options else arrays["R"].shape[2]
    made = KINDS[kind](arrays["W"].shape[2], size, **arguments)
    inverse = np.argsort(BLOCKS[kind])

    def blocked(rows: np.ndarray) -> torch.Tensor:
        parts = np.split(rows, len(inverse))
        parts = [parts[k] for k in inverse]
        if coupled:  # f = 1 - i = σ(-a): the rows of f are those of i with the other sign
            parts = [-parts[0], parts[2], parts[3]]
        return torch.from_numpy(np.ascontiguousarray(np.concatenate(parts)))

    state: dict[str, torch.Tensor] = {}
    for d, end in enumerate(ends):
        state |= {
            f"weight_ih_l0{end}": blocked(arrays["W"][d]),
            f"weight_hh_l0{end}": blocked(arrays["R"][d]),
        }
        if "B" in arrays:
            ih, hh = np.split(arrays["B"][d], 2)
            state |= {f"bias_ih_l0{end}": blocked(ih), f"bias_hh_l0{end}": blocked(hh)}
        if "P" in arrays:
            p_i, p_o, p_f = np.split(arrays["P"][d], 3)
            state[f"weight_ch_l0{end}"] = torch.from_numpy(np.concatenate([p_i, p_f, p_o]))
    made.load_state_dict(state)
    return made


def _check(kind: str, options: dict[str, Any], direction: str, where: str) -> None:
    if direction not in DIRECTIONS:
        raise UserError(f"{where}: direction={direction!r}; forward and bidirectional can be read")
    activations = [a.decode() for a in options.get("activations", [])]
    known = [ACTIVATIONS[kind]] + ([["Relu"]] if kind == "RNN" else [])
    if activations and not any(activations == a * len(DIRECTIONS[direction]) for a in known):
        raise UserError(
            f"{where}: activations {', '.join(activations)}; memorycell's {kind} has"
            f" {', '.join(ACTIVATIONS[kind])}"
        )
    if "clip" in options:
        raise UserError(f"{where}: clip={options['clip']}; memorycell does not clip gates")
