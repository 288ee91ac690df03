"""Import recurrent layers from Keras 3 files (.keras): LSTM, GRU, SimpleRNN, Bidirectional around
them, and ConvLSTM2D.

A .keras file is a zip archive: config.json describes the layers, model.weights.h5 holds their
arrays in groups whose `vars` have the layer's name as an attribute. Nothing in it is executed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.errors import UserError
from memorycell.exchange.keras_conv import CONV_KIND, convert_conv
from memorycell.nn.conv import ConvRecurrent
from memorycell.nn.layers import GRU, LSTM, RNN, Recurrent

KINDS: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "SimpleRNN": RNN}
ORDER = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}
"""Keras orders the LSTM's blocks as torch does (i, f, c, o), and the GRU's z, r, h: the index in
Keras's order of each of torch's blocks.
"""
UNSUPPORTED = (
    "RNN",
    "StackedRNNCells",
    "ConvLSTM1D",
    "ConvLSTM3D",
    "LSTMCell",
    "GRUCell",
    "SimpleRNNCell",
)


def from_keras(path: str | Path) -> dict[str, Recurrent | ConvRecurrent]:
    """The recurrent layers of a Keras 3 model by name, with their weights, batch first, in one or
    two directions; a ConvLSTM2D as a `ConvLSTM`.

    Other layers (Dense, Embedding, Dropout, …) are ignored, and so are a layer's dropout, masks,
    `stateful` and `return_sequences`: the imported layers return every step.

    Raises `UserError`, naming the layer, for a file that is not a Keras 3 model, an unsupported
    recurrent layer (ConvLSTM1D, an RNN of custom cells), or other activations.
    """
    path = Path(path)
    try:
        import h5py
    except ModuleNotFoundError:
        raise UserError("from_keras needs h5py: pip install 'memorycell[keras]'") from None
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path}: not a Keras 3 model ({error}); save it with model.save('model.keras')"
        ) from None
    layers: dict[str, Recurrent | ConvRecurrent] = {}
    with weights:
        groups: dict[str, Any] = {}
        weights.visititems(lambda name, item: _add_group(groups, name, item))
        for layer in _recurrent_layers(config, str(path)):
            name = layer["config"]["name"]
            if name in layers:
                raise UserError(f"{path}: two layers are named {name!r}; rename one")
            try:
                layers[name] = _convert(layer, groups[name], f"{path}: layer {name!r}")
            except UserError:
                raise
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise UserError(
                    f"{path}: layer {name!r}: weights are missing or have the wrong shape"
                    f" ({str(error).splitlines()[0]})"
                ) from None
    if not layers:
        raise UserError(
            f"{path}: contains no recurrent layer (LSTM, GRU, SimpleRNN, Bidirectional, ConvLSTM2D)"
        )
    return layers


def _add_group(groups: dict[str, Any], name: str, item: Any) -> None:
    if name.endswith("/vars") and "name" in item.attrs:
        groups.setdefault(str(item.attrs["name"]), item.parent)


def _recurrent_layers(part: Any, where: str) -> Iterator[Mapping[str, Any]]:
    """The descriptions of all recurrent layers, also those of nested models."""
    if isinstance(part, list):
        for each in part:
            yield from _recurrent_layers(each, where)
    elif isinstance(part, Mapping):
        kind = part.get("class_name")
        if kind in UNSUPPORTED:
            raise UserError(
                f"{where}: layer {part['config'].get('name', kind)!r}: memorycell has no {kind}; "
                "LSTM, GRU, SimpleRNN, Bidirectional around them and ConvLSTM2D are supported"
            )
        if kind in KINDS or kind in ("Bidirectional", CONV_KIND):
            yield part
        else:
            for each in part.values():
                yield from _recurrent_layers(each, where)


def _convert(layer: Mapping[str, Any], group: Any, where: str) -> Recurrent | ConvRecurrent:
    if layer["class_name"] == CONV_KIND:
        return convert_conv(layer["config"], group, where)
    outer, inner, parts = layer["config"], layer, {"": group}
    bidirectional = layer["class_name"] == "Bidirectional"
    if bidirectional:
        if outer["merge_mode"] != "concat":
            raise UserError(
                f"{where}: merge_mode={outer['merge_mode']!r}: only 'concat' is supported"
            )
        inner = outer["layer"]
        parts = {"": group["forward_layer"], "_reverse": group["backward_layer"]}
    kind, config = inner["class_name"], inner["config"]
    if kind not in KINDS:
        raise UserError(f"{where}: Bidirectional({kind}) is not supported")
    _check(kind, config, where)
    arrays = {suffix: _arrays(kind, part) for suffix, part in parts.items()}
    size = arrays[""]["weight_hh"].shape[1]
    if config["units"] != size:
        raise ValueError(f"units={config['units']}, but the weights have {size}")
    options: dict[str, Any] = {"nonlinearity": config["activation"]} if kind == "SimpleRNN" else {}
    if kind == "GRU" and not config["reset_after"]:
        options["cell"] = "gru_reset_before"
    module = KINDS[kind](
        arrays[""]["weight_ih"].shape[1],
        size,
        bias=config["use_bias"],
        batch_first=True,
        bidirectional=bidirectional,
        **options,
    )
    state = {
        f"{name}_l0{suffix}": torch.from_numpy(array.copy())
        for suffix, own in arrays.items()
        for name, array in own.items()
    }
    module.load_state_dict(state)
    return module


def _check(kind: str, config: Mapping[str, Any], where: str) -> None:
    supported: dict[str, tuple[Any, ...]] = {
        "activation": ("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)
    }
    if kind != "SimpleRNN":
        supported["recurrent_activation"] = ("sigmoid",)
    supported["go_backwards"] = (False,)
    for key, values in supported.items():
        if config.get(key, values[0]) not in values:
            raise UserError(
                f"{where}: {key}={config[key]!r}: memorycell's {kind} has"
                f" {' or '.join(map(repr, values))}"
            )


def _arrays(kind: str, group: Any) -> dict[str, np.ndarray]:
    """Weights in torch's names and layout. A Keras kernel is [I, G·H], a GRU's bias [2, 3·H]."""
    variables = group["cell"]["vars"]
    kernel, recurrent = (np.asarray(variables[str(k)], np.float32) for k in (0, 1))

    def in_torch_order(rows: np.ndarray) -> np.ndarray:
        blocks = np.split(rows, len(ORDER[kind]))
        return np.concatenate([blocks[k] for k in ORDER[kind]])

    arrays = {"weight_ih": in_torch_order(kernel.T), "weight_hh": in_torch_order(recurrent.T)}
    if "2" in variables:
        bias = np.asarray(variables["2"], np.float32)
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        arrays |= {"bias_ih": in_torch_order(both[0]), "bias_hh": in_torch_order(both[1])}
    return arrays
