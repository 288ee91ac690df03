"""What a table is: its target, input and time columns, and its clock, as set or inferred."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.series import (
    RETURN,
    SERIES,
    VALUE,
    require_columns,
)
from memorycell.applications.forecast.settings import ForecastSettings, split_names
from memorycell.errors import DataError
from memorycell.tables.clock import Clock, infer_clock, parse_every
from memorycell.tables.table import are_dates, is_missing, read_numbers, read_times

if TYPE_CHECKING:
    import polars as pl

TIME_NAMES = ("time", "datetime", "timestamp", "date", "ds", "date_time", "time_hour")
MAX_UNSORTED_SHARE = 0.2
"""Share of rows whose time does not increase, above which the table must hold several series."""


def check_targets(settings: ForecastSettings, where: str) -> None:
    """Raises `DataError` for target, each, group and returns that exclude each other."""
    targets = split_names(settings.target)
    if settings.each and len(targets) < 2:
        raise DataError(f"{where}: each=yes needs several targets: --set target=A,B,C")
    if settings.each and (settings.group is not None or settings.returns is not None):
        raise DataError(
            f"{where}: each=yes makes every target a series and excludes group and returns"
        )
    if settings.returns is not None and targets:
        raise DataError(
            f"{where}: returns={settings.returns} names what is forecast; leave target out"
        )


def infer(
    table: pl.DataFrame, where: str, settings: ForecastSettings
) -> tuple[SeriesCodec, ForecastSettings]:
    """(codec without scaling, settings with defaults) of a table that is already long; see
    `long_table`. The codec's `notes` name the columns left out. Raises `DataError`.
    """
    targets = split_names(settings.target)
    each = targets if settings.each else ()
    if each or settings.returns is not None:
        targets = (VALUE,) if each else (RETURN,)
    group = SERIES if each else settings.group
    inputs, notes = _requested_inputs(settings), list[str]()
    named = (c for c in (settings.time, group) if c is not None)
    require_columns(table.columns, [*targets, *(inputs or ()), *named], where)
    time = settings.time or _find_time(table, settings.time_format)
    excluded = {time, group}
    if settings.returns not in (inputs or ()):
        excluded.add(settings.returns)  # prices add little to their own changes
    candidates = [c for c in table.columns if c not in excluded]
    if not targets:
        targets = (_find_target(table, candidates, where),)
    if inputs is None:
        inputs, notes = _find_inputs(table, [c for c in candidates if c not in targets], where)
    _check_values(table, [*targets, *inputs], where)
    clock = _clock(table, where, time, settings.time_format, group, settings.every)
    settings = settings.with_defaults(clock)
    known = split_names(settings.known)
    codec = SeriesCodec(
        targets=targets,
        inputs=tuple(c for c in inputs if c not in targets),
        clock=clock,
        max_gap=settings.context or 1,
        time=time,
        time_format=settings.time_format,
        group=group,
        cycles=_cycles(settings, clock, where),
        each=each,
        static=_static_columns(settings, group, where),
        known=known,
        reach=(settings.horizon or 1) if known else 0,
        returns=settings.returns,
        notes=tuple(notes),
    )
    return codec, settings


def _requested_inputs(settings: ForecastSettings) -> list[str] | None:
    """The columns in `inputs` and `known`; None if both are left out."""
    if settings.inputs is None and settings.known is None:
        return None
    inputs = [c for c in split_names(settings.inputs) if c != "none"]
    return inputs + [c for c in split_names(settings.known) if c not in inputs]


def _find_time(table: pl.DataFrame, time_format: str | None) -> str | None:
    for c in sorted(table.columns, key=lambda c: c.lower() not in TIME_NAMES):
        if table[c].dtype.is_temporal():
            return c
        sample = [v for v in table[c].head(20) if not is_missing(v)][:5]
        if are_dates(sample):
            return c
    return None


def _find_target(table: pl.DataFrame, candidates: Iterable[str], where: str) -> str:
    numeric = [c for c in candidates if _is_numeric(table[c])]
    found = [c for c in numeric if not _is_constant(read_numbers(table[c], where))]
    if len(found) != 1:
        raise DataError(
            f"{where}: which column should be forecast? --set target=NAME; columns of numbers:"
            f" {', '.join(found) or 'none'}"
        )
    return found[0]


def _find_inputs(
    table: pl.DataFrame, candidates: Iterable[str], where: str
) -> tuple[list[str], list[str]]:
    """(numeric columns that are not constant, notes on the other columns)"""
    inputs, notes = [], []
    for c in candidates:
        if not _is_numeric(table[c]):
            notes.append(f"column {c!r} left out: text or empty")
        elif _is_constant(read_numbers(table[c], where)):
            notes.append(f"column {c!r} left out: constant")
        else:
            inputs.append(c)
    return inputs, notes


def _check_values(table: pl.DataFrame, columns: Sequence[str], where: str) -> None:
    for c in columns:
        values = read_numbers(table[c], where)
        if np.isnan(values).all():
            raise DataError(f"{where}: column {c!r} is empty; choose another")
        if _is_constant(values):
            value = values[~np.isnan(values)][0]
            raise DataError(f"{where}: column {c!r} is constant ({value:g}); choose another")


def _clock(
    table: pl.DataFrame,
    where: str,
    time: str | None,
    time_format: str | None,
    group: str | None,
    every: str | None,
) -> Clock:
    if every is not None:
        clock = parse_every(every)
        if clock.unit != "row" and time is None:
            raise DataError(
                f"{where}: every={every} needs a column of times; name it with --set time=COLUMN"
            )
        return clock
    if time is None:
        return Clock("row")
    times = read_times(table[time], where, time_format)
    if group is None:
        differences = np.diff(times)
    else:
        labels = np.array([str(label) for label in table[group]])
        groups = dict.fromkeys(labels.tolist())
        differences = np.concatenate([np.diff(times[labels == g]) for g in groups])
    if (differences <= 0).mean() > MAX_UNSORTED_SHARE:
        row = int((differences <= 0).argmax()) + 2
        raise DataError(
            f"{where}: row {row}: many times repeat or go back; if the file holds several series,"
            " name the column that tells them apart: --set group=COLUMN; otherwise sort it by time"
        )
    return infer_clock(differences[differences > 0], where)


def _cycles(settings: ForecastSettings, clock: Clock, where: str) -> tuple[str, ...] | None:
    """The cycles in `calendar`; None if left out."""
    if settings.calendar is None:
        return None
    cycles = tuple(c for c in split_names(settings.calendar) if c != "none")
    if wrong := set(cycles) - set(clock.calendar):
        available = ", ".join(clock.calendar) or "none"
        raise DataError(
            f"{where}: calendar={', '.join(sorted(wrong))}: with steps of {clock}, expected"
            f" {available}"
        )
    return cycles


def _static_columns(
    settings: ForecastSettings, group: str | None, where: str
) -> dict[str, tuple[str, ...]]:
    """The columns in `static`, whose values are not yet known."""
    if settings.static is not None and group is None:
        raise DataError(
            f"{where}: static={settings.static}: needs several series; name the column that tells"
            " them apart: --set group=COLUMN"
        )
    names = (str(group) if c == "group" else c for c in split_names(settings.static))
    return dict.fromkeys(names, ())


def _is_numeric(column: pl.Series) -> bool:
    """Whether more than half of the values that are present are numbers."""
    import polars as pl

    if column.dtype == pl.String:
        missing = ["", "na", "nan", "null", "nil"]
        present = column.filter(~column.str.strip_chars().str.to_lowercase().is_in(missing))
        present = present.drop_nulls()
        return 2 * present.cast(pl.Float64, strict=False).count() > len(present) > 0
    numeric = column.dtype.is_numeric() or column.dtype == pl.Boolean
    return bool(numeric) and column.null_count() < len(column)


def _is_constant(values: np.ndarray) -> bool:
    present = values[~np.isnan(values)]
    return len(present) > 0 and bool((present == present[0]).all())
