"""Writes each kind of data in memory as the files that people have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import InMemory
from memorycell.errors import UserError, quote

if TYPE_CHECKING:
    import polars as pl


SERIES_COLUMN = "series"
"""Names the array that a row is of."""
NEW_SERIES = "new"
"""The name of an array that is given alone to a model of several."""
MAX_RATE_HZ = 10_000_000


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

    frame = pl.DataFrame(_named(_columns(np.asarray(values), "array 1")))
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
                f"array {k} has {frame.width} columns, array 1 has {frames[0].width - named}"
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
            raise ValueError(f"{len(values)} sequences and {len(labels)} labels")
    else:
        values, labels = zip(*sequences, strict=True)
    return _write_rows_of(values, labels, folder)


def _write_unlabelled_sequences(sequences: Sequence[Any], folder: Path) -> Path:
    """An array [N, T] or [N, T, F] or a list of arrays [T] or [T, F], also with labels."""
    if all(map(_is_pair, sequences)):
        return write_sequences(sequences, folder)
    if isinstance(sequences, tuple) and len(sequences) == 2:
        first_of_x, first_of_y = (next(iter(own), None) for own in sequences)
        if _is_value(first_of_y) and not _is_value(first_of_x):
            return write_sequences(sequences, folder)
    return _write_rows_of(sequences, None, folder)


def _is_x_and_y(sequences: Sequence[Any]) -> bool:
    """Whether they are (X, y) instead of pairs (sequence, target)."""
    return len(sequences) == 2 and not all(map(_is_pair, sequences))


def _is_pair(one: Any) -> bool:
    """Whether it is (sequence, target)."""
    is_two = isinstance(one, (tuple, list)) and len(one) == 2
    return is_two and _is_value(one[1]) and not _is_value(one[0])


def _is_value(one: Any) -> bool:
    """Whether it is one number or text, and no sequence."""
    return (
        isinstance(one, (str, bytes))
        or getattr(one, "ndim", None) == 0
        or not (hasattr(one, "__len__") or hasattr(one, "__iter__"))
    )


def _write_rows_of(values: Sequence[Any], labels: Sequence[Any] | None, folder: Path) -> Path:
    import polars as pl

    frames, width = [], 0
    labels = None if labels is None else list(labels)  # a pandas series has an index of its own
    for k, array in enumerate(values, 1):
        array = array.to_numpy() if hasattr(array, "to_numpy") else array
        columns = _columns(array, f"sequence {k}")
        width = width or len(columns)
        if len(columns) != width:
            raise ValueError(f"sequence {k} has {len(columns)} columns, sequence 1 has {width}")
        frame = pl.DataFrame(_named(columns))
        frame.insert_column(0, pl.lit(k).alias("sequence"))
        if labels is not None:
            label = _present(labels[k - 1], f"label {k}")
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
        _check_ragged(array, where)
        array = np.asarray(array)
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


def _check_ragged(rows: Any, where: str, name: str = "row") -> None:
    """Raises ValueError where the rows of a list of lists differ in length."""
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        return
    lengths = [len(row) if isinstance(row, (Sequence, np.ndarray)) else -1 for row in rows]
    for k, length in enumerate(lengths, 1):
        if length != lengths[0]:
            raise ValueError(
                f"{where}: {name} {k} has {max(length, 1)} values, {name} 1 has"
                f" {max(lengths[0], 1)}; give {name}s of one length"
            )


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
        if isinstance(row, (str, bytes)) or len(row) != 2:
            if k == 1 and len(rows) == 2 and isinstance(row, (list, np.ndarray)):
                lengths = " and ".join(
                    f"{len(own)} {name}s" for own, name in zip(rows, names, strict=True)
                )
                raise ValueError(lengths)
            raise ValueError(f"row {k} is {quote(row)}")
    left, right = zip(*rows, strict=True)
    labels = [str(_present(label, f"{names[1]} {k}")) for k, label in enumerate(right, 1)]
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


def _present(label: Any, where: str) -> Any:
    """The label. Raises `UserError` where it is None, NaN or NaT, or not one value."""
    if np.ndim(label) > 0:
        raise UserError(f"{where} is {quote(label)}: expected one value")
    if label is None or type(label).__name__ == "NAType" or bool(label != label):
        raise UserError(f"{where} is missing; leave its row out, or give a label")
    return label.item() if isinstance(label, np.generic) else label


def _write_dialogues(dialogues: Sequence[Any], folder: Path) -> Path:
    path = folder / "dialogues.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, turns in enumerate(dialogues, 1):
            if isinstance(turns, (str, bytes)) or not isinstance(turns, Sequence):
                raise ValueError(
                    f"dialogue {number} is {quote(turns)}; a dialogue is a list of its turns"
                )
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

    names = [_write_sound(sound, folder, k) for k, (sound, _) in enumerate(sounds)]
    labels = [str(_present(label, f"label {k}")) for k, (_, label) in enumerate(sounds, 1)]
    pl.DataFrame({"file": names, "label": labels}).write_csv(folder / "labels.csv")
    return folder


def _write_sound(sound: Any, folder: Path, k: int) -> str:
    import soundfile

    if not isinstance(sound, (tuple, list)) or len(sound) != 2:
        raise ValueError(f"sound {k + 1} is {quote(sound)}")
    samples = np.asarray(sound[0])
    if isinstance(sound[1], str) or np.ndim(sound[1]) or not 1 <= sound[1] <= MAX_RATE_HZ:
        raise ValueError(f"sound {k + 1}: {quote(sound[1])} is not a sample rate in Hz")
    rate = int(sound[1])
    subtype = "PCM_16" if samples.dtype == np.int16 else "FLOAT"
    soundfile.write(folder / f"{k:06d}.wav", samples, rate, subtype=subtype)
    return f"{k:06d}.wav"


def _write_unlabelled_sounds(sounds: Any, folder: Path) -> Path:
    """One (samples, sample rate), or a list of them, also with labels."""
    one = isinstance(sounds, tuple) and len(sounds) == 2 and np.ndim(sounds[1]) == 0
    for k, sound in enumerate([sounds] if one else sounds):
        _write_sound(sound[0] if isinstance(sound[0], tuple) else sound, folder, k)
    return folder


def _write_strokes(drawings: Sequence[Any], folder: Path) -> Path:
    return _write_drawings([(strokes, str(label)) for strokes, label in drawings], folder)


def _write_unlabelled_strokes(drawings: Any, folder: Path) -> Path:
    """One drawing, a list of strokes, or a list of them, also with labels."""
    is_labelled = all(isinstance(one, tuple) and isinstance(one[1], str) for one in drawings)
    if is_labelled:
        return _write_drawings(drawings, folder)
    one = np.ndim(drawings[0][0]) == 1  # the first stroke's first point
    return _write_drawings([(d, None) for d in ([drawings] if one else drawings)], folder)


def _write_drawings(drawings: Sequence[tuple[Any, str | None]], folder: Path) -> Path:
    path = folder / "strokes.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for k, (strokes, label) in enumerate(drawings, 1):
            for j, stroke in enumerate(strokes, 1):
                _check_ragged(stroke, f"drawing {k}, stroke {j}", "point")
            record: dict[str, Any] = {
                "strokes": [np.asarray(stroke, float).tolist() for stroke in strokes]
            }
            if label is not None:
                record["label"] = label
            file.write(json.dumps(record) + "\n")
    return path


def _write_pieces(paths: Sequence[Any], folder: Path) -> Path:
    for k, path in enumerate(map(Path, paths)):
        if not path.is_file():
            raise ValueError(f"piece {k + 1}: {quote(str(path))} is no file")
        shutil.copyfile(path, folder / f"{k:06d}-{path.name}")
    return folder


def _write_clips(clips: Sequence[Any], folder: Path) -> Path:
    """Arrays [T, height, width] or (array, label), a file each; or one array [N, T, height, width].
    The reader checks their values.
    """
    labelled = [isinstance(clip, tuple) for clip in clips]
    if any(labelled) and not all(labelled):
        raise ValueError(f"clip {labelled.index(False) + 1} has no label")
    for k, clip in enumerate(clips, 1):
        frames, label = clip if labelled[0] else (clip, None)
        frames = np.asarray(frames)
        axes = (3, 4) if len(clips) == 1 and not labelled[0] else (3,)
        if frames.ndim not in axes or frames.dtype.kind not in "fiub" or not frames.size:
            raise ValueError(f"clip {k}: {frames.dtype} {list(frames.shape)}")
        if not labelled[0]:
            np.save(folder / f"clip-{k}.npy", frames)
            continue
        text = str(_present(label, f"label {k}"))
        np.savez(folder / f"clip-{k}.npz", frames=frames[None], labels=np.array([text]))
    return folder


def strings(values: Sequence[Any], what: str) -> list[str]:
    """The values. Raises TypeError for one that is not a string."""
    for k, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise TypeError(f"{what} {k} is {type(value).__name__}")
    return list(values)


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
}
"""Kind -> the data in memory that are taken, in words."""
WRITERS: Mapping[InMemory, Callable[[Sequence[Any], Path], Path]] = {
    "table": write_arrays,
    "sequences": write_sequences,
    "texts": _write_texts,
    "labelled": _write_labelled,
    "pairs": _write_pairs,
    "dialogues": _write_dialogues,
    "sounds": _write_sounds,
    "strokes": _write_strokes,
    "pieces": _write_pieces,
    "clips": _write_clips,
}
UNLABELLED: Mapping[InMemory | None, Callable[[Any, Path], Path]] = {
    "sequences": _write_unlabelled_sequences,
    "sounds": _write_unlabelled_sounds,
    "strokes": _write_unlabelled_strokes,
}
"""Kinds of which a trained model reads data without labels."""
