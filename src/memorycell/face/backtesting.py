"""Walk-forward evaluation of a task."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorycell.application.contract import AnyApplication
from memorycell.application.rendering import backtest_text
from memorycell.application.train_settings import TrainSettings
from memorycell.face.following import followed
from memorycell.face.memory import as_source
from memorycell.files import make_folder
from memorycell.training import backtest as walk
from memorycell.training.events import Log

if TYPE_CHECKING:
    import torch


class Backtest(dict[str, Any]):
    """The JSON object of `memorycell backtest`, which prints as a table: `folds`, each with its
    `metrics` and the `baselines`', and the means of both with the `skill`.
    """

    def __repr__(self) -> str:
        return backtest_text(self)


def backtest_model(
    application: AnyApplication,
    data: Any,
    settings: Any,
    train_settings: TrainSettings,
    *,
    folds: int = 4,
    start: float = 0.6,
    refit: bool = True,
    out: Path | None = None,
    minutes: float | None = None,
    device: str | torch.device | None = None,
    log: Log | None = None,
) -> Backtest:
    """See `Trained.backtest`.

    out   a folder that keeps the model files; None: none is kept
    log   called with lines for people; None: silent

    Raises `UserError`.
    """
    with (
        as_source(application, data) as source,
        output_folder(out) as folder,
        followed(application, log) as (log_line, on_event),
    ):
        result = walk.backtest(
            application,
            source,
            settings,
            train_settings,
            folder,
            folds=folds,
            start=start,
            refit=refit,
            minutes=minutes,
            device=device,
            log=log_line,
            on_event=on_event,
        )
    return Backtest(result)


@contextlib.contextmanager
def output_folder(folder: Path | None) -> Iterator[Path]:
    """A folder to write into, created where it is missing and removed again where nothing was
    written; None: a temporary one. Raises `UserError`.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        yield make_folder(folder)
    finally:
        for parent in created:
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()
