"""A table of readings as series on regular steps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.clock import Clock, assign_steps
from memorycell.tables.numbers import NumberFormat, read_numbers

if TYPE_CHECKING:
    import polars as pl

VALUE, SERIES, RETURN = "value", "series", "return"
"""Columns that `long_table` adds."""


@dataclass
class Series:
    """All steps of a table, one series after another.

    time      [N] int64, microseconds since 1970 (the row number without a clock)
    values    [N, C] float64 in the table's units, NaN where missing; the targets first
    row       [N] int64, the row of the table from 0, or -1 for a step that fills a gap
    start     [N] int64, the first step of the step's segment
    group     [N] int64, index into `groups`
    groups    the names of the series
    skipped   rows dropped because they share a step with the previous row
    static    static column -> its value in each series
    words     column of words -> [N] object, the word of each step; None where there is none
    """

    time: np.ndarray
    values: np.ndarray
    row: np.ndarray
    start: np.ndarray
    group: np.ndarray
    groups: list[str]
    skipped: int = 0
    static: Mapping[str, Sequence[str]] = field(default_factory=dict)
    words: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)

    @property
    def reset(self) -> np.ndarray:
        """[N] bool: a segment begins at this step."""
        return np.asarray(self.start == np.arange(len(self)))

    @property
    def first(self) -> np.ndarray:
        """[N] int64: the first step of each step's series."""
        sizes = np.bincount(self.group)
        return np.asarray(np.cumsum([0, *sizes[:-1]])[self.group])

    def fingerprint(self) -> str:
        """16 hexadecimal digits of a hash of the data, independent of the file format."""
        digest = hashlib.sha256()
        for array in (self.time, self.values, self.start):
            digest.update(np.ascontiguousarray(array).tobytes())
        for column in self.words.values():
            digest.update("\0".join(word or "" for word in column).encode())
        return digest.hexdigest()[:16]


