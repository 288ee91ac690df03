"""Training from Python: `memorycell.train`."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from memorycell.application import catalogue
from memorycell.application.contract import AnyApplication, Record
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.face.advice import as_arguments, with_arguments
from memorycell.face.following import to_stderr
from memorycell.face.memory import NAME, as_source, with_series
from memorycell.face.options import check_range, with_options
from memorycell.face.parallel_training import (
    MAX_WORKERS,
    Launch,
    train_by_workers,
    train_part,
)
from memorycell.face.trained import Trained, load
from memorycell.training import checkpoint, parallel
from memorycell.training.events import Log

if TYPE_CHECKING:
    import torch


@with_arguments
def train(
    task: str,
    data: Any = None,
    *,
    out: str | Path | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    device: str | torch.device | None = None,
    resume: bool = False,
    storage: str | None = None,
    workers: int | None = None,
    baselines: bool = True,
    progress: bool = True,
    **settings: Any,
) -> Trained:
    """Train a model of a task, keep the best one on validation, and compare it with baselines.

    task       one of `memorycell tasks`: "forecast", "anomaly", "text", "sentiment", …
    data       a path, the name of a dataset, or data in memory: for tables a data frame (polars,
               pandas, pyarrow) or arrays, for others lists; None: the task's default dataset
    out        the model file to write; None: in memory only, see `Trained.save`
    minutes    approximate training time, with `steps` its limit; by default the task's own number
               of updates within its own minutes, or by epochs
    epochs     passes over the training data
    device     "cpu", "cuda", "cuda:1", "mps"; None: a CUDA GPU where there is one, else the CPU
    resume     continue an interrupted run that wrote `out`
    storage    where its checkpoint is: a folder, or a URL that fsspec knows, such as s3://…; by
               default the folder of `out`
    workers    processes that train together, each on its share of the cores; the batches, the
               learning rate and, but for rounding and the model's own noise, the losses do not
               depend on their number, see docs/scale.md
    baselines  fit the baselines and compare with them; False: training is shorter, and
               `Trained.baselines` computes them when it is first read
    progress   a progress bar on stderr, and notes on the data; False: silent
    settings   those of the task and of training, by name: `memorycell.settings(task)` lists them
               with types, defaults and meanings. Training has lr, weight_decay, clip, average,
               patience, precision and seed, for every task

    Raises `UserError` (a ValueError) for data or settings that cannot be used.
    """
    application = catalogue.load(task)
    check_range("minutes", minutes, 0.01, 100_000)
    check_range("workers", workers, 1, MAX_WORKERS)
    if resume and out is None:
        raise UserError("resume needs out=, the model file of the run that was interrupted")
    if epochs is not None:
        settings["epochs"] = epochs
    own, train_settings = with_options(
        [application.settings(), application.training],
        with_series(application, data, settings),
        task,
    )
    with contextlib.nullcontext(out) if out is not None else TemporaryDirectory() as place:
        path = Path(place) if out is not None else Path(place) / f"{task}.safetensors"
        trained = train_model(
            application,
            data,
            own,
            train_settings,
            path,
            minutes=minutes,
            device=device,
            resume=resume,
            storage=storage,
            workers=workers,
            baselines=baselines,
            log=_to_stderr if progress else None,
        )
    if out is None:
        trained.forget_path()
    return trained


def _to_stderr(line: str) -> None:
    to_stderr(as_arguments(line))


def train_model(
    application: AnyApplication,
    data: Any,
    settings: Any,
    train_settings: TrainSettings,
    out: Path,
    *,
    minutes: float | None = None,
    device: str | torch.device | None = None,
    resume: bool = False,
    storage: str | None = None,
    tensorboard: Path | None = None,
    workers: int | None = None,
    launch: Launch | None = None,
    search: Record | None = None,
    baselines: bool = True,
    log: Log | None = None,
) -> Trained:
    """`train` with the settings as the application's types.

    launch   replaces the worker processes of this machine, see `cluster.training`
    search   that found the settings, for the model file
    log   called with notes and, where there is no terminal for a bar, with a line per epoch; None:
          silent
    """
    if tensorboard is not None and find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs a package: pip install 'memorycell[log]'")
    if minutes is None and train_settings.epochs is None and train_settings.steps is None:
        minutes = application.minutes
        train_settings = replace(train_settings, steps=application.steps)
    if resume:  # before the data are read
        checkpoint.read_checkpoint(checkpoint.checkpoint_path(out, storage))
    with as_source(application, data, settings) as source:
        in_memory = source is not None and source != str(data)
        options: dict[str, Any] = {
            "minutes": minutes,
            "device": None if device is None else str(device),
            "resume": resume,
            "storage": storage,
            "tensorboard": None if tensorboard is None else str(tensorboard),
            "name": NAME if in_memory else None,
            "search": search,
            "baselines": baselines,
        }
        if parallel.is_worker():
            result = train_part(
                application, source, settings, train_settings, out, log=log, **options
            )
        else:
            count = workers or 1
            result = train_by_workers(
                application,
                source,
                settings,
                train_settings,
                out,
                count,
                log=log,
                launch=launch,
                **options,
            )
    trained = load(out)
    trained.remember(result, data if in_memory else None)
    return trained
