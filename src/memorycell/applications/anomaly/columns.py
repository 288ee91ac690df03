"""The columns of a table of readings, and the recordings in a table.

A row is one time step. Rows of the same recording (a file, or a value of the `group` column) are
consecutive steps, at any time intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.applications.anomaly.labels import read_labels
from memorycell.errors import DataError, quote
from memorycell.tables.cells import is_missing
from memorycell.tables.numbers import NumberFormat, read_numbers
from memorycell.tables.times import TimeColumns

if TYPE_CHECKING:
    import polars as pl

GAP = "(gap)"
"""The name of the time since the previous row, log(1 + seconds), as a numeric column."""
MAX_READING = 1e150
"""Readings are clipped to ± this value, so that their squares are finite."""


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

    def select_columns(self, numbers: np.ndarray, categories: np.ndarray) -> Recording:
        """The columns of masks [K] and [C] bool."""
        values, words = self.values[:, numbers], self.words[:, categories]
        return Recording(self.name, self.time, values, words, self.labels, self.rows)


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by role.

    numbers      K columns; `GAP` may be the last
    categories   C columns
    formats      of the numbers that are not written plainly
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...] = ()
    times: TimeColumns | None = None
    group: str | None = None
    label: str | None = None
    formats: Mapping[str, NumberFormat] = field(default_factory=dict)

    @property
    def gap(self) -> bool:
        """Whether the time since the previous row is one of the numbers."""
        return GAP in self.numbers

    @cached_property
    def table_numbers(self) -> tuple[str, ...]:
        """The numbers that are columns of the table."""
        return tuple(c for c in self.numbers if c != GAP)

    def format_time(self, time: int) -> str | int:
        """A time as text, in the zone of the table; the row number without a time column."""
        return self.times.text(time) if self.times is not None else int(time)

    def read(self, frame: pl.DataFrame, where: str, name: str = "") -> list[Recording]:
        """The recordings in a table; `name` is that of its only one without a group column.

        Raises `DataError` for a missing column, a value that cannot be read, and rows that are not
        in order of time.
        """
        for column in (*self.table_numbers, *self.categories, *filter(None, (self.group,))):
            if column not in frame.columns:
                raise DataError(
                    f"{where}: no column {quote(column)}, which the model reads; the table has"
                    f" {names_of(frame.columns)}"
                )
        parts = [read_numbers(frame[c], where, self.formats.get(c)) for c in self.table_numbers]
        values = clip(np.stack(parts, 1)) if parts else np.zeros((frame.height, 0))
        time = (
            np.arange(frame.height)
            if self.times is None
            else self.times.read(frame, where, self.group)
        )
        labels = None
        if self.label is not None and self.label in frame.columns:
            labels = read_labels(frame[self.label], where)
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

    def _groups(self, frame: pl.DataFrame, name: str) -> dict[str, np.ndarray]:
        """Recording -> its rows."""
        if self.group is None:
            return {name: np.arange(frame.height)}
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(frame[self.group].to_list()):
            rows.setdefault(group_name(value), []).append(row)
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
                f"{where}: row {b + 1}: the time goes back ({self.format_time(time[b])} after"
                f" {self.format_time(time[a])}); sort the rows by time{fix}"
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


def group_name(value: Any) -> str:
    """The name of a recording from its cell in the group column."""
    return "" if is_missing(value) and not isinstance(value, str) else str(value)


def names_of(columns: Any) -> str:
    """The names of columns for a message, cut to fit a line."""
    return quote(", ".join(map(str, columns)))
