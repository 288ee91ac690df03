"""A checkpoint: what an interrupted run needs to continue, in `OUT.resume` next to the model file
or in a storage; never pickle.
"""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from memorycell.application.contract import B, M, Record
from memorycell.errors import UserError
from memorycell.files import make_folder, read_tensors, tensors_to_bytes, write_atomically
from memorycell.setting_fields import from_json
from memorycell.training.remote_file import RemoteFile
from memorycell.training.run import CPU, Progress, Run, copy_weights

CheckpointFile: TypeAlias = Path | RemoteFile
FORMAT = "memorycell-resume-3"
ADAM = {"step", "exp_avg", "exp_avg_sq"}
"""What AdamW keeps of each parameter."""


def checkpoint_path(out: Path, storage: str | None = None) -> CheckpointFile:
    """The checkpoint of the run that writes a model file.

    storage   a folder, or a URL of one that fsspec knows; None: the folder of the model file

    Raises `UserError` where the storage cannot be used.
    """
    name = f"{out.name}.resume"
    if storage is None:
        return out.with_name(name)
    return RemoteFile(f"{storage.rstrip('/')}/{name}") if "://" in storage else Path(storage) / name


def check_storage(out: Path, storage: str | None) -> None:
    """Raises `UserError` unless checkpoints can be written to a storage: before a long training."""
    if storage is not None:
        if "://" not in storage:
            make_folder(Path(storage))
        trial = checkpoint_path(out.with_name(f"{out.name}.{secrets.token_hex(4)}"), storage)
        _write(trial, b"")
        trial.unlink(missing_ok=True)


def version_of(path: CheckpointFile) -> int | str | None:
    """Changes when the checkpoint is written; None where there is none."""
    if isinstance(path, RemoteFile):
        return path.version()
    return path.stat().st_mtime_ns if path.exists() else None


def _write(path: CheckpointFile, content: bytes) -> None:
    if isinstance(path, RemoteFile):
        path.write_bytes(content)
    else:
        write_atomically(path, content)


def save_checkpoint(run: Run[M, B], path: CheckpointFile) -> None:
    """Write the weights, their average, the best ones, the optimiser and the progress."""
    tensors: dict[str, Tensor] = {}
    for name, weights in (
        ("model", copy_weights(run.model)),
        ("average", copy_weights(run.average)),
        ("best", run.best_weights),
    ):
        tensors |= {f"{name}.{key}": value for key, value in weights.items()}
    for index, values in run.optimizer.state_dict()["state"].items():
        tensors |= {
            f"adam.{index}.{key}": value.to(CPU, copy=True) for key, value in values.items()
        }
    note = {
        "format": FORMAT,
        "identity": _identity(run),
        "progress": dataclasses.asdict(dataclasses.replace(run.progress, history=[])),
        "history": [{k: _finite(v) for k, v in entry.items()} for entry in run.progress.history],
        "gradients": [_finite(norm) for norm in run.gradients.norms],
    }
    _write(path, tensors_to_bytes(tensors, note))


def load_checkpoint(run: Run[M, B], path: CheckpointFile) -> None:
    """Continue a run. Raises `UserError` for a damaged checkpoint, or one of another run."""
    saved, tensors = read_checkpoint(path)
    try:
        _check_tensors(run, tensors)
        optimizer = _optimizer_state(run, tensors)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); start without --resume") from None
    _take_steps(run, saved.identity)
    identity = _identity(run)
    if saved.identity != identity:
        differing = [k for k, v in identity.items() if saved.identity.get(k) != v]
        raise UserError(
            f"{path}: belongs to a run with other {' and '.join(differing) or 'data'}; use the"
            " same, or start without --resume"
        )
    run.model.load_state_dict(_with_prefix(tensors, "model"))
    run.average.load_state_dict(_with_prefix(tensors, "average"))
    run.best_weights = _with_prefix(tensors, "best")
    run.optimizer.load_state_dict(optimizer)
    run.progress = saved.progress
    run.progress.history = [
        {k: math.nan if v is None else v for k, v in entry.items()} for entry in saved.history
    ]
    run.gradients.norms.extend(math.inf if norm is None else norm for norm in saved.gradients)


def read_checkpoint(path: CheckpointFile) -> tuple[Note, dict[str, Tensor]]:
    """What a checkpoint holds. Raises `UserError` for a missing or damaged one."""
    if not path.exists():
        raise UserError(f"{path}: nothing to resume; start without --resume")
    try:
        note, tensors = read_tensors(path.read_bytes())
        return from_json(Note, note), tensors
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); start without --resume") from None


@dataclass(frozen=True)
class Note:
    """What the JSON of a checkpoint holds; None is a number that is not finite.

    progress    without its history
    gradients   the last norms
    """

    format: Literal["memorycell-resume-3"]
    identity: dict[str, Any]
    progress: Progress
    history: list[dict[str, float | None]]
    gradients: list[float | None]
    checksum: str


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _check_tensors(run: Run[M, B], tensors: dict[str, Tensor]) -> None:
    """Raises ValueError unless there is every weight, three times, in the model's shape, finite."""
    for prefix in ("model", "average", "best"):
        for name, expected in run.model.state_dict().items():
            given = tensors.get(f"{prefix}.{name}")
            if given is None or given.shape != expected.shape or given.dtype != expected.dtype:
                raise ValueError(f"tensor {prefix}.{name}: expected {list(expected.shape)}")
            if given.is_floating_point() and not bool(given.isfinite().all()):
                raise ValueError(f"tensor {prefix}.{name}: holds NaN or infinite values")


def _optimizer_state(run: Run[M, B], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Raises ValueError for moments of another shape."""
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    result = run.optimizer.state_dict()
    for name, value in _with_prefix(tensors, "adam").items():
        index, _, key = name.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise ValueError(f"tensor adam.{name}: of no parameter")
        if value.shape not in (parameters[int(index)].shape, torch.Size()):
            raise ValueError(f"tensor adam.{name}: of another shape")
        result["state"].setdefault(int(index), {})[key] = value
    if any(set(state) != ADAM for state in result["state"].values()):
        raise ValueError("moments are missing")
    return result


def _take_steps(run: Run[M, B], identity: Record) -> None:
    """The number of updates is that of the run that is continued, as its epochs and minutes are:
    a command without them has defaults of its own.
    """
    training = identity.get("training")
    steps = training.get("steps") if isinstance(training, dict) else None
    if steps is None or (isinstance(steps, int) and steps > 0):
        epochs = run.settings.epochs if steps is None else None
        run.settings = dataclasses.replace(run.settings, epochs=epochs, steps=steps)


def _identity(run: Run[M, B]) -> Record:
    """What must be the same for a run to continue."""
    info = run.dataset.info()
    same = {key: info[key] for key in ("data", "fingerprint", "settings")}
    training = dataclasses.asdict(run.settings)
    training.pop("epochs")  # the plan in the checkpoint counts
    identity: Record = json.loads(json.dumps({**same, "training": training}))
    return identity


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
