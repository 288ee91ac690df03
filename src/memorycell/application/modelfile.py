"""Reading model files: safetensors with JSON inside, never pickle; see docs/modelfile.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Required, TypedDict

import msgspec
import torch
from torch import Tensor

from memorycell.application import catalogue
from memorycell.application.contract import (
    MODEL_FORMAT_VERSION,
    AnyApplication,
    AnyModelFile,
    ModelFile,
)
from memorycell.errors import ModelFileError, UserError, quote
from memorycell.files import read_tensors
from memorycell.models.blank import blank
from memorycell.models.model import Model, ModelConfig
from memorycell.setting_fields import from_json, settings_from_json

MAX_WEIGHT = 1e6
"""Trained weights are far smaller; larger ones overflow within a step."""
MAX_REASON_CHARS = 160
NOTE_KEYS = {"checksum", "format", "version", "library", "config", "codec", "info"}
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
"""What reading a damaged description raises."""


class _Info(TypedDict, total=False):
    """The types of the fields of `ModelFile.info` that are common to all applications."""

    task: Required[str]
    primary: str
    data: Required[str]
    fingerprint: Required[str]
    settings: Required[dict[str, Any]]
    metrics: dict[str, float | None]
    baselines: dict[str, dict[str, float | None]]
    skill: float | None
    to_beat: float | None
    history: list[dict[str, float | None]]
    notes: list[str]


def load(path: str | Path) -> AnyModelFile:
    """Read a model file. Raises `ModelFileError` for a file that is damaged, not a model, or of a
    later version.

    Nothing in the file is executed, and nothing larger than the file's own tensors is allocated:
    the model is built without memory first, and every shape is compared before a tensor is used.
    Its classes are those that the application named in the file has; no import path is read. The
    weights are copies: the file can be replaced while the model runs.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    return from_bytes(data, path)


def from_bytes(data: bytes, path: Path = Path("model")) -> AnyModelFile:
    """The model of `ModelFile.to_bytes`; `path` names it in errors. See `load`."""
    try:
        note, tensors = read_tensors(data)
    except ValueError as error:
        raise ModelFileError(
            f"{path}: truncated, damaged or not a model file ({_reason(error)}); copy it again, or"
            " train a new model"
        ) from None
    _check_version(path, note)
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    arrays = {n.removeprefix("array."): t for n, t in tensors.items() if n.startswith("array.")}
    try:
        info = dict(note["info"])
        application = catalogue.load(_task(path, info))
        _check_info(application, info)
        codec = application.codecs[note["codec"].pop("kind")].from_json(note["codec"])
        # Files of the first version that had one kind of model do not name it.
        model_class = application.models[note["config"].pop("kind", "forecaster")]
        config = from_json(model_class.config_class, note["config"])
        if config.num_layers > len(weights):
            raise ValueError("more layers than tensors")
        _check_sizes(config, codec.model_sizes())
        model = _built(model_class, config, weights)
        for name, array in arrays.items():
            if array.is_floating_point() and not bool(array.isfinite().all()):
                raise ValueError(f"array {quote(name)}: holds NaN or infinite values")
    except UserError:
        raise
    except MALFORMED as error:
        raise ModelFileError(
            f"{path}: its description is not a model's ({_reason(error)}); train a new model"
        ) from None
    return ModelFile(model.eval(), codec, info, arrays)


def _check_info(application: AnyApplication, info: dict[str, Any]) -> None:
    """Raises ValueError."""
    try:
        msgspec.convert(info, _Info)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`", "")) from None
    settings_from_json(application.settings, info["settings"])


def _task(path: Path, info: Mapping[str, Any]) -> str:
    task = str(info["task"])
    if task not in catalogue.names():
        raise ModelFileError(
            f"{path}: a model of the task {quote(task)}, which this installation does not have"
            " (memorycell tasks); upgrade memorycell, or install the package that adds the task"
        )
    return task


def _check_version(path: Path, note: Any) -> None:
    if not isinstance(note, Mapping) or note.get("format") != "memorycell-model":
        raise ModelFileError(f"{path}: a safetensors file, but not a model written by memorycell")
    if note.get("version") != MODEL_FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: written in format {quote(note.get('version'))} by memorycell"
            f" {quote(note.get('library'))}; this version reads format {MODEL_FORMAT_VERSION}: pip"
            " install --upgrade memorycell"
        )
    for key in note:
        if key not in NOTE_KEYS:
            raise ModelFileError(f"{path}: damaged: unknown field {quote(key)}; copy it again")


def _check_sizes(config: ModelConfig, needed: Mapping[str, object]) -> None:
    """Raises ValueError where a model's configuration does not fit its codec."""
    values = vars(config)
    for name, value in needed.items():
        if name not in values or values[name] != value:
            raise ValueError(f"the model's {name} does not fit the codec's")


def _built(
    model_class: type[Model[Any]], config: ModelConfig, weights: dict[str, Tensor]
) -> Model[Any]:
    model = blank(model_class, config)
    trained = dict(model.named_parameters())
    for name, expected in model.state_dict().items():
        given = weights.get(name)
        if given is None or given.shape != expected.shape or given.dtype != expected.dtype:
            dtype = str(expected.dtype).removeprefix("torch.")
            raise ValueError(f"tensor {name}: expected {list(expected.shape)} {dtype}")
        largest = MAX_WEIGHT if name in trained else torch.finfo(torch.float32).max
        if not bool((given.abs() <= largest).all()):
            raise ValueError(f"tensor {name}: holds NaN, infinite or absurdly large values")
    model.load_state_dict(weights, assign=True)
    return model


def _reason(error: Exception) -> str:
    """The first line of a message, cut to what fits a line."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text if text.isprintable() and len(text) <= MAX_REASON_CHARS else quote(text)