def concatenate_series(
    parts: Sequence[Series], groups: list[str], static: Mapping[str, Sequence[str]]
) -> Series:
    """One `Series` of several that hold one series each."""
    if len(parts) == 1:
        return replace(parts[0], groups=groups, static=static)
    offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return Series(
        time=np.concatenate([part.time for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        row=np.concatenate([part.row for part in parts]),
        start=np.concatenate([part.start + o for part, o in zip(parts, offsets, strict=True)]),
        group=np.concatenate([np.full(len(part), k) for k, part in enumerate(parts)]),
        groups=groups,
        skipped=sum(part.skipped for part in parts),
        static=static,
        words={c: np.concatenate([part.words[c] for part in parts]) for c in parts[0].words},
    )


def resample(
    clock: Clock,
    max_gap: int,
    time: np.ndarray,
    values: np.ndarray,
    words: Mapping[str, np.ndarray],
    rows: np.ndarray,
    where: str,
) -> Series:
    """One series on the steps of a clock. Gaps of up to `max_gap` steps are filled with empty
    steps; a longer gap starts a new segment. Raises `DataError`.

    time [n] int64, values [n, C], words column -> [n], rows [n]: the rows' numbers in the table
    """
    kept, steps = assign_steps(clock, time, rows, where)
    gap = np.diff(steps, prepend=steps[0])
    if len(kept) == len(time) and bool((gap[1:] == 1).all()):  # nothing to fill or drop
        start, group = np.zeros((2, len(time)), np.int64)
        return Series(time, values, rows, start, group, groups=[""], words=words)
    new_segment = gap > max_gap
    gap[new_segment] = 1
    at = np.cumsum(gap)
    size = int(at[-1]) + 1
    grid_values = np.full((size, values.shape[1]), math.nan)
    grid_values[at] = values[kept]
    grid_words = {c: np.full(size, None, object) for c in words}
    for c, own in words.items():
        grid_words[c][at] = own[kept]
    grid_rows = np.full(size, -1, np.int64)
    grid_rows[at] = rows[kept]
    last = np.maximum.accumulate(np.where(grid_rows >= 0, np.arange(size), 0))
    grid_time = np.zeros(size, np.int64)
    grid_time[at] = time[kept]
    empty = np.flatnonzero(grid_rows < 0)
    for steps_after in np.split(empty, np.flatnonzero(np.diff(last[empty])) + 1):  # per gap
        if len(steps_after):
            row = last[steps_after[0]]
            grid_time[steps_after] = clock.after_many(int(grid_time[row]), steps_after - row)
    start = np.zeros(size, np.int64)
    start[at[new_segment]] = at[new_segment]
    return Series(
        time=grid_time,
        values=grid_values,
        row=grid_rows,
        start=np.maximum.accumulate(start),
        group=np.zeros(size, np.int64),
        groups=[""],
        skipped=len(time) - len(kept),
        words=grid_words,
    )


def rows_by_series(table: pl.DataFrame, group: str | None) -> tuple[list[str], list[np.ndarray]]:
    """(names of the series, their rows); one unnamed series without a `group` column."""
    if group is None:
        return [""], [np.arange(table.height)]
    labels = np.array([str(label) for label in table[group]])
    names, index = np.unique(labels, return_inverse=True)
    order = np.argsort(index, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(index))[:-1])
    by_name = dict(zip(names.tolist(), rows, strict=True))
    in_order = list(dict.fromkeys(labels.tolist()))
    return in_order, [by_name[name] for name in in_order]


def long_table(
    frame: pl.DataFrame,
    where: str,
    *,
    each: Sequence[str] = (),
    returns: str | None = None,
    group: str | None = None,
    numbers: Mapping[str, NumberFormat],
) -> pl.DataFrame:
    """The table with the columns `each` stacked as one column `VALUE`, their names in `SERIES`; and
    with the returns of the prices in column `returns` as `RETURN`. Raises `DataError`.

    numbers   how the numbers of columns are written
    """
    if each:
        frame = _stacked(frame, each, where, numbers)
    return frame if returns is None else _with_returns(frame, returns, group, where, numbers)


def _stacked(
    frame: pl.DataFrame, each: Sequence[str], where: str, numbers: Mapping[str, NumberFormat]
) -> pl.DataFrame:
    import polars as pl

    require_columns(frame.columns, each, where)
    taken = [c for c in (VALUE, SERIES) if c in frame.columns]
    if taken:
        raise DataError(f"{where}: with each=yes no column may be called {taken[0]!r}; rename it")
    frame = frame.with_columns(
        pl.Series(c, read_numbers(frame[c], where, numbers.get(c))) for c in each
    )
    others = [c for c in frame.columns if c not in each]
    return frame.unpivot(on=list(each), index=others, variable_name=SERIES, value_name=VALUE)


def _with_returns(
    frame: pl.DataFrame,
    prices: str,
    group: str | None,
    where: str,
    numbers: Mapping[str, NumberFormat],
) -> pl.DataFrame:
    import polars as pl

    require_columns(frame.columns, [prices, *([] if group is None else [group])], where)
    if RETURN in frame.columns:
        raise DataError(
            f"{where}: with returns={prices} no column may be called {RETURN!r}; rename it"
        )
    values = read_numbers(frame[prices], where, numbers.get(prices))
    if (values <= 0).any():
        row = int((values <= 0).argmax())
        raise DataError(
            f"{where}: row {row + 1}, column {quote(prices)}: {values[row]:g} is not a price;"
            " returns need prices above 0"
        )
    last: dict[Any, float] = {}
    returns = np.full(len(values), math.nan)
    for row, name in enumerate(frame[group] if group is not None else [None] * len(values)):
        returns[row] = log_return(last.get(name, math.nan), values[row])
        last[name] = values[row] if not math.isnan(values[row]) else last.get(name, math.nan)
    return frame.with_columns(pl.Series(RETURN, returns))


def log_return(before: float, now: float) -> float:
    """100 log(now / before) in percent; NaN for unknown prices."""
    return 100 * math.log(now / before) if before > 0 and now > 0 else math.nan


def require_columns(columns: Collection[str], needed: Sequence[str], where: str) -> None:
    """Raises `DataError` that names those of `needed` that are missing."""
    missing = [name for name in dict.fromkeys(needed) if name not in columns]
    if missing:
        names = quote(", ".join(map(str, columns)))[1:-1]
        what = (
            f"column {quote(missing[0])}"
            if len(missing) == 1
            else f"columns {quote(', '.join(missing))}"
        )
        raise DataError(f"{where}: no {what}; it has {names}")
