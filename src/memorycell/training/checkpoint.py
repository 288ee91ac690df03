"""A checkpoint: what an interrupted run needs to continue, in `OUT.resume`; never pickle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import safetensors.torch
from torch import Tensor

from memorycell.application.contract import B, M, Record
from memorycell.errors import UserError
from memorycell.files import read_tensors, write_atomically
from memorycell.training.run import Progress, Run, copy_weights

FORMAT = "memorycell-resume-2"


def checkpoint_path(out: Path) -> Path:
    """The checkpoint of the run that writes a model file."""
    return out.with_name(out.name + ".resume")


def save_checkpoint(run: Run[M, B], path: Path) -> None:
    """Write the weights, their average, the best ones, the optimiser and the progress."""
    tensors: dict[str, Tensor] = {}
    for name, weights in (
        ("model", copy_weights(run.model)),
        ("average", copy_weights(run.average)),
        ("best", run.best_weights),
    ):
        tensors |= {f"{name}.{key}": value for key, value in weights.items()}
    for index, values in run.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": value.clone() for key, value in values.items()}
    note = {
        "format": FORMAT,
        "identity": _identity(run),
        "progress": dataclasses.asdict(run.progress),
        "gradients": list(run.gradients.norms),
    }
    write_atomically(path, safetensors.torch.save(tensors, {"memorycell": json.dumps(note)}))


def load_checkpoint(run: Run[M, B], path: Path) -> None:
    """Continue a run. Raises `UserError` for a damaged checkpoint, or one of another run."""
    try:
        note, tensors = read_tensors(path.read_bytes())
        if note["format"] != FORMAT:
            raise ValueError("of another version")
        progress = Progress(**note["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); start without --resume") from None
    identity = _identity(run)
    if note["identity"] != identity:
        differing = [k for k, v in identity.items() if note["identity"].get(k) != v]
        raise UserError(
            f"{path}: belongs to a run with other {' and '.join(differing)}; use the same, or start"
            " without --resume"
        )
    run.model.load_state_dict(_with_prefix(tensors, "model"))
    run.average.load_state_dict(_with_prefix(tensors, "average"))
    run.best_weights = _with_prefix(tensors, "best")
    saved = run.optimizer.state_dict()
    for name, value in _with_prefix(tensors, "adam").items():
        index, key = name.split(".")
        saved["state"].setdefault(int(index), {})[key] = value
    run.optimizer.load_state_dict(saved)
    run.progress = progress
    run.gradients.norms.extend(note["gradients"])


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
