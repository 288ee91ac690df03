"""A model file at work: what a person has goes in, what a person wants comes out, whole or line by
line.

Nothing of training is needed: the file holds the model and the codec.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from memorycell.application import modelfile
from memorycell.application.modelfile import ModelFile
from memorycell.errors import UserError
from memorycell.streaming.stream import Stream


class Live(Protocol):
    """What `memorycell stream` runs."""

    def line(self, text: str, number: int) -> dict[str, Any] | None:
        """What a line of text in gives out, a JSON object; None for nothing yet. Raises
        `DataError`, with all as before.
        """

    def save(self, path: str | Path) -> None:
        """Keep the state, for this model only."""

    def load(self, path: str | Path) -> Any:
        """Go on where `save` stopped. Raises `StateError`, and is then as it was."""


APPLICATIONS = (
    "forecast",
    "text",
    "sentiment",
    "translation",
    "chat",
    "speech",
    "handwriting",
    "drawing",
    "music",
    "anomaly",
)
"""The tasks a model file may name. Each has a module here with

    Options                                   what --set can say about `predict`, a dataclass
    predict(file, source, options) -> record  a JSON object
    show(record) -> text                      the same for people
    Live                                      the class that runs it line by line, or None; with
                                              `feed_bytes` and `close` in place of `line` where
                                              bytes come in, not lines
    Streaming                                 what --set can say about `stream`, where there is
    something
    READS                                     "file" where INPUT names one; where it is missing,
                                              INPUT is a text
"""


def application(task: str) -> Any:
    """The module of a task. Raises `UserError` for one that this version does not know."""
    if task not in APPLICATIONS:
        raise UserError(
            f"a model of the task {task!r}: this version has {', '.join(APPLICATIONS)}; upgrade"
            " memorycell"
        )
    return import_module(f"memorycell.application.live.{task}")


def live(file: ModelFile, precision: str = "float32", how: Any = None) -> Any:
    """What runs a model file live, told `how` (its module's `Streaming`). Raises `UserError` for a
    task without such a way.
    """
    task = str(file.info.get("task"))
    made = application(task).Live
    if made is None:
        raise UserError(
            f"stream: a model of the task {task} reads its input whole; use memorycell predict"
        )
    return made(file, precision) if how is None else made(file, precision, how)


def stream(x: Any, precision: str = "float32", *, history: int = 16) -> Any:
    """Run something live: a layer of ours or torch's, a `Model`, a model file or its path.

    A layer or a model takes arrays or tensors (`Stream`); a model file takes what a person has: a
    row of readings (`LiveForecaster`), text (`LiveText`, `LiveSentiment`), what is said
    (`Conversation`).

    precision   of the recurrent part's products: "float32", "bfloat16" or "int8"
    history     steps that `Stream.rewind` can take back
    """
    if isinstance(x, (str, Path)):
        x = modelfile.load(x)
    if isinstance(x, ModelFile):
        return live(x, precision)
    return Stream(x, precision, history=history)
