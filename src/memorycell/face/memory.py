"""Data in memory as files, so that every application has one reader with one behaviour.

What an application takes is in `Application.in_memory`, see `TAKES`; `writers` writes each kind.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memorycell.application.contract import AnyApplication, InMemory
from memorycell.errors import UserError, quote
from memorycell.face.frames import as_frame, is_frame, text_column, to_polars
from memorycell.face.values import strings
from memorycell.face.writers import (
    NEW_SERIES,
    SERIES_COLUMN,
    TAKES,
    UNLABELLED,
    UNLABELLED_TAKES,
    WRITERS,
    are_numbers,
    write_arrays,
    write_frame,
    write_series,
)
from memorycell.reading import read_text

NAME = "data in memory"
"""The name of such data in model files."""
PREFIX = "memorycell-data-"
MAX_PATH_CHARS = 1000


@contextmanager
def as_source(
    application: AnyApplication, data: object, settings: object = None, *, series: bool = False
) -> Iterator[str | None]:
    """The path or name of data for the application's readers; for data in memory, of a temporary
    file or folder.

    settings   of the training, by which a frame is checked; None: it is not
    series     name the series of one array too, for a model of several

    Raises `UserError` for data that the application does not take.
    """
    if data is None or isinstance(data, (str, Path)):
        if isinstance(data, str) and ("\n" in data or len(data) > MAX_PATH_CHARS):
            raise UserError(
                f"{application.name}: {quote(data)}: no such file or dataset; texts are given in a"
                " list"
            )
        yield None if data is None else str(data)
        return
    with _temporary_folder() as folder:
        yield str(_write(application, data, folder, settings, series))


def with_series(
    application: AnyApplication, data: object, settings: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The settings by name; for a list of arrays, one per series, with the column that names the
    series of a row.
    """
    if not are_several_series(application, data):
        return settings
    return {"group": SERIES_COLUMN, **settings}


def are_several_series(application: AnyApplication, data: object) -> bool:
    """Whether data are a list of arrays, one per series."""
    several = isinstance(data, (list, tuple)) and len(data) > 1
    return application.in_memory == "table" and several and not are_numbers(data)


@contextmanager
def as_input(
    application: AnyApplication,
    reads: Literal["file", "text"],
    x: object,
    *,
    series: bool = False,
) -> Iterator[str | None]:
    """As `as_source`, for what a trained model reads: a text or a list of texts where it reads
    texts, and data without labels.
    """
    if reads == "text" and x is not None:
        yield _text(application, x)
    elif application.in_memory in UNLABELLED and not (
        isinstance(x, (str, Path, type(None))) or is_frame(x)
    ):
        data = _as_sequence(application.in_memory, as_frame(x)) if application.in_memory else x
        takes = UNLABELLED_TAKES[application.in_memory]
        _check_sequence(application, data, takes)
        with _temporary_folder() as folder:
            with _described(application, takes):
                source = UNLABELLED[application.in_memory](data, folder)
            yield str(source)
    elif application.in_memory == "pieces" and isinstance(x, (list, tuple)):
        if len(x) != 1:
            raise UserError(f"{application.name}: predict reads one piece; got {len(x)}")
        yield str(x[0])
    else:
        with as_source(application, x, series=series) as path:
            yield path


