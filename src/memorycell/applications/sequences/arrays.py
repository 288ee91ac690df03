"""Sequences in arrays: from Python, and from .npz files."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.reading_targets import ReadTarget, read_target
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet
from memorycell.applications.sequences.splits import PART_WORDS
from memorycell.applications.sequences.tables_columns import MAX_MAGNITUDE
from memorycell.applications.sequences.tables_rows import Rows
from memorycell.errors import DataError, counted, quote

ALIASES = {
    "X": ("X", "x", "data"),
    "y": ("y", "Y", "labels", "target"),
    "lengths": ("lengths",),
    "groups": ("groups", "group", "subjects"),
    "split": ("split", "part", "parts"),
    "names": ("names", "ids"),
    "channels": ("channels", "columns"),
    "static": ("static",),
    "static_channels": ("static_channels",),
}
"""Argument of `from_arrays` -> keys of an .npz file."""
DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,  # encrypted, or an unknown compression
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy raises for a file that is not a complete .npz."""


def from_arrays(
    X: Any,
    y: Any = None,
    *,
    lengths: Any = None,
    names: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    split: Any = None,
    static: Any = None,
    static_channels: Sequence[str] | None = None,
    layout: str = "ntf",
    kind: str | None = None,
    where: str = "arrays",
    labelled: bool = True,
) -> SequenceSet:
    """Labelled sequences from arrays. NaN is a missing value; steps at the end without any value
    are padding and left out.

    X         [N, T, F]; [N, T] for one channel; a list of N arrays [T_i, F] or [T_i], or of N data
              frames; with `lengths`, all steps of all sequences [ΣT_i, F]
    y         [N] classes or numbers; [N, K] labels (0 and 1) or numbers; at every step [N, T],
              [N, T, K], a list of [T_i], or with `lengths` [ΣT_i]
    split     official parts [N]: 0, 1, 2 or train, valid, test
    static    [N, S] numbers that are constant within a sequence
    layout    "ntf", or "nft" for channels before steps, as numpy3D and np-list of aeon and sktime
    kind      of the target; by default as for columns of tables

    Raises `DataError`.
    """
    values, frame_columns = _sequences(X, lengths, layout, where)
    count = len(values)
    notes = []
    if layout == "ntf" and isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[2] > X.shape[1]:
        notes.append(
            f"read as {counted(count, 'sequences')} of {counted(X.shape[1], 'steps')} and"
            f" {counted(X.shape[2], 'channels')};"
            " for channels before steps: layout=nft"
        )
    read = None if y is None or not labelled else _target(y, values, kind, where, names)
    values, trim_note = without_padding(values)
    notes += trim_note
    names = _names(names, count, where)
    channel_names = _channel_names(channels or frame_columns, values[0].shape[1], where)
    data = SequenceSet(
        where=where,
        names=names,
        channels=[Channel(name) for name in channel_names],
        values=values,
        target=None if read is None else read.target,
        static_channels=[],
        groups=None if groups is None else [str(g) for g in _sized(groups, count, "groups", where)],
        split=None if split is None else _parts(split, count, where),
        notes=notes + (read.notes if read is not None else []),
        found={"kind": read.target.kind} if read is not None and kind is None else {},
    )
    if static is not None:
        table = np.asarray(static, np.float64).reshape(len(static), -1)
        data.static = _sized(table, count, "static", where)
        own = static_channels or [f"static{k + 1}" for k in range(table.shape[1])]
        data.static_channels = [Channel(str(name)) for name in own]
    if read is not None and read.target.every_step:
        trimmed = [v[: len(own)] for v, own in zip(read.target.values, values, strict=True)]
        data.target = type(read.target)(read.target.kind, read.target.names, trimmed)
    keep = np.ones(count, bool) if read is None else read.labelled
    empty = np.array([len(v) == 0 for v in values])
    if empty.any():
        data.notes.append(f"{int(empty.sum()):,} of {count:,} sequences left out: without steps")
    return data if (keep & ~empty).all() else data.select(keep & ~empty)


def read_npz(path: Path, options: ReadOptions, *, labelled: bool = True) -> SequenceSet:
    """The sequences of an .npz file with the arrays of `from_arrays`, without pickles. Raises
    `DataError`.
    """
    where = str(path)
    arrays = load_npz(path)
    found = {}
    for argument, keys in ALIASES.items():
        own = [k for k in keys if k in arrays]
        if own:
            found[argument] = arrays[own[0]]
    if "X" not in found:
        names = quote(", ".join(arrays))[1:-1]
        raise DataError(f"{where}: no array X; it has {names}; expected X [N, T, F] and y [N]")
    if labelled and "y" not in found:
        raise DataError(f"{where}: no array y with the target; expected X [N, T, F] and y [N]")
    for name in ("names", "channels", "groups", "static_channels"):
        if name in found:
            found[name] = [str(v) for v in found[name].reshape(-1).tolist()]
    layout = options.layout or "ntf"
    return from_arrays(**found, layout=layout, kind=options.kind, where=where, labelled=labelled)


