"""Data in memory as files, so that every application has one reader with one behaviour.

What an application takes is in `Application.in_memory`:

    table        a data frame; an array [T] or [T, F], or a list of arrays, one per series
    texts        a list of strings
    labelled     a data frame; a list of (text, label)
    pairs        a data frame; a list of (source, target)
    dialogues    a list of dialogues: strings, or {"role", "content"}
    sounds       a list of ((samples [N] or [N, channels], sample rate in Hz), label)
    strokes      a list of (strokes, label); strokes are lists of points [x, y] or [x, y, t]
    pieces       a list of paths of MIDI files
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from memorycell.application.contract import AnyApplication, InMemory
from memorycell.errors import UserError, quote
from memorycell.face.frames import is_frame, to_polars

NAME = "data in memory"
"""The name of such data in model files."""


@contextmanager
def as_source(application: AnyApplication, data: object) -> Iterator[str | None]:
    """The path or name of data for the application's readers; for data in memory, of a temporary
    file or folder. Raises `UserError` for data that the application does not take.
    """
    if data is None or isinstance(data, (str, Path)):
        yield None if data is None else str(data)
        return
    with TemporaryDirectory(prefix="memorycell-") as folder:
        path = str(_write(application, data, Path(folder)))
        try:
            yield path
        except UserError as error:  # the name of the temporary file says nothing
            raise type(error)(str(error).replace(path, NAME).replace(folder, NAME)) from None


def _write(application: AnyApplication, data: Any, folder: Path) -> Path:
    kind = application.in_memory
    if kind is None:
        raise UserError(f"{application.name}: takes a path or the name of a dataset")
    if is_frame(data):
        if kind not in ("table", "labelled", "pairs"):
            raise UserError(f"{application.name}: takes {TAKES[kind]}, not a frame")
        path = folder / "frame.parquet"
        to_polars(data).write_parquet(path)
        return path
    if isinstance(data, np.ndarray) and kind == "table":
        data = [data]
    if not isinstance(data, Sequence) or not len(data):
        raise UserError(
            f"{application.name}: takes a path, the name of a dataset or {TAKES[kind]}, not"
            f" {quote(type(data).__name__)}"
        )
    try:
        return WRITERS[kind](data, folder)
    except (TypeError, ValueError, IndexError, OSError) as error:
        raise UserError(
            f"{application.name}: takes {TAKES[kind]} ({str(error).splitlines()[0]})"
        ) from None


def _write_arrays(arrays: Sequence[Any], folder: Path) -> Path:
    import polars as pl

    frames = []
    for k, array in enumerate(map(np.asarray, arrays)):
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
            raise ValueError(f"array {k + 1}: {array.dtype} {list(array.shape)}")
        columns = array.reshape(len(array), -1).T
        names = ["value"] if len(columns) == 1 else [f"x{i + 1}" for i in range(len(columns))]
        frame = pl.DataFrame(dict(zip(names, columns, strict=True)))
        if len(arrays) > 1:
            frame.insert_column(0, pl.lit(f"{k + 1}").alias("series"))
        frames.append(frame)
    path = folder / "arrays.parquet"
    pl.concat(frames).write_parquet(path)
    return path


def _write_texts(texts: Sequence[Any], folder: Path) -> Path:
    path = folder / "texts.txt"
    path.write_text("\n".join(_strings(texts, "text")) + "\n", encoding="utf-8")
    return path


def _write_labelled(rows: Sequence[Any], folder: Path) -> Path:
    return _write_rows(rows, folder, ("text", "label"))


def _write_pairs(rows: Sequence[Any], folder: Path) -> Path:
    return _write_rows(rows, folder, ("source", "target"))


def _write_rows(rows: Sequence[Any], folder: Path, names: tuple[str, str]) -> Path:
    import polars as pl

    left, right = zip(*rows, strict=True)
    path = folder / "rows.parquet"
    columns = {names[0]: _strings(left, names[0]), names[1]: [str(v) for v in right]}
    pl.DataFrame(columns).write_parquet(path)
    return path


def _write_dialogues(dialogues: Sequence[Any], folder: Path) -> Path:
    path = folder / "dialogues.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for turns in dialogues:
            messages = [
                dict(turn)
                if isinstance(turn, Mapping)
                else {"role": ("user", "assistant")[k % 2], "content": turn}
                for k, turn in enumerate(turns)
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return path


def _write_sounds(sounds: Sequence[Any], folder: Path) -> Path:
    import polars as pl
    import soundfile

    names = []
    for k, ((samples, rate), _) in enumerate(sounds):
        names.append(f"{k:06d}.wav")
        array = np.asarray(samples)
        soundfile.write(folder / names[-1], array, int(rate), subtype=_subtype(array))
    labels = [str(label) for _, label in sounds]
    path = folder / "labels.csv"
    pl.DataFrame({"file": names, "label": labels}).write_csv(path)
    return folder


def _subtype(samples: np.ndarray) -> str:
    return "PCM_16" if samples.dtype == np.int16 else "FLOAT"


def _write_strokes(drawings: Sequence[Any], folder: Path) -> Path:
    path = folder / "strokes.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for strokes, label in drawings:
            points = [np.asarray(stroke, float).tolist() for stroke in strokes]
            file.write(json.dumps({"strokes": points, "label": str(label)}) + "\n")
    return path


def _write_pieces(paths: Sequence[Any], folder: Path) -> Path:
    for k, path in enumerate(map(Path, paths)):
        shutil.copyfile(path, folder / f"{k:06d}-{path.name}")
    return folder


def _strings(values: Sequence[Any], what: str) -> list[str]:
    for k, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"{what} {k + 1} is {type(value).__name__}")
    return list(values)


TAKES: Mapping[InMemory, str] = {
    "table": "a data frame, an array [T] or [T, F], or a list of arrays",
    "texts": "a list of strings",
    "labelled": "a data frame, or a list of (text, label)",
    "pairs": "a data frame, or a list of (source, target)",
    "dialogues": "a list of dialogues, lists of strings or of {'role', 'content'}",
    "sounds": "a list of ((samples, sample rate in Hz), label)",
    "strokes": "a list of (strokes, label)",
    "pieces": "a list of paths of MIDI files",
}
WRITERS: Mapping[InMemory, Callable[[Sequence[Any], Path], Path]] = {
    "table": _write_arrays,
    "texts": _write_texts,
    "labelled": _write_labelled,
    "pairs": _write_pairs,
    "dialogues": _write_dialogues,
    "sounds": _write_sounds,
    "strokes": _write_strokes,
    "pieces": _write_pieces,
}
