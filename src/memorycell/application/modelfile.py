"""A model is one .safetensors file with its JSON inside; never pickle. Specified in
docs/modelfile.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memorycell.application import catalogue
from memorycell.application.contract import AnyModelFile, Codec
from memorycell.errors import ModelFileError
from memorycell.files import write_atomically
from memorycell.models.model import Model, ModelConfig
from memorycell.settings import settings_from_json

FORMAT_VERSION = 1
M = TypeVar("M", bound=Model[Any])
C = TypeVar("C", bound=Codec)
S = TypeVar("S")


@dataclass
class ModelFile(Generic[M, C]):
    """What a model file holds.

    model    a `Model` of one of its application's kinds
    codec    converts what people have to its inputs, and its outputs to what people want
    info     JSON values: task, settings, data (name, fingerprint), split, metrics, baselines, seed,
             library version
    arrays   further tensors by name: the fitted baselines
    """

    model: M
    codec: C
    info: dict[str, Any]
    arrays: dict[str, Tensor] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The name of its application."""
        return str(self.info.get("task"))

    @property
    def data(self) -> str:
        """The path or name of the data it was trained on."""
        return str(self.info["data"])

    @property
    def fingerprint(self) -> str:
        """Of the data it was trained on."""
        return str(self.info["fingerprint"])

    @property
    def history(self) -> list[dict[str, float]]:
        """One entry per epoch of its training."""
        return self.info.get("history") or []

    @property
    def notes(self) -> list[str]:
        """What was found in its data when it was trained."""
        return self.info.get("notes") or []

    def settings(self, kind: type[S]) -> S:
        """The settings it was trained with. Raises `ModelFileError` where they are incomplete."""
        try:
            str(self.info["data"]), str(self.info["fingerprint"])
            return settings_from_json(kind, self.info["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"the model file's description of its training is incomplete ({error!r}); train a"
                " new model"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write to a temporary file and rename.

        Raises `UserError` where the disk is full or the folder is missing.
        """
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
        tensors = {n: value.detach().cpu().contiguous().clone() for n, value in tensors.items()}
        metadata = {"memorycell": json.dumps(note, allow_nan=False)}
        write_atomically(Path(path), safetensors.torch.save(tensors, metadata))


def load(path: str | Path) -> AnyModelFile:
    """Read a model file. Raises `ModelFileError` for a file that is damaged, not a model, or of a
    later version.

    Nothing in the file is executed, and nothing larger than the file's own tensors is allocated:
    the model is built without memory first, and every shape is compared before a tensor is used.
    Its classes are those that the application named in the file has; no import path is read.
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
        info = dict(note["info"])
        application = catalogue.load(_task(path, info))
        codec = application.codecs[note["codec"].pop("kind")].from_json(note["codec"])
        # Files of the first version that had one kind of model do not name it.
        model_class = application.models[note["config"].pop("kind", "forecaster")]
        config = model_class.config_class(**note["config"])
        if config.num_layers > len(weights):
            raise ValueError("more layers than tensors")
        _check_sizes(config, codec.model_sizes())
        model = _built(model_class, config, weights)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelFileError(
            f"{path}: its description is not a model's ({_first_line(error)}); train a new model"
        ) from None
    return ModelFile(model.eval(), codec, info, arrays)


def _task(path: Path, info: Mapping[str, Any]) -> str:
    task = str(info["task"])
    if task not in catalogue.names():
        raise ModelFileError(
            f"{path}: a model of the task {task!r}: this installation has"
            f" {', '.join(catalogue.names())}; upgrade memorycell, or install the package that adds"
            " the task"
        )
    return task


def _check_version(path: Path, note: Any) -> None:
    if not isinstance(note, Mapping) or note.get("format") != "memorycell-model":
        raise ModelFileError(f"{path}: a safetensors file, but not a model written by memorycell")
    if note.get("version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: written in format {note.get('version')} by memorycell {note.get('library')};"
            f" this version reads format {FORMAT_VERSION}: pip install --upgrade memorycell"
        )


def _check_sizes(config: ModelConfig, needed: Mapping[str, object]) -> None:
    """Raises ValueError where a model's configuration does not fit its codec."""
    values = vars(config)
    for name, value in needed.items():
        if name not in values or values[name] != value:
            raise ValueError(f"the model's {name} does not fit the codec's")


def _built(
    model_class: type[Model[Any]], config: ModelConfig, weights: dict[str, Tensor]
) -> Model[Any]:
    with torch.device("meta"):
        model = model_class(config)
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
