"""Training from Python: `memorycell.train`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memorycell.application import catalogue
from memorycell.face.memory import NAME, as_source
from memorycell.face.options import with_options
from memorycell.face.trained import Trained, load
from memorycell.training import loop
from memorycell.training.events import Log, OnEvent, ignore
from memorycell.training.progress import progress_bar


def train(
    task: str,
    data: Any = None,
    *,
    out: str | Path | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> Trained:
    """Train a model of a task, keep the best one on validation, and compare it with baselines.

    task       one of `memorycell tasks`: "forecast", "anomaly", "text", "sentiment", …
    data       a path, the name of a dataset, or data in memory: for tables a data frame (polars,
               pandas, pyarrow) or arrays, for others lists; None: the task's default dataset
    out        the model file to write; None: in memory only, see `Trained.save`
    minutes    approximate training time; by default the task's own, or by epochs
    epochs     passes over the training data
    progress   a progress bar on stderr, and notes on the data; False: silent
    settings   those of the task and of training, by name; see `memorycell.settings(task)`

    Raises `UserError` for data or settings that cannot be used.
    """
    application = catalogue.load(task)
    if epochs is not None:
        settings["epochs"] = epochs
    own, train_settings = with_options(
        [application.settings(), application.training], settings, task
    )
    if minutes is None and train_settings.epochs is None:
        minutes = application.minutes
    metric = application.selection_metric or application.metric.name
    with (
        TemporaryDirectory(prefix="memorycell-") as folder,
        as_source(application, data) as source,
        _followed(metric, progress) as (log, on_event),
    ):
        path = Path(out) if out is not None else Path(folder) / f"{task}.safetensors"
        loop.train(
            application,
            source,
            own,
            train_settings,
            path,
            minutes=minutes,
            name=None if source is None or source == str(data) else NAME,
            log=log,
            on_event=on_event,
        )
        file = load(path)
    return Trained(file, data if file.data == NAME else None)


@contextlib.contextmanager
def _followed(metric: str, wanted: bool) -> Iterator[tuple[Log, OnEvent]]:
    if not wanted:
        yield ignore, ignore
        return
    with progress_bar(metric, _log) as on_event:
        yield _log, on_event


def _log(line: str) -> None:
    print(line, file=sys.stderr)
