"""Following a training run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from memorycell.application.contract import AnyApplication
from memorycell.training.events import Log, OnEvent, ignore
from memorycell.training.progress import progress_bar


@contextlib.contextmanager
def followed(application: AnyApplication, log: Log | None) -> Iterator[tuple[Log, OnEvent]]:
    """(what takes lines, what takes the events of training), with a progress bar on a terminal or
    in a notebook; silent without `log`.
    """
    if log is None:
        yield ignore, ignore
        return
    with progress_bar(application.selection_metric or application.metric.name, log) as on_event:
        yield log, on_event


def to_stderr(line: str) -> None:
    """Print a line for people."""
    print(line, file=sys.stderr)
