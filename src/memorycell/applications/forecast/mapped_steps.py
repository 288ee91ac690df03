"""The series of many Parquet files on regular steps, in memory-mapped arrays.

    files ──pieces──► rows ──by series──► rows in order ──clock──► steps

At no time is more in memory than a piece of rows and what is known of each series: its name, its
number of rows and its static values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from memorycell.application.array_folder import (
    ArrayFolder,
    ArrayWriter,
    array_folder,
    file_states,
)
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.series import Series, require_columns, resample
from memorycell.errors import DataError
from memorycell.tables.numbers import read_numbers
from memorycell.tables.parquet_files import ParquetTable

BLOCK_STEPS = 1 << 17
"""Steps that are in memory at once."""


class MappedSteps:
    """All steps of a table, one series after another, as in `Series`.

    time, values, row, start, group   [N], values [N, C]
    groups, static                    see `Series`
    made_from                         the name of the arrays, which depends on what they are
    offsets                           [G + 1] int64: the first step of each series, and N
    skipped, fingerprint              see `Series`
    """

    def __init__(self, folder: ArrayFolder) -> None:
        self.made_from, notes = folder.folder.name, folder.notes
        self.time, self.values = folder["time"], folder["values"]
        self.row, self.start, self.group = folder["row"], folder["start"], folder["group"]
        self.groups: list[str] = notes["groups"]
        self.static: dict[str, list[str]] = notes["static"]
        self.offsets = np.cumsum([0, *notes["sizes"]])
        self.skipped: int = notes["skipped"]
        self.fingerprint: str = notes["fingerprint"]

    def __len__(self) -> int:
        return len(self.time)

    def blocks(self) -> Iterator[slice]:
        """Slices of all steps."""
        for begin in range(0, len(self), BLOCK_STEPS):
            yield slice(begin, min(begin + BLOCK_STEPS, len(self)))

    def series(self, part: slice) -> Series:
        """Some steps in memory; a segment that began before them begins at the first."""
        which, group = np.unique(self.group[part], return_inverse=True)
        return Series(
            time=np.array(self.time[part]),
            values=np.array(self.values[part]),
            row=np.array(self.row[part]),
            start=np.maximum(self.start[part] - part.start, 0),
            group=group.astype(np.int64),
            groups=[self.groups[k] for k in which],
            static={c: [own[k] for k in which] for c, own in self.static.items()},
        )

    def all_steps(self) -> Series:
        """The mapped arrays themselves."""
        return Series(
            self.time,
            self.values,
            self.row,
            self.start,
            self.group,
            self.groups,
            self.skipped,
            self.static,
        )


def mapped_steps(table: ParquetTable, codec: SeriesCodec) -> MappedSteps:
    """The steps of a table with the columns and the clock of a codec, fitted or not. Raises
    `DataError`, and `UserError` where the arrays cannot be written.
    """
    description = asdict(codec)
    read = ("targets", "inputs", "clock", "max_gap", "times", "numbers", "group")
    made_from = [
        file_states(table.paths),
        {key: description[key] for key in read},
        list(codec.static),
    ]
    folder = array_folder("forecast-steps", made_from, lambda w: _write_steps(w, table, codec))
    return MappedSteps(folder)


def _write_steps(writer: ArrayWriter, table: ParquetTable, codec: SeriesCodec) -> dict[str, Any]:
    groups, counts, static = _write_rows(writer, table, codec)
    sizes, skipped = _resample(writer, codec, groups, counts)
    for name in ("row time", "row values", "row number"):
        writer.remove(name)
    return {
        "groups": list(groups),
        "sizes": sizes,
        "static": static,
        "skipped": skipped,
        "fingerprint": _fingerprint(writer),
    }


def _write_rows(
    writer: ArrayWriter, table: ParquetTable, codec: SeriesCodec
) -> tuple[dict[str, int], np.ndarray, dict[str, list[str]]]:
    """Write the rows, those of a series together. Returns (series -> its number, rows of each,
    static column -> its value in each).
    """
    groups: dict[str, int] = {} if codec.group is not None else {"": 0}
    static: dict[str, list[str]] = {c: [] for c in codec.static}
    times = () if codec.times is None else codec.times.columns
    own = () if codec.group is None else (codec.group,)
    needed = list(dict.fromkeys([*codec.columns, *times, *own, *codec.static]))
    require_columns(table.columns, needed, str(table.paths[0]))
    together, last = True, 0
    for piece in table.pieces(needed):
        frame, where = piece.frame, piece.where
        columns = [read_numbers(frame[c], where, codec.numbers.get(c)) for c in codec.columns]
        numbers = np.arange(piece.first, piece.first + frame.height, dtype=np.int64)
        which = np.zeros(frame.height, np.int32)
        if codec.group is not None:
            labels = [str(label) for label in frame[codec.group]]
            for at, label in enumerate(labels):
                if label not in groups:
                    groups[label] = len(groups)
                    for c in codec.static:
                        static[c].append(str(frame[c][at]))
            which = np.array([groups[label] for label in labels], np.int32)
        if len(which):
            together &= bool((np.diff(which, prepend=which[0]) >= 0).all()) and which[0] >= last
            last = int(which[-1])
        times_read = numbers if codec.times is None else codec.times.read(frame, where, codec.group)
        writer.append("row time", times_read)
        writer.append("row values", np.stack(columns, 1))
        writer.append("row number", numbers)
        writer.append("row group", which)
    which = writer.finished("row group")
    parts = [which[k : k + BLOCK_STEPS] for k in range(0, len(which), BLOCK_STEPS)]
    counts = np.sum([np.bincount(part, minlength=len(groups)) for part in parts], 0)
    if not together:
        _bring_together(writer, which, counts)
    writer.remove("row group")
    return groups, counts, static


def _bring_together(writer: ArrayWriter, which: np.ndarray, counts: np.ndarray) -> None:
    """Order the rows by series; those of a series keep their order."""
    names = ("row time", "row values", "row number")
    unordered = {name: writer.finished(name) for name in names}
    for name in names:  # the maps stay open
        writer.remove(name)
    ordered = {name: writer.create(name, own.shape, own.dtype) for name, own in unordered.items()}
    place = np.cumsum([0, *counts[:-1]])
    for begin in range(0, len(which), BLOCK_STEPS):
        own = which[begin : begin + BLOCK_STEPS]
        order = np.argsort(own, kind="stable")
        found, first, sizes = np.unique(own[order], return_index=True, return_counts=True)
        rank = np.arange(len(own)) - np.repeat(first, sizes)
        target = place[own[order]] + rank
        for name in names:
            ordered[name][target] = unordered[name][begin : begin + BLOCK_STEPS][order]
        place[found] += sizes


def _resample(
    writer: ArrayWriter, codec: SeriesCodec, groups: dict[str, int], counts: np.ndarray
) -> tuple[list[int], int]:
    """Write the steps. Returns (steps of each series, rows that were skipped)."""
    time, values = writer.finished("row time"), writer.finished("row values")
    row = writer.finished("row number")
    sizes: list[int] = []
    done = skipped = first = 0
    for group, count in enumerate(counts.tolist()):
        size = start = 0
        begin, kept = first, -1  # kept: the last row that has a step
        while begin < first + count:
            end = min(begin + BLOCK_STEPS, first + count)
            rows = np.arange(begin, end) if kept < 0 else np.append(kept, np.arange(begin, end))
            part = resample(
                codec.clock,
                codec.max_gap,
                np.array(time[rows]),
                np.array(values[rows]),
                {},
                np.array(row[rows]),
                _where(codec, list(groups)[group] if len(counts) < 1000 else ""),
            )
            new = slice(0 if kept < 0 else 1, None)
            # A segment that began in the block before is still that one.
            local = np.where(part.start == 0, start, done + size - new.start + part.start)[new]
            if kept < 0:
                local = done + part.start
            skipped += part.skipped
            writer.append("time", part.time[new])
            writer.append("values", part.values[new])
            writer.append("row", part.row[new])
            writer.append("start", local.astype(np.int64))
            writer.append("group", np.full(len(local), group, np.int32))
            size += len(local)
            start = int(local[-1]) if len(local) else start
            kept = int(np.flatnonzero(row[rows] == part.row[-1])[-1]) if len(part) else -1
            kept = int(rows[kept])
            begin = end
        sizes.append(size)
        done, first = done + size, first + count
    if not done:
        raise DataError("the files have no rows")
    return sizes, skipped


def _where(codec: SeriesCodec, name: str) -> str:
    return f"{codec.group} {name}" if codec.group is not None and name else "the rows"


def _fingerprint(writer: ArrayWriter) -> str:
    """As `Series.fingerprint`."""
    digest = hashlib.sha256()
    for name in ("time", "values", "start"):
        array = writer.finished(name)
        for begin in range(0, len(array), BLOCK_STEPS):
            digest.update(np.ascontiguousarray(array[begin : begin + BLOCK_STEPS]).tobytes())
    return digest.hexdigest()[:16]
