"""Model files, and recurrent layers from files of other libraries, as models to serve."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from memorycell.errors import UserError
from memorycell.face.trained import load
from memorycell.nn.adopt import view
from memorycell.nn.layers import Recurrent
from memorycell.server.served import ServedModel, served_file, served_module

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
GATE_BLOCKS: dict[int, Any] = {1: nn.RNN, 3: nn.GRU, 4: nn.LSTM}
"""Rows of weight_hh_l0 per unit -> layer of PyTorch."""


@dataclass(frozen=True)
class Source:
    """A file to serve under a name."""

    name: str
    path: Path
    kind: Literal["file", "module"]

    @classmethod
    def parse(cls, text: str, kind: Literal["file", "module"]) -> Source:
        """From FILE or NAME=FILE; the name is by default that of the file. Raises `UserError`."""
        name, equals, path = text.rpartition("=")
        if not equals or "/" in name:
            name, path = "", text
        name = name or re.sub(r"[^A-Za-z0-9_.-]", "-", Path(path).stem)
        if not NAME.fullmatch(name):
            raise UserError(f"{text}: not a name; use letters, digits, _ . -, as in NAME=FILE")
        return cls(name, Path(path), kind)

    def load(self, version: int) -> ServedModel:
        """Read the file. Raises `UserError`."""
        if self.kind == "file":
            return served_file(self.name, version, load(self.path), self.path)
        return served_module(self.name, version, load_module(self.path), self.path)


def load_module(path: Path) -> Recurrent:
    """The recurrent layers of a file: ONNX or Keras with one recurrent layer, or the weights of an
    LSTM, a GRU or an RNN of PyTorch in safetensors or in a file that `torch.save` wrote.

    Nothing in the file is executed. Raises `UserError`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from memorycell.exchange.onnx_import import from_onnx

        return _only(path, from_onnx(path))
    if suffix == ".keras":
        from memorycell.exchange.keras_import import from_keras

        return _only(path, from_keras(path))
    return _from_weights(path, _read_weights(path))


def _only(path: Path, layers: Mapping[str, nn.Module]) -> Recurrent:
    if len(layers) != 1:
        raise UserError(
            f"{path}: holds {len(layers)} recurrent layers ({', '.join(layers)}); serve a file with"
            " one"
        )
    (layer,) = layers.values()
    if not isinstance(layer, Recurrent):
        raise UserError(
            f"{path}: a {type(layer).__name__} has no steps of vectors; it cannot run live"
        )
    return layer.eval()


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix.lower() == ".safetensors":
            import safetensors.torch

            return safetensors.torch.load(path.read_bytes())
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library raises types of its own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a file of weights ({first})") from None
    if not isinstance(weights, Mapping) or not all(
        isinstance(value, Tensor) for value in weights.values()
    ):
        raise UserError(f"{path}: not a file of weights; save layer.state_dict()")
    return weights


def _from_weights(path: Path, weights: Mapping[str, Tensor]) -> Recurrent:
    """The layers whose `state_dict` has these names and shapes."""
    try:
        weight_ih, weight_hh = weights["weight_ih_l0"], weights["weight_hh_l0"]
        hidden = weight_hh.shape[1]
        proj = weights.get("weight_hr_l0")
        units = hidden if proj is None else proj.shape[1]
        kind = GATE_BLOCKS[weight_hh.shape[0] // units]
        layers = sum(name.startswith("weight_ih_l") for name in weights)
        if any(name.endswith("_reverse") for name in weights):
            raise UserError(f"{path}: a bidirectional layer needs the future and cannot run live")
        options = {} if proj is None else {"proj_size": hidden}
        module = kind(
            weight_ih.shape[1],
            units,
            layers,
            bias="bias_ih_l0" in weights,
            batch_first=True,
            **options,
        )
        module.load_state_dict({name: value.float() for name, value in weights.items()})
    except UserError:
        raise
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not the weights of an LSTM, a GRU or an RNN of PyTorch"
            f" ({str(error).splitlines()[0]})"
        ) from None
    return view(module.eval())
