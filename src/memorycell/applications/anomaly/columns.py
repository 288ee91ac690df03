"""The columns of a table of readings, how they are inferred, and the recordings in a table.

A row is one time step. Rows of the same recording (a file, or a value of the `group` column) are
consecutive steps, at any time intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from memorycell.errors import DataError
from memorycell.tables.clock import iso_time
from memorycell.tables.table import are_dates, is_missing, read_numbers, read_table, read_times

if TYPE_CHECKING:
    import polars as pl

GAP = "(gap)"
"""The name of the time since the previous row, log(1 + seconds), as a numeric column."""
MAX_CATEGORIES = 64
"""Categories of a column; rarer ones share one id."""
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
MAX_READING = 1e150
"""Readings are clipped to ± this value, so that their squares are finite."""
MAX_TEXT_SHARE = 0.1
"""Of the values of a numeric column; such values are reported as errors with their row."""


@dataclass
class Recording:
    """One recording of N rows.

    time     [N] int64, microseconds since 1970, or row numbers
    values   [N, K] float64, NaN where missing
    words    [N, C] object: the categories as text, "" where missing
    labels   [N] bool, True for anomalies; None without labels
    rows     [N] int64, the row in its file, from 0
    """

    name: str
    time: np.ndarray
    values: np.ndarray
    words: np.ndarray
    labels: np.ndarray | None
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    def select(self, mask: np.ndarray) -> Recording:
        """The rows of a mask [N] bool, without labels."""
        return Recording(
            self.name,
            self.time[mask],
            self.values[mask],
            self.words[mask],
            None,
            self.rows[mask],
        )


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by role.

    numbers      K columns; `GAP` may be the last
    categories   C columns
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...] = ()
    time: str | None = None
    time_format: str | None = None
    group: str | None = None
    label: str | None = None

    @property
    def gap(self) -> bool:
        """Whether the time since the previous row is one of the numbers."""
        return GAP in self.numbers

    @property
    def table_numbers(self) -> tuple[str, ...]:
        """The numbers that are columns of the table."""
        return tuple(c for c in self.numbers if c != GAP)

    def read(self, frame: pl.DataFrame, where: str, name: str = "") -> list[Recording]:
        """The recordings in a table; `name` is that of its only one without a group column.

        Raises `DataError` for a missing column, a value that cannot be read, and rows that are not
        in order of time.
        """
        needed = (self.time, self.group)
        for column in (*self.table_numbers, *self.categories, *filter(None, needed)):
            if column not in frame.columns:
                raise DataError(
                    f"{where}: no column {column!r}, which the model reads; the table has"
                    f" {', '.join(map(repr, frame.columns))}"
                )
        values = np.stack([clip(read_numbers(frame[c], where)) for c in self.table_numbers], 1)
        time = (
            read_times(frame[self.time], where, self.time_format)
            if self.time
            else np.arange(len(values))
        )
        labels = self._labels(frame, where)
        words = np.empty((len(values), len(self.categories)), object)
        for k, column in enumerate(self.categories):
            words[:, k] = [word(v) for v in frame[column].to_list()]
        recordings = []
        for own_name, rows in self._groups(frame, name).items():
            self._check_order(time, rows, where)
            own = values[rows]
            if self.gap:
                gaps = [math.nan, *(log_gap(a, b) for a, b in pairwise(time[rows]))]
                own = np.column_stack([own, gaps])
            own_labels = None if labels is None else labels[rows]
            recordings.append(Recording(own_name, time[rows], own, words[rows], own_labels, rows))
        return recordings

    def _labels(self, frame: pl.DataFrame, where: str) -> np.ndarray | None:
        if self.label is None or self.label not in frame.columns:
            return None
        values = read_numbers(frame[self.label], where)
        wrong = ~np.isin(values, (0, 1))
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{where}: row {row + 1}, column {self.label!r}: {frame[self.label][row]!r} is not"
                " a label; write 0 for normal and 1 for an anomaly"
            )
        labels: np.ndarray = values == 1
        return labels

    def _groups(self, frame: pl.DataFrame, name: str) -> dict[str, np.ndarray]:
        """Recording -> its rows."""
        if self.group is None:
            return {name: np.arange(frame.height)}
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(frame[self.group]):
            rows.setdefault("" if value is None else str(value), []).append(row)
        return {name: np.array(own) for name, own in rows.items()}

    def _check_order(self, time: np.ndarray, rows: np.ndarray, where: str) -> None:
        backwards = np.flatnonzero(np.diff(time[rows]) < 0)
        if len(backwards):
            a, b = rows[backwards[0]], rows[backwards[0] + 1]
            fix = (
                ""
                if self.group
                else ", or name the column that identifies recordings: --set group=COLUMN"
            )
            raise DataError(
                f"{where}: row {b + 1}: the time goes back ({iso_time(time[b])} after"
                f" {iso_time(time[a])}); sort the rows by time{fix}"
            )


def clip(values: np.ndarray) -> np.ndarray:
    """Readings clipped to ± `MAX_READING`."""
    return np.clip(values, -MAX_READING, MAX_READING)


def log_gap(before_us: int, now_us: int) -> float:
    """log(1 + seconds) between two times."""
    return math.log1p(max(0, int(now_us) - int(before_us)) / 1e6)


def word(value: Any) -> str:
    """A category as text; "" if it is missing."""
    return "" if is_missing(value) else str(value).strip()


class Table(NamedTuple):
    """A table and its names.

    name    in its folder; "" for a single file
    where   for error messages
    """

    name: str
    where: str
    frame: pl.DataFrame


def read_tables(path: Path, where: str, label: str | None) -> tuple[list[Table], list[str]]:
    """(the table in a file, or those in a folder and its subfolders; notes).

    label   tables of a folder without this column are left out

    Raises `DataError` where no table is left.
    """
    if not path.is_dir():
        return [Table("", where, read_table(path))], []
    files = sorted(
        f
        for f in path.rglob("*")
        if f.suffix.lower() in TABLE_SUFFIXES and not f.name.startswith(".")
    )
    if not files:
        raise DataError(f"{where}: a folder without tables ({', '.join(TABLE_SUFFIXES)})")
    names = [file.relative_to(path).as_posix() for file in files]
    tables = [
        Table(name, f"{where}/{name}", read_table(file))
        for name, file in zip(names, files, strict=True)
    ]
    if label is None:
        return tables, []
    labelled = [table for table in tables if label in table.frame.columns]
    if not labelled:
        raise DataError(f"{where}: no table in it has the column {label!r}")
    skipped = [table.name for table in tables if label not in table.frame.columns]
    notes = [f"left out: {', '.join(skipped)}, without the column {label!r}"] if skipped else []
    return labelled, notes


def infer_columns(
    frame: pl.DataFrame,
    where: str,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    time_format: str | None = None,
    group: str | None = None,
    label: str | None = None,
    gap: bool | None = None,
) -> tuple[Columns, list[str]]:
    """(the columns of a table as named or inferred, notes). Raises `DataError`.

    gap   add `GAP` to the numbers; by default if there are categories
    """
    for name in (*(columns or ()), time, group, label):
        if name is not None and name not in frame.columns:
            raise DataError(
                f"{where}: no column {name!r}; it has {', '.join(map(repr, frame.columns))}"
            )
    if time is None:
        time = next((c for c in frame.columns if _is_time(frame[c])), None)
    candidates = (
        [c for c in frame.columns if c not in (time, group, label)] if columns is None else columns
    )
    notes: list[str] = []
    numbers: list[str] = []
    categories: list[str] = []
    for name in candidates:
        known = [v for v in frame[name].to_list() if not is_missing(v)]
        distinct = len({str(v) for v in known})
        if distinct <= 1:
            problem = "is always the same" if known else "has no values"
            if columns is not None:
                raise DataError(f"{where}: column {name!r} {problem}; choose another")
            notes.append(f"column {name!r} left out: it {problem}")
        elif _is_numeric(known):
            numbers.append(name)
        elif columns is None and distinct > max(MAX_CATEGORIES, len(known) // 20):
            notes.append(
                f"column {name!r} left out: {distinct:,} different texts are names, not categories"
            )
        else:
            categories.append(name)
    if not numbers and not categories:
        raise DataError(
            f"{where}: no numeric or categorical column is left; name some with --set columns=A,B"
        )
    if time is not None and (bool(categories) if gap is None else gap):
        numbers.append(GAP)
    if not numbers:
        raise DataError(f"{where}: only categories; a column of numbers or of times is needed too")
    return Columns(tuple(numbers), tuple(categories), time, time_format, group, label), notes


def _is_time(column: pl.Series) -> bool:
    if column.dtype.is_temporal():
        return True
    return are_dates([v for v in column.head(20) if not is_missing(v)][:5])


def _is_numeric(known: Sequence[Any]) -> bool:
    sample = known[:2000]
    wrong = 0
    for value in sample:
        try:
            float(value)
        except (TypeError, ValueError):
            wrong += 1
    return wrong <= MAX_TEXT_SHARE * len(sample)
