"""A model is one .safetensors file with its JSON inside; never pickle. Specified in
docs/modelfile.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memorycell.errors import ModelFileError
from memorycell.files import write_atomically
from memorycell.models import MODELS
from memorycell.models.model import Model

FORMAT_VERSION = 1
CODECS = {
    "series": ("memorycell.applications.forecast.codec", "SeriesCodec"),
    "text": ("memorycell.language.codec", "TextCodec"),
    "labelled": ("memorycell.applications.sentiment.codec", "LabelledCodec"),
    "pairs": ("memorycell.applications.translation.codec", "PairCodec"),
    "audio": ("memorycell.applications.speech.audio", "AudioCodec"),
    "strokes": ("memorycell.signals.strokes", "StrokeCodec"),
    "events": ("memorycell.applications.music.events", "EventCodec"),
    "music": ("memorycell.applications.music.codec", "MusicCodec"),
    "pen": ("memorycell.applications.drawing.codec", "PenCodec"),
    "readings": ("memorycell.applications.anomaly.codec", "ReadingsCodec"),
    "lines": ("memorycell.applications.handwriting.lines", "LineCodec"),
}
"""The name in a model file -> the class, imported when it is met: what reads text needs packages
that forecasts do not.
"""


@dataclass
class ModelFile:
    """What a model file holds.

    model    a `Model`, of the kind its task needs
    codec    how what people have becomes its inputs, and its outputs what people want
    info     task, settings, data (name, fingerprint), split, metrics, baselines, seed, library
             version: JSON values
    arrays   further tensors by name: the fitted baselines
    """

    model: Any
    codec: Any
    info: dict[str, Any]
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write beside and rename; raises `UserError` where the disk is full or the folder missing."""
        note = {
            "format": "memorycell-model",
            "version": FORMAT_VERSION,
            "library": version("memorycell"),
            "config": {"kind": self.model.kind, **self.model.config.to_json()},
            "codec": {"kind": self.codec.kind, **self.codec.to_json()},
            "info": self.info,
        }
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"array.{name}": value for name, value in self.arrays.items()}
        tensors = {
            name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()
        }
        write_atomically(
            Path(path),
            safetensors.torch.save(tensors, {"memorycell": json.dumps(note, allow_nan=False)}),
        )


def load(path: str | Path) -> ModelFile:
    """Read a model file. Raises `ModelFileError` for a file that is damaged, not ours, or of a
    later version.

    Nothing in the file is executed, and nothing larger than the file's own tensors is allocated:
    the model is built without memory first, and every shape is compared before a tensor is taken
    over.
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
            f"{path}: truncated, damaged or not a model file ({error}); copy it again, or train a"
            " new model"
        ) from None
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    arrays = {n.removeprefix("array."): t for n, t in tensors.items() if n.startswith("array.")}
    try:
        kind = note["codec"].pop("kind")
        codec_class: Any = getattr(import_module(CODECS[kind][0]), CODECS[kind][1])
        codec = codec_class.from_json(note["codec"])
        info = dict(note["info"])
        model_class = MODELS[note["config"].pop("kind", "forecaster")]  # version 1 knew no other
        config = model_class.config_class(**note["config"])
        if config.num_layers > len(weights):
            raise ValueError("more layers than tensors")
        model = _built(model_class, config, weights)
        if kind not in model.codec_kind or not model.fits(codec):
            raise ValueError("the codec and the model do not fit each other")
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
            f"{path}: written in format {note.get('version')} by memorycell {note.get('library')};"
            f" this version reads format {FORMAT_VERSION}: pip install --upgrade memorycell"
        )


def _built(model_class: Any, config: Any, weights: dict[str, Tensor]) -> Model:
    with torch.device("meta"):
        model: Model = model_class(config)
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
