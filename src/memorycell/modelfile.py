"""A model is one .safetensors file with its JSON inside; never pickle. Specified in docs/modelfile.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memorycell.data.series import SeriesCodec
from memorycell.errors import ModelFileError
from memorycell.files import write_atomically
from memorycell.model import Model, ModelConfig

FORMAT_VERSION = 1
CODECS = {"series": SeriesCodec}


@dataclass
class ModelFile:
    """What a model file holds.

    info     task, settings, data (name, fingerprint), split, metrics, baselines, seed, library version: JSON values
    arrays   further tensors by name: the fitted baselines
    """

    model: Model
    codec: SeriesCodec
    info: dict[str, Any]
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write beside and rename; raises `UserError` where the disk is full or the folder missing."""
        note = {
            "format": "memorycell-model",
            "version": FORMAT_VERSION,
            "library": version("memorycell"),
            "config": self.model.config.to_json(),
            "codec": {"kind": "series", **self.codec.to_json()},
            "info": self.info,
        }
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"array.{name}": value for name, value in self.arrays.items()}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        write_atomically(Path(path), safetensors.torch.save(tensors, {"memorycell": json.dumps(note, allow_nan=False)}))


def load(path: str | Path) -> ModelFile:
    """Read a model file. Raises `ModelFileError` for a file that is damaged, not ours, or of a later version.

    Nothing in the file is executed, and nothing larger than the file's own tensors is allocated: the model is built
    without memory first, and every shape is compared before a tensor is taken over.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("memorycell", "null"))
            _check_version(path, note)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path}: truncated, damaged or not a model file ({error}); copy it again, or train a new model"
        ) from None
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    arrays = {n.removeprefix("array."): t for n, t in tensors.items() if n.startswith("array.")}
    try:
        codec = CODECS[note["codec"].pop("kind")].from_json(note["codec"])
        info = dict(note["info"])
        config = ModelConfig(**note["config"])
        if config.input_size != len(codec.features) or config.targets != len(codec.targets):
            raise ValueError("the codec and the model do not fit each other")
        if config.num_layers > len(weights):
            raise ValueError("more layers than tensors")
        model = _built(config, weights)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelFileError(
            f"{path}: its description is not a model's ({_first_line(error)}); train a new model"
        ) from None
    return ModelFile(model.eval(), codec, info, arrays)


def _check_version(path: Path, note: Any) -> None:
    if not isinstance(note, Mapping) or note.get("format") != "memorycell-model":
        raise ModelFileError(f"{path}: a safetensors file, but not a model written by memorycell")
    if note.get("version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: written in format {note.get('version')} by memorycell {note.get('library')}; this version reads "
            f"format {FORMAT_VERSION}: pip install --upgrade memorycell"
        )


def _built(config: ModelConfig, weights: dict[str, Tensor]) -> Model:
    with torch.device("meta"):
        model = Model(config)
    for name, expected in model.state_dict().items():
        given = weights.get(name)
        if given is None or given.shape != expected.shape or given.dtype != torch.float32:
            raise ValueError(f"tensor {name}: expected {list(expected.shape)} float32")
        if not bool(given.isfinite().all()):
            raise ValueError(f"tensor {name}: holds NaN or infinite values")
    model.load_state_dict(weights, assign=True)
    return model


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