@contextmanager
def with_files(
    application: AnyApplication, options: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Options of `predict`, with temporary files for data in memory; see
    `Application.predict_data`. Raises `UserError`.
    """
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(as_source(application, options[name]))
            for name in application.predict_data
            if name in options
        }
        yield {**options, **files}


def with_names(record: Any) -> Any:
    """A record with `NAME` instead of the paths of temporary files in its strings."""
    if isinstance(record, str):
        return without_paths(record) if PREFIX in record else record
    if isinstance(record, dict):
        return {key: with_names(value) for key, value in record.items()}
    if isinstance(record, list):
        return [with_names(value) for value in record]
    return record


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for data in memory, whose name is left out of errors: it says nothing."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        try:
            yield Path(folder)
        except UserError as error:
            message = without_paths(str(error))
            for path in Path(folder).glob("*.jsonl"):
                message = message.replace(path.name, NAME)
            raise type(error)(message) from None


def without_paths(text: str) -> str:
    """A message or a page with `NAME` instead of the paths of temporary files."""
    start = re.escape(str(Path(tempfile.gettempdir()) / PREFIX))
    return re.sub(start + r"\w+([/\\][\w.-]*\w)?", NAME, text)


def _write(
    application: AnyApplication, data: Any, folder: Path, settings: object, series: bool
) -> Path:
    kind = application.in_memory
    if kind is None:
        raise UserError(f"{application.name}: takes a path or the name of a dataset")
    data = _as_sequence(kind, as_frame(data))
    if is_frame(data):
        if kind not in ("table", "labelled", "pairs", "sequences", "episodes"):
            raise UserError(f"{application.name}: takes {TAKES[kind]}, not a frame")
        frame = to_polars(data)
        if settings is not None and application.check_frame is not None:
            application.check_frame(frame, settings)
        return write_frame(frame, folder)
    if kind == "table" and (isinstance(data, np.ndarray) or _are_numbers(data)):
        with _described(application):
            return write_series(data, folder, NEW_SERIES if series else None)
    if isinstance(data, np.ndarray) and kind == "clips":
        data = [data]
    _check_sequence(application, data, TAKES[kind])
    if not len(data):
        raise UserError(f"{application.name}: takes {TAKES[kind]}, and this has none")
    with _described(application):
        if kind == "table" and series:
            return write_arrays(data, folder, named=True)
        return WRITERS[kind](data, folder)


def _check_sequence(application: AnyApplication, data: Any, takes: str) -> None:
    """Raises `UserError` for data that are no list, such as a generator."""
    lists = isinstance(data, (Sequence, np.ndarray))
    if lists and not isinstance(data, (str, bytes, bytearray)):
        return
    hint = "; make a data frame of its columns" if isinstance(data, Mapping) else ""
    if isinstance(data, Iterable) and not (hint or isinstance(data, (bytes, bytearray))):
        hint = "; make a list of it"
    raise UserError(
        f"{application.name}: takes a path, the name of a dataset or {takes}, not"
        f" {quote(type(data).__name__)}{hint}"
    )


def _are_numbers(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and len(data) > 0 and are_numbers(data)


def _as_sequence(kind: InMemory, data: Any) -> Any:
    """Tensors as arrays, also the parts of (X, y), a frame of texts and arrays of texts as lists;
    other data as they are.
    """
    if isinstance(data, (tuple, list)) and len(data) == 2:
        parts = map(_as_array, data)
        return tuple(parts) if isinstance(data, tuple) else list(parts)
    if kind == "texts" and is_frame(data):
        return text_column(to_polars(data))
    if kind in ("texts", "labelled", "pairs") and isinstance(data, np.ndarray):
        return data.tolist()
    return _as_array(data)


def _as_array(data: Any) -> Any:
    """Tensors as arrays, sequences that are no lists, such as ranges, as lists."""
    if type(data).__module__ == "torch" and hasattr(data, "detach"):
        own = data.detach().cpu()
        return (own.float() if str(own.dtype) == "torch.bfloat16" else own).numpy()
    others = (list, tuple, str, bytes, bytearray)
    if isinstance(data, Sequence) and not isinstance(data, others):
        return list(data)
    return data


@contextmanager
def _described(application: AnyApplication, takes: str | None = None) -> Iterator[None]:
    """Raises `UserError` that says what the application takes, for other data."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, LookupError, OSError, OverflowError) as error:
        takes = takes or (TAKES[application.in_memory] if application.in_memory else "a path")
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{application.name}: takes {takes} ({problem})") from None


def _text(application: AnyApplication, x: Any) -> str:
    """The text of a string, of the text file at a path, or of strings: a line each."""
    if isinstance(x, str):
        return x
    if isinstance(x, Path):
        return read_text(x)
    x = as_frame(x)
    x = x.tolist() if isinstance(x, np.ndarray) else x
    if is_frame(x):
        texts = text_column(to_polars(x))
    else:
        if not isinstance(x, Sequence) or isinstance(x, (bytes, bytearray)):
            raise UserError(
                f"{application.name}: predict takes a text, a list of texts or a frame, not"
                f" {quote(type(x).__name__)}"
            )
        with _described(application):
            texts = strings(x, "text")
    return "\n".join(" ".join(text.splitlines()) for text in texts)
