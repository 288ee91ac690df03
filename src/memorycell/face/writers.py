"""Writes each kind of data in memory as the files that people have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import InMemory
from memorycell.errors import counted, quote
from memorycell.face.episode_writers import write_episodes, write_observed_episodes
from memorycell.face.recording_writers import (
    write_clips,
    write_pieces,
    write_sounds,
    write_strokes,
    write_unlabelled_sounds,
    write_unlabelled_strokes,
)
from memorycell.face.values import check_ragged, is_value, present, strings

if TYPE_CHECKING:
    import polars as pl


SERIES_COLUMN = "series"
"""Names the array that a row is of."""
NEW_SERIES = "new"
"""The name of an array that is given alone to a model of several."""


def write_frame(frame: pl.DataFrame, folder: Path) -> Path:
    """Arrow's format: the types are kept, and nothing is compressed."""
    path = folder / "frame.arrow"
    frame.write_ipc(path)
    return path


def are_numbers(values: Any) -> bool:
    """Whether a list holds numbers, None where one is missing, and no arrays."""
    return all(one is None or (np.isscalar(one) and not isinstance(one, str)) for one in values)


def write_series(values: Any, folder: Path, name: str | None = None) -> Path:
    """An array [T] or [T, F], or numbers, as a table, with a column "series" if it has a name."""
    import polars as pl

    frame = pl.DataFrame(_named(_columns(np.asanyarray(values), "array 1")))
    if name is not None:
        frame.insert_column(0, pl.lit(name).alias(SERIES_COLUMN))
    return write_frame(frame, folder)


def write_arrays(arrays: Sequence[Any], folder: Path, *, named: bool = False) -> Path:
    """Arrays [T] or [T, F] as a table, with a column "series" of their numbers, from 1, where there
    are several.

    named   also where there is one
    """
    import polars as pl

    named = named or len(arrays) > 1
    frames: list[pl.DataFrame] = []
    for k, array in enumerate(arrays, 1):
        frame = pl.DataFrame(_named(_columns(array, f"array {k}")))
        if frames and frame.width != frames[0].width - named:
            raise ValueError(
                f"array {k} has {counted(frame.width, 'columns')}, array 1 has"
                f" {frames[0].width - named}"
            )
        if named:
            frame.insert_column(0, pl.lit(f"{k}").alias(SERIES_COLUMN))
        frames.append(frame)
    return write_frame(pl.concat(frames, how="vertical_relaxed"), folder)


def write_sequences(sequences: Sequence[Any], folder: Path) -> Path:
    """Pairs (array [T] or [T, F], target) as a table with the columns "sequence", "label" and one
    per feature. Also (X, y): arrays [N, T, F] or lists of arrays, and N targets.
    """
    if _is_x_and_y(sequences):
        values, labels = sequences
        values = values.to_numpy() if hasattr(values, "columns") else values  # a sequence per row
        if len(values) != len(labels):
            raise ValueError(
                f"{counted(len(values), 'sequences')} and {counted(len(labels), 'labels')}"
            )
    else:
        values, labels = zip(*sequences, strict=True)
    return _write_rows_of(values, labels, folder)


def _write_unlabelled_sequences(sequences: Sequence[Any], folder: Path) -> Path:
    """An array [N, T] or [N, T, F] or a list of arrays [T] or [T, F], also with labels."""
    if all(map(_is_pair, sequences)):
        return write_sequences(sequences, folder)
    if isinstance(sequences, tuple) and len(sequences) == 2:
        first_of_x, first_of_y = (next(iter(own), None) for own in sequences)
        if is_value(first_of_y) and not is_value(first_of_x):
            return write_sequences(sequences, folder)
    return _write_rows_of(sequences, None, folder)


def _is_x_and_y(sequences: Sequence[Any]) -> bool:
    """Whether they are (X, y) instead of pairs (sequence, target)."""
    return len(sequences) == 2 and not all(map(_is_pair, sequences))


def _is_pair(one: Any) -> bool:
    """Whether it is (sequence, target)."""
    is_two = isinstance(one, (tuple, list)) and len(one) == 2
    return is_two and is_value(one[1]) and not is_value(one[0])


