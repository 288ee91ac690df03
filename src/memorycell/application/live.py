"""From a model file to a live session."""

from __future__ import annotations

from pathlib import Path
from typing import overload

from torch import nn

from memorycell.application import catalogue, modelfile
from memorycell.application.contract import AnyModelFile, ModelFile, Session
from memorycell.errors import StateError, UserError
from memorycell.files import write_atomically
from memorycell.streaming.finite import OnNonfinite
from memorycell.streaming.stream import Stream


def open_session(
    file: AnyModelFile,
    precision: str = "float32",
    options: object = None,
    *,
    remote: bool = False,
) -> Session:
    """A new session of a model file; `options` is its application's `stream_options`.

    remote   its items come from the clients of a server: none of them names a file

    Raises `UserError` for an application whose models need their whole input.
    """
    application = catalogue.load(file.task)
    if application.session is None:
        raise UserError(
            f"stream: a model of the task {application.name} needs its whole input; use memorycell"
            " predict"
        )
    session = (application.remote_session if remote else None) or application.session
    return session(file, precision, options or application.stream_options())


def save_session(session: Session, path: Path) -> None:
    """Write the state of a session to a file. Raises `UserError`."""
    write_atomically(path, session.snapshot())


def restore_session(session: Session, path: Path) -> None:
    """Continue a session from a file. Raises `UserError`, `StateError` for another's state."""
    try:
        session.restore(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except StateError as error:
        raise StateError(f"{path}: {error}") from None


@overload
def stream(
    x: nn.Module,
    precision: str = "float32",
    *,
    history: int = 16,
    on_nonfinite: OnNonfinite = "raise",
) -> Stream: ...


@overload
def stream(x: AnyModelFile | str | Path, precision: str = "float32") -> Session: ...


def stream(
    x: nn.Module | AnyModelFile | str | Path,
    precision: str = "float32",
    *,
    history: int = 16,
    on_nonfinite: OnNonfinite = "raise",
) -> Stream | Session:
    """Run something live: a layer of ours or torch's, a `Model`, a model file or its path.

    A layer or a model reads arrays or tensors (`Stream`); a model file reads what people have: rows
    of readings, text, sound (the `Session` of its application).

    precision      of the recurrent part's products: "float32", "bfloat16" or "int8"
    history        number of steps that `Stream.rewind` can undo
    on_nonfinite   what happens at NaN, infinity and overflow; see `Stream`
    """
    if isinstance(x, (str, Path)):
        x = modelfile.load(x)
    if isinstance(x, ModelFile):
        return open_session(x, precision)
    return Stream(x, precision, history=history, on_nonfinite=on_nonfinite)