def load_npz(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file without pickles. Raises `DataError`."""
    try:
        with path.open("rb") as file:  # numpy does not close a file that it cannot read
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise DataError(f"{path}: is a single array; save X and y: numpy.savez")
            return {name: found[name] for name in found.files}
    except DAMAGED as error:
        reason = str(error)
        if "pickle" in reason.lower() or "object" in reason.lower():
            raise DataError(
                f"{path}: holds Python objects, which are not read; for sequences of different"
                " lengths save all steps as X [steps, F] and lengths [N]"
            ) from None
        first = quote((reason.splitlines() or [type(error).__name__])[0])[1:-1]
        raise DataError(f"{path}: is not a readable .npz file ({first})") from None


def _sequences(
    given: Any, lengths: Any, layout: str, where: str
) -> tuple[list[np.ndarray], list[str] | None]:
    """(N arrays float64 [T_i, F], the names of the channels where frames have them)."""
    if layout not in ("ntf", "nft"):
        raise DataError(f"{where}: layout={quote(layout)}: expected ntf or nft")
    if lengths is not None:
        return _ragged(given, lengths, layout, where), None
    if isinstance(given, np.ndarray) and given.dtype != object:
        array = _float(given, f"{where}: X")
        if array.ndim == 2:
            array = array[:, :, None]
        elif array.ndim == 3:
            array = array.transpose(0, 2, 1) if layout == "nft" else array
        else:
            raise DataError(f"{where}: X {list(array.shape)}: expected [N, T, F] or [N, T]")
        if 0 in array.shape:
            raise DataError(f"{where}: X {list(array.shape)}: is empty")
        return list(array), None
    sequences: list[np.ndarray] = []
    columns: list[str] | None = None
    for k, item in enumerate(given):
        place = f"{where}: sequence {k + 1}"
        own = _frame_columns(item)
        if own is not None:
            if columns is not None and own != columns:
                raise DataError(f"{place}: its columns differ from those of sequence 1")
            columns = own
        array = _float(item if own is None else _frame_array(item), place)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2:
            raise DataError(f"{place}: {list(array.shape)}: expected [T, F]")
        array = array.T if layout == "nft" and own is None else array
        if sequences and array.shape[1] != sequences[0].shape[1]:
            raise DataError(
                f"{place}: {counted(array.shape[1], 'channels')}, but"
                f" {sequences[0].shape[1]} in sequence 1"
                + ("" if layout == "nft" else "; for channels before steps: layout=nft")
            )
        sequences.append(array)
    if not sequences or sequences[0].shape[1] == 0:
        raise DataError(f"{where}: there are no sequences")
    return sequences, columns


def _ragged(given: Any, lengths: Any, layout: str, where: str) -> list[np.ndarray]:
    array, sizes = _float(given, f"{where}: X"), np.asarray(lengths)
    array = array[:, None] if array.ndim == 1 else array
    if sizes.dtype.kind not in "iu" or sizes.ndim != 1 or (sizes < 0).any() or len(sizes) == 0:
        raise DataError(f"{where}: lengths: expected numbers of steps [N]")
    if array.ndim == 3:  # padded [N, T, F]
        array = array.transpose(0, 2, 1) if layout == "nft" else array
        if len(array) != len(sizes) or (sizes > array.shape[1]).any():
            raise DataError(
                f"{where}: X {list(array.shape)} and lengths {list(sizes.shape)} of up to"
                f" {int(sizes.max())} steps contradict each other"
            )
        return [a[:n] for a, n in zip(array, sizes.tolist(), strict=True)]
    array = array.T if layout == "nft" and array.ndim == 2 else array
    if array.ndim != 2 or len(array) != sizes.sum():
        raise DataError(
            f"{where}: X {list(array.shape)}: the lengths add up to {int(sizes.sum()):,} steps"
        )
    ends = np.cumsum(sizes).tolist()
    return [array[end - size : end] for end, size in zip(ends, sizes.tolist(), strict=True)]


def _float(given: Any, place: str) -> np.ndarray:
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "fiub":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{place}: holds something else than numbers") from None
    if np.isinf(array).any():
        raise DataError(f"{place}: a value is infinite; NaN is missing")
    return np.clip(array, -MAX_MAGNITUDE, MAX_MAGNITUDE)


def _frame_columns(item: Any) -> list[str] | None:
    """The names of the columns of a data frame; None for anything else."""
    if isinstance(item, (np.ndarray, Sequence)):
        return None
    import narwhals as nw

    try:
        return [str(c) for c in nw.from_native(item, eager_only=True).columns]
    except TypeError:
        return None


def _frame_array(item: Any) -> np.ndarray:
    import narwhals as nw

    return nw.from_native(item, eager_only=True).to_numpy()


def _target(
    y: Any, values: list[np.ndarray], kind: str | None, where: str, names: Any
) -> ReadTarget:
    """The target of arrays; see `from_arrays`."""
    import polars as pl

    y = y if isinstance(y, (list, tuple, np.ndarray)) else np.asarray(y)
    count, sizes = len(values), np.array([len(v) for v in values])
    labels = [str(k + 1) for k in range(count)] if names is None else [str(n) for n in names]
    every_step, columns = _target_columns(y, sizes, kind, where)
    rows = Rows.one_each(where, labels)
    if every_step:
        starts = np.concatenate([[0], np.cumsum(sizes)])
        rows = Rows(where, labels, starts, np.arange(starts[-1]))
        kind = kind or _step_kind(columns)
    series = []
    for k, column in enumerate(columns):
        name = "y" if len(columns) == 1 else f"y{k + 1}"
        if column.dtype.kind in "fiub":
            series.append(pl.Series(name, column.astype(np.float64)).fill_nan(None))
        else:
            texts = [None if v is None or v != v else str(v) for v in column.tolist()]
            series.append(pl.Series(name, texts, dtype=pl.String))
    return read_target(series, rows, kind)


def _target_columns(
    y: Any, sizes: np.ndarray, kind: str | None, where: str
) -> tuple[bool, list[np.ndarray]]:
    """(whether it is at every step, columns [N] or [ΣT_i])."""
    count, total = len(sizes), int(sizes.sum())
    if not isinstance(y, np.ndarray) and len(y) == count and np.ndim(y[0]) >= 1:
        parts = [np.asarray(part) for part in y]
        if all(len(part) == size for part, size in zip(parts, sizes, strict=True)) and (
            kind is None or kind.startswith("step")
        ):
            flat = np.concatenate(parts)
            return True, list(flat.reshape(total, -1).T)
    try:
        array = np.asarray(y)
    except ValueError:
        array = np.empty(0)
    step = kind is None or kind.startswith("step")
    equal = bool((sizes == sizes[0]).all())
    if array.ndim == 3 and equal and array.shape[:2] == (count, sizes[0]):
        return True, list(array.reshape(total, -1).T)
    if array.ndim == 2 and step and equal and array.shape == (count, sizes[0]):
        return True, [array.reshape(-1)]
    if array.ndim in (1, 2) and len(array) == count and not (kind or "").startswith("step"):
        return False, list(array.reshape(count, -1).T)
    if array.ndim in (1, 2) and step and len(array) == total:
        return True, list(array.reshape(total, -1).T)
    raise DataError(
        f"{where}: y {list(array.shape) if array.size else 'of arrays of different lengths'} does"
        f" not fit {count:,} sequences of {total:,} steps"
    )


def _step_kind(columns: Sequence[np.ndarray]) -> str | None:
    """Classes for words and whole numbers of an integer array; else inferred."""
    return "step_class" if len(columns) == 1 and columns[0].dtype.kind in "OSU" else None


def without_padding(values: list[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """The sequences without steps at the end that have no value."""
    trimmed, steps = [], 0
    for own in values:
        end = len(own)
        if end and np.isnan(own[-1]).all():
            known = np.flatnonzero(~np.isnan(own).all(1))
            end = int(known[-1]) + 1 if len(known) else 0
            steps += len(own) - end
        trimmed.append(own[:end])
    note = f"{steps:,} steps at the end of sequences have no value: left out as padding"
    return trimmed, [note] if steps else []


def _names(names: Any, count: int, where: str) -> list[str]:
    if names is None:
        return [str(k + 1) for k in range(count)]
    own = [str(name) for name in _sized(names, count, "names", where)]
    repeated = [name for name, times in Counter(own).items() if times > 1]
    if repeated:
        one = own.index(repeated[0])
        two = own.index(repeated[0], one + 1)
        raise DataError(
            f"{where}: sequences {one + 1} and {two + 1} are both called {quote(repeated[0])};"
            " rename one"
        )
    return own


def _channel_names(names: Sequence[str] | None, count: int, where: str) -> list[str]:
    if names is None:
        return [f"x{k + 1}" for k in range(count)]
    own = [str(name) for name in _sized(names, count, "channels", where)]
    if len(set(own)) < len(own):
        raise DataError(f"{where}: two channels have the same name; rename one")
    return own


def _parts(split: Any, count: int, where: str) -> np.ndarray:
    array = _sized(np.asarray(split), count, "split", where)
    if array.dtype.kind in "OSU":
        codes = [PART_WORDS.get(str(word).lower(), -1) for word in array.tolist()]
        array = np.array(codes)
    if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1, 2)).all():
        raise DataError(f"{where}: split: expected 0, 1, 2 or train, valid, test per sequence")
    return array.astype(np.int8)


def _sized(values: Any, count: int, name: str, where: str) -> Any:
    if len(values) != count:
        raise DataError(f"{where}: {name} has {len(values):,} entries, expected {count:,}")
    return values