def _write_rows_of(values: Sequence[Any], labels: Sequence[Any] | None, folder: Path) -> Path:
    import polars as pl

    frames, width = [], 0
    labels = None if labels is None else list(labels)  # a pandas series has an index of its own
    for k, array in enumerate(values, 1):
        array = array.to_numpy() if hasattr(array, "to_numpy") else array
        columns = _columns(array, f"sequence {k}")
        width = width or len(columns)
        if len(columns) != width:
            raise ValueError(
                f"sequence {k} has {counted(len(columns), 'columns')}, sequence 1 has {width}"
            )
        frame = pl.DataFrame(_named(columns))
        frame.insert_column(0, pl.lit(k).alias("sequence"))
        if labels is not None:
            label = present(labels[k - 1], f"label {k}")
            frame.insert_column(1, pl.lit(label).alias("label"))
        frames.append(frame)
    return write_frame(pl.concat(frames, how="vertical_relaxed"), folder)


def _columns(array: Any, where: str) -> np.ndarray:
    """[F, T] of an array [T] or [T, F]. Raises ValueError."""
    if isinstance(array, Mapping):
        raise ValueError(f"{where} is a {type(array).__name__}; make a data frame of them")
    if hasattr(array, "columns"):
        raise ValueError(
            f"{where} is a {type(array).__name__}; join them into one data frame, with a column"
            " that names the series"
        )
    if not isinstance(array, np.ndarray):
        check_ragged(array, where)
        array = np.asarray(array)
    if isinstance(array, np.ma.MaskedArray):  # what is masked is missing
        array = np.ma.filled(array.astype(float), np.nan)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if array.dtype == object:  # as of a data frame with columns of several types
        array = _numbers(array, where)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub" or not len(array):
        raise ValueError(f"{where}: {array.dtype} {list(array.shape)}")
    return array.reshape(len(array), -1).T


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    """An array of objects as numbers, NaN for None. Raises ValueError that names the row."""
    rows = array.reshape(len(array), -1)
    for k, row in enumerate(rows, 1):
        for value in row:
            if value is not None and (isinstance(value, str) or not hasattr(value, "__float__")):
                raise ValueError(
                    f"{where}, row {k} holds {quote(value)}; give numbers, or a data frame with"
                    " named columns"
                )
    return array.astype(float)


def _named(columns: np.ndarray) -> dict[str, np.ndarray]:
    names = ["value"] if len(columns) == 1 else [f"x{k}" for k in range(1, len(columns) + 1)]
    return dict(zip(names, columns, strict=True))


def _write_texts(texts: Sequence[Any], folder: Path) -> Path:
    path = folder / "texts.txt"
    path.write_text("\n".join(strings(texts, "text")) + "\n", encoding="utf-8")
    return path


def _write_labelled(rows: Sequence[Any], folder: Path) -> Path:
    return _write_rows(rows, folder, ("text", "label"))


def _write_pairs(rows: Sequence[Any], folder: Path) -> Path:
    return _write_rows(rows, folder, ("source", "target"))


def _write_rows(rows: Sequence[Any], folder: Path, names: tuple[str, str]) -> Path:
    import polars as pl

    if _are_columns(rows, names):
        rows = list(zip(*rows, strict=True))
    for k, row in enumerate(rows, 1):
        if isinstance(row, Mapping):
            raise ValueError(f"row {k} is a dict; make a data frame of them")
        if isinstance(row, (str, bytes)) or len(row) != 2:
            if k == 1 and len(rows) == 2 and isinstance(row, (list, np.ndarray)):
                lengths = " and ".join(
                    f"{len(own)} {name}s" for own, name in zip(rows, names, strict=True)
                )
                raise ValueError(lengths)
            raise ValueError(f"row {k} is {quote(row)}")
    left, right = zip(*rows, strict=True)
    labels = [str(present(label, f"{names[1]} {k}")) for k, label in enumerate(right, 1)]
    return write_frame(pl.DataFrame({names[0]: strings(left, names[0]), names[1]: labels}), folder)


