"""Values that are constant within a sequence, in columns or in a table of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.sequence_set import Channel
from memorycell.applications.sequences.tables_columns import (
    InputColumns,
    read_channels,
    read_columns,
)
from memorycell.applications.sequences.tables_per_sequence import read_sequence_table
from memorycell.applications.sequences.tables_rows import Rows
from memorycell.errors import DataError, quote
from memorycell.tables.table import TABLE_SUFFIXES

if TYPE_CHECKING:
    import polars as pl


def resolve_path(base: Path, name: str) -> Path:
    """A file by its path, or by its name in the folder of the data."""
    path = Path(name)
    return path if path.is_absolute() or not (base / name).exists() else base / name


def static_table_path(options: ReadOptions, frame: pl.DataFrame, base: Path) -> Path | None:
    """The file that the option `static` names; None where it names columns."""
    static = options.static
    if static is None or static in frame.columns or not static.lower().endswith(TABLE_SUFFIXES):
        return None
    return resolve_path(base, static)


def read_static(
    names: Sequence[str],
    path: Path | None,
    frame: pl.DataFrame,
    rows: Rows,
    options: ReadOptions,
    channels: Sequence[Channel] | None,
    notes: list[str],
) -> InputColumns:
    """Static values [N, S] of the columns `names` of a table, or of all columns of a file.

    channels   those of a model
    notes      what was left out is added

    Raises `DataError`, also for a column that varies within a sequence.
    """
    if path is not None:
        return _read_file(path, rows, options, channels, notes)
    if not names:
        return InputColumns([], np.zeros((len(rows), 0)))
    read = _read(frame, rows.where, names, options, channels, named=True)
    values = read.values[rows.order]
    for k, channel in enumerate(read.channels):
        change = rows.first_change(values[:, k])
        if change is not None:
            name = rows.names[rows.sequence_of(change)]
            raise DataError(
                f"{rows.place(change)}: static column {quote(channel.name)} varies in sequence"
                f" {quote(name)}; leave it out of static"
            )
    bounds = [rows.bounds(values[:, k])[0] for k in range(values.shape[1])]
    read.values = np.stack(bounds, 1) if bounds else np.zeros((len(rows), 0))
    return read


def _read_file(
    path: Path,
    rows: Rows,
    options: ReadOptions,
    channels: Sequence[Channel] | None,
    notes: list[str],
) -> InputColumns:
    table = read_sequence_table(path, rows.names, options.sequence, None, notes)
    without = table.rows < 0
    if without.any():
        first = rows.names[int(without.argmax())]
        notes.append(
            f"{path.name}: no row for {int(without.sum()):,} of {len(rows):,} sequences (first:"
            f" {quote(first)}); their static values are missing"
        )
    frame = table.frame.drop(table.key)
    read = _read(frame, str(path), frame.columns, options, channels, named=False)
    read.values = read.values[np.maximum(table.rows, 0)]
    read.values[without] = np.nan
    notes += [f"{path.name}: {note}" for note in read.notes]
    return read


def _read(
    frame: pl.DataFrame,
    where: str,
    names: Sequence[str],
    options: ReadOptions,
    channels: Sequence[Channel] | None,
    *,
    named: bool,
) -> InputColumns:
    if channels is not None:
        return read_channels(frame, where, channels)
    return read_columns(
        frame,
        where,
        names,
        named=named,
        decimal=options.decimal,
        thousands=options.thousands,
    )
