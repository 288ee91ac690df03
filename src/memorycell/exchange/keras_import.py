"""Recurrent layers out of Keras 3 files (.keras): LSTM, GRU, SimpleRNN, and Bidirectional around
them.

A .keras file is a zip archive: config.json says what the layers are, model.weights.h5 holds their
arrays under groups whose `vars` carry the layer's name. Nothing in it is executed.
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
from memorycell.nn.layers import GRU, LSTM, RNN, Recurrent

KINDS: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "SimpleRNN": RNN}
ORDER = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}
"""Keras keeps the LSTM's blocks as torch does (i, f, c, o) and the GRU's as z, r, h."""
UNKNOWN = (
    "RNN",
    "StackedRNNCells",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "LSTMCell",
    "GRUCell",
    "SimpleRNNCell",
)


def from_keras(path: str | Path) -> dict[str, Recurrent]:
    """The recurrent layers of a Keras 3 model by name, with their weights: batch-first layers of
    one direction or two.

    Layers that are not recurrent (Dense, Embedding, Dropout, …) stay behind. What Keras does around
    a layer is not carried over: dropout, masks, `stateful`, and `return_sequences`: ours always
    give every step.

    Raises `UserError` for a file that is not a Keras 3 model, a recurrent layer we do not have
    (ConvLSTM2D, an RNN of cells of one's own) or one with other activations, naming the layer.
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
    found: dict[str, Recurrent] = {}
    with weights:
        groups: dict[str, Any] = {}
        weights.visititems(lambda name, item: _remember(groups, name, item))
        for layer in _recurrent(config, str(path)):
            name = layer["config"]["name"]
            if name in found:
                raise UserError(f"{path}: two layers are called {name!r}; rename one")
            try:
                found[name] = _convert(layer, groups[name], f"{path}: layer {name!r}")
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise UserError(
                    f"{path}: layer {name!r}: its weights are missing or misshapen"
                    f" ({str(error).splitlines()[0]})"
                ) from None
    if not found:
        raise UserError(f"{path}: no recurrent layer in it (LSTM, GRU, SimpleRNN, Bidirectional)")
    return found


def _remember(groups: dict[str, Any], name: str, item: Any) -> None:
    if name.endswith("/vars") and "name" in item.attrs:
        groups.setdefault(str(item.attrs["name"]), item.parent)


def _recurrent(part: Any, where: str) -> Iterator[Mapping[str, Any]]:
    """The descriptions of all recurrent layers, also inside models inside models."""
    if isinstance(part, list):
        for each in part:
            yield from _recurrent(each, where)
    elif isinstance(part, Mapping):
        kind = part.get("class_name")
        if kind in UNKNOWN:
            raise UserError(
                f"{where}: layer {part['config'].get('name', kind)!r}: memorycell has no {kind}; "
                "LSTM, GRU, SimpleRNN and Bidirectional around them can be read"
            )
        if kind in KINDS or kind == "Bidirectional":
            yield part
        else:
            for each in part.values():
                yield from _recurrent(each, where)


def _convert(layer: Mapping[str, Any], group: Any, where: str) -> Recurrent:
    outer, inner, parts = layer["config"], layer, {"": group}
    bidirectional = layer["class_name"] == "Bidirectional"
    if bidirectional:
        if outer["merge_mode"] != "concat":
            raise UserError(
                f"{where}: merge_mode={outer['merge_mode']!r}; ours lays directions side by side"
                " ('concat')"
            )
        inner = outer["layer"]
        parts = {"": group["forward_layer"], "_reverse": group["backward_layer"]}
    kind, config = inner["class_name"], inner["config"]
    if kind not in KINDS:
        raise UserError(f"{where}: memorycell has no Bidirectional({kind})")
    _check(kind, config, where)
    arrays = {end: _arrays(kind, part) for end, part in parts.items()}
    size = arrays[""]["weight_hh"].shape[1]
    if config["units"] != size:
        raise ValueError(f"units={config['units']}, but the weights have {size}")
    options: dict[str, Any] = {"nonlinearity": config["activation"]} if kind == "SimpleRNN" else {}
    if kind == "GRU" and not config["reset_after"]:
        options["cell"] = "gru_reset_before"
    made = KINDS[kind](
        arrays[""]["weight_ih"].shape[1],
        size,
        bias=config["use_bias"],
        batch_first=True,
        bidirectional=bidirectional,
        **options,
    )
    state = {
        f"{n}_l0{end}": torch.from_numpy(array.copy())
        for end, own in arrays.items()
        for n, array in own.items()
    }
    made.load_state_dict(state)
    return made


def _check(kind: str, config: Mapping[str, Any], where: str) -> None:
    wanted: dict[str, tuple[Any, ...]] = {
        "activation": ("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)
    }
    if kind != "SimpleRNN":
        wanted["recurrent_activation"] = ("sigmoid",)
    wanted["go_backwards"] = (False,)
    for key, values in wanted.items():
        if config.get(key, values[0]) not in values:
            raise UserError(
                f"{where}: {key}={config[key]!r}; memorycell's {kind} has"
                f" {' or '.join(map(repr, values))}"
            )


def _arrays(kind: str, group: Any) -> dict[str, np.ndarray]:
    """Torch's names and layout: a Keras kernel is [I, G·H], a GRU's bias [2, 3·H]."""
    variables = group["cell"]["vars"]
    kernel, recurrent = (np.asarray(variables[str(k)], np.float32) for k in (0, 1))
    blocks = len(ORDER[kind])

    def blocked(rows: np.ndarray) -> np.ndarray:
        parts = np.split(rows, blocks)
        return np.concatenate([parts[k] for k in ORDER[kind]])

    arrays = {"weight_ih": blocked(kernel.T), "weight_hh": blocked(recurrent.T)}
    if "2" in variables:
        bias = np.asarray(variables["2"], np.float32)
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        arrays |= {"bias_ih": blocked(both[0]), "bias_hh": blocked(both[1])}
    return arrays