def _are_columns(rows: Sequence[Any], names: tuple[str, str]) -> bool:
    """Whether rows are (texts, labels) instead: two columns of one length. Raises ValueError where
    two rows of two could be either.
    """
    if len(rows) != 2 or any(isinstance(column, (str, bytes)) for column in rows):
        return False
    if len(rows[0]) == len(rows[1]) == 2:
        if isinstance(rows, list) and all(isinstance(row, tuple) for row in rows):
            return False
        if isinstance(rows, tuple) and not any(isinstance(row, tuple) for row in rows):
            return True
        raise ValueError(
            f"two rows, or two columns? give a frame with the columns {', '.join(names)}"
        )
    return len(rows[0]) == len(rows[1])


def _write_dialogues(dialogues: Sequence[Any], folder: Path) -> Path:
    path = folder / "dialogues.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, turns in enumerate(dialogues, 1):
            if isinstance(turns, Mapping) and "messages" in turns:
                turns = turns["messages"]
            if isinstance(turns, (str, bytes)) or not isinstance(turns, Sequence):
                raise ValueError(
                    f"dialogue {number} is {quote(turns)}; a dialogue is a list of its turns"
                )
            for k, turn in enumerate(turns, 1):
                if not isinstance(turn, (str, Mapping)):
                    raise ValueError(f"dialogue {number}, turn {k} is {quote(turn)}: expected text")
            messages = [
                dict(turn)
                if isinstance(turn, Mapping)
                else {"role": ("user", "assistant")[k % 2], "content": turn}
                for k, turn in enumerate(turns)
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return path


TAKES: Mapping[InMemory, str] = {
    "table": "a data frame, an array [T] or [T, F], or a list of arrays",
    "sequences": "a data frame, (X [N, T, F], y [N]), or a list of (array or data"
    " frame [T] or [T, F], target)",
    "texts": "a list of strings, or a column of them",
    "labelled": "a data frame, a list of (text, label), or (texts, labels)",
    "pairs": "a data frame, a list of (source, target), or (sources, targets)",
    "dialogues": "a list of dialogues, lists of strings or of {'role', 'content'}",
    "sounds": "a list of ((samples, sample rate in Hz), label)",
    "strokes": "a list of (strokes, label); a stroke is a list of points [x, y] or [x, y, t]",
    "pieces": "a list of paths of MIDI files",
    "clips": "an array [T, height, width] or [N, T, height, width], uint8 or floats in 0 … 1, or a"
    " list of arrays [T, height, width] or of (array, label)",
    "episodes": "a data frame with a column of episodes, or a list of (observations [T, V], actions"
    " [T] or [T, A])",
}
"""Kind -> the data in memory that are taken, in words."""
WRITERS: Mapping[InMemory, Callable[[Sequence[Any], Path], Path]] = {
    "table": write_arrays,
    "sequences": write_sequences,
    "texts": _write_texts,
    "labelled": _write_labelled,
    "pairs": _write_pairs,
    "dialogues": _write_dialogues,
    "sounds": write_sounds,
    "strokes": write_strokes,
    "pieces": write_pieces,
    "clips": write_clips,
    "episodes": write_episodes,
}
UNLABELLED: Mapping[InMemory | None, Callable[[Any, Path], Path]] = {
    "sequences": _write_unlabelled_sequences,
    "sounds": write_unlabelled_sounds,
    "strokes": write_unlabelled_strokes,
    "episodes": write_observed_episodes,
}
"""Kinds of which a trained model reads data without labels."""
UNLABELLED_TAKES: Mapping[InMemory | None, str] = {
    "sequences": "a data frame, an array [N, T] or [N, T, F], or a list of arrays [T] or [T, F]",
    "sounds": "(samples, sample rate in Hz), or a list of them",
    "strokes": "a drawing or a list of drawings; a drawing is a list of strokes, a stroke a list of"
    " points [x, y] or [x, y, t]",
    "episodes": "a data frame, observations [T, V], or a list of them",
}
"""Of `UNLABELLED`, in words."""
