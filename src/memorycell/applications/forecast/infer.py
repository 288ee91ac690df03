"""What a table is: its target, input and time columns, and its clock, as set or inferred."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.series import (
    RETURN,
    SERIES,
    VALUE,
    long_table,
    require_columns,
    rows_by_series,
)
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.words import is_category
from memorycell.errors import DataError, quote
from memorycell.tables.clock import Clock, parse_every
from memorycell.tables.clock_finding import find_clock
from memorycell.tables.column_lists import quoted_name, split_names
from memorycell.tables.index import unused_reason
from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import PLAIN, NumberFormat, read_numbers
from memorycell.tables.parsed import with_numbers, with_times
from memorycell.tables.time_formats import find_times

if TYPE_CHECKING:
    import polars as pl

    from memorycell.tables.times import TimeColumns

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
    frame: pl.DataFrame, where: str, settings: ForecastSettings
) -> tuple[SeriesCodec, ForecastSettings, pl.DataFrame]:
    """(codec without scaling, settings with defaults, the table with the columns of numbers and
    times that were read in place of their texts). The codec's `notes` say what was found in it.
    Raises `DataError`.
    """
    settings = _with_quotes(settings, frame.columns)
    columns = split_names(settings.target)
    each = columns if settings.each else ()
    targets = (VALUE,) if each else (RETURN,) if settings.returns is not None else columns
    group = SERIES if each else settings.group
    inputs = _requested_inputs(settings)
    _require_named(frame, settings, where)
    times, notes = find_times(
        frame, where, time=settings.time, time_format=settings.time_format, zone=settings.zone
    )
    apart_columns = {*(() if times is None else times.columns), settings.group}
    apart = set(apart_columns)
    candidates = [c for c in frame.columns if c not in apart]
    named = [*columns, *(inputs or ()), settings.returns]
    needed = [c for c in named if c is not None]
    plain: dict[str, pl.Series] = {}
    numbers, found = find_number_formats(
        frame,
        dict.fromkeys([*candidates, *needed]),
        where,
        decimal=settings.decimal,
        thousands=settings.thousands,
        read=plain,
    )
    read = _Numbers(frame, where, numbers, plain)
    if not targets:
        targets = (_find_target(read, candidates),)
        needed.append(targets[0])
    words, known = list(split_names(settings.words)), split_names(settings.known)
    if inputs is None:
        apart |= {*targets, *each, settings.returns}  # prices add little to their own changes
        others = [c for c in candidates if c not in (*apart, *words)]
        given = settings.words is not None and settings.inputs is None
        found_words = [] if given or settings.returns else _find_words(read, others, group)
        inputs, left_out = _find_inputs(read, [c for c in others if c not in found_words])
        words += [c for c in (*found_words, *known) if c not in (*words, *inputs)]
        notes += left_out
    else:
        words += [c for c in inputs if c not in read and c not in (*words, *targets)]
    inputs = [c for c in inputs if c not in words]
    _check_words(frame, words, {*targets, *each, settings.returns, *apart_columns}, where)
    needed = [c for c in needed if c not in words]
    _check_values(read, [*needed, *inputs])
    used = {*needed, *inputs}
    formats = {c: f for c, f in numbers.items() if c in used and f != PLAIN}
    notes += [note for note in found if any(quote(c) in note for c in formats)]
    apart = {group, *split_names(settings.static)}
    frame = with_numbers(frame, {c: read[c] for c in (*needed, *inputs) if c not in apart})
    frame = frame if times is None else with_times(frame, times, where)
    table = long_table(
        frame, where, each=each, returns=settings.returns, group=group, numbers=formats
    )
    clock, clock_notes = _clock(table, where, times, group, settings.every)
    settings = settings.with_defaults(clock)
    codec = SeriesCodec(
        targets=targets,
        inputs=tuple(c for c in inputs if c not in targets),
        clock=clock,
        max_gap=settings.context or 1,
        times=times,
        numbers=formats,
        encoding=settings.encoding,
        sheet=settings.sheet,
        group=group,
        cycles=_cycles(settings, clock, where),
        each=each,
        static=_static_columns(settings, group, where),
        known=known,
        reach=(settings.horizon or 1) if known else 0,
        returns=settings.returns,
        positive=settings.positive,
        words=dict.fromkeys(words, ()),
        notes=tuple(notes + clock_notes),
    )
    return codec, settings, frame


def _with_quotes(settings: ForecastSettings, columns: Sequence[str]) -> ForecastSettings:
    """The settings with quotes around a name that is one column, with its comma."""
    texts = {name: getattr(settings, name) for name in ("target", "inputs", "known", "words")}
    quoted: dict[str, Any] = {n: quoted_name(t) for n, t in texts.items() if t in columns}
    return replace(settings, **quoted)


def _require_named(frame: pl.DataFrame, settings: ForecastSettings, where: str) -> None:
    """Raises `DataError` for a column in the settings that the table does not have."""
    named = [*split_names(settings.target), *(_requested_inputs(settings) or ())]
    named += split_names(settings.known)
    named += [c for c in split_names(settings.static) if c != "group"]
    named += split_names(settings.words)
    named += [c for c in (settings.group, settings.returns) if c is not None]
    require_columns(frame.columns, named, where)


class _Numbers:
    """The columns of a table that hold numbers; those in `plain` were read as text already."""

    def __init__(
        self,
        frame: pl.DataFrame,
        where: str,
        formats: Mapping[str, NumberFormat],
        plain: Mapping[str, pl.Series],
    ) -> None:
        self.frame, self.where, self.formats, self.plain = frame, where, formats, plain
        self._values: dict[str, np.ndarray] = {}

    def __contains__(self, column: str) -> bool:
        return column in self.formats

    def __getitem__(self, column: str) -> np.ndarray:
        if column not in self._values:
            cells = self.plain.get(column, self.frame[column])
            self._values[column] = read_numbers(cells, self.where, self.formats.get(column))
        return self._values[column]

    def unused_reason(self, column: str) -> str | None:
        """Why a column is no input by default."""
        if self.frame[column].dtype.is_temporal():
            return "times"
        if column not in self:
            return "text or empty"
        if _is_constant(self[column]):
            return "constant"
        return unused_reason(self.frame[column])


def _requested_inputs(settings: ForecastSettings) -> list[str] | None:
    """The columns in `inputs` and `known`; None if both are left out, or all are wanted."""
    if settings.inputs == "all" or (settings.inputs is None and settings.known is None):
        return None
    inputs = [c for c in split_names(settings.inputs) if c != "none"]
    return inputs + [c for c in split_names(settings.known) if c not in inputs]


def _find_target(read: _Numbers, candidates: Sequence[str]) -> str:
    found = [c for c in candidates if c in read and not _is_constant(read[c])]
    if len(found) > 1:
        found = [c for c in found if unused_reason(read.frame[c]) is None] or found
    if len(found) != 1:
        names = quote(", ".join(found))[1:-1] or "none"
        raise DataError(
            f"{read.where}: which column should be forecast? --set target=NAME; columns of numbers:"
            f" {names}"
        )
    return found[0]


def _find_words(read: _Numbers, candidates: Iterable[str], group: str | None) -> list[str]:
    """The columns of few different words, which vary within a series."""
    frame = read.frame
    group = group if group in frame.columns else None  # stacked columns have no names yet
    rows = rows_by_series(frame, group)[1]
    return [c for c in candidates if c not in read and is_category(frame[c], rows)]


def _check_words(
    frame: pl.DataFrame, words: Sequence[str], taken: Collection[str | None], where: str
) -> None:
    for c in words:
        if c in taken:
            raise DataError(f"{where}: column {quote(c)} has another use; leave it out of words")
        if frame[c].null_count() == frame.height:
            raise DataError(f"{where}: column {quote(c)} is empty; choose another")


def _find_inputs(read: _Numbers, candidates: Iterable[str]) -> tuple[list[str], list[str]]:
    """(columns of numbers that say something, notes on the other columns)"""
    inputs, notes = [], []
    for c in candidates:
        if (reason := read.unused_reason(c)) is None:
            inputs.append(c)
        else:
            notes.append(f"column {quote(c)} left out: {reason}")
    return inputs, notes


def _check_values(read: _Numbers, columns: Sequence[str]) -> None:
    for c in columns:
        values = read[c]
        if np.isnan(values).all():
            raise DataError(f"{read.where}: column {quote(c)} is empty; choose another")
        if _is_constant(values):
            value = values[~np.isnan(values)][0]
            raise DataError(
                f"{read.where}: column {quote(c)} is constant ({value:g}); choose another"
            )


def _clock(
    table: pl.DataFrame,
    where: str,
    times: TimeColumns | None,
    group: str | None,
    every: str | None,
) -> tuple[Clock, list[str]]:
    """(clock, notes)"""
    if every is not None:
        clock = parse_every(every, None if times is None else times.zone)
        if clock.unit != "row" and times is None:
            raise DataError(
                f"{where}: every={every} needs a column of times; name it with --set time=COLUMN"
            )
        return clock, []
    if times is None:
        return Clock("row"), []
    read = times.read(table, where, group)
    series = [read[rows] for rows in rows_by_series(table, group)[1]]
    differences = np.concatenate([np.diff(own) for own in series])
    if len(differences) and (differences <= 0).mean() > MAX_UNSORTED_SHARE:
        row = int((np.diff(read) <= 0).argmax()) + 2
        raise DataError(
            f"{where}: row {row}: many times repeat or go back; if the file holds several series,"
            " name the column that tells them apart: --set group=COLUMN; otherwise sort it by time"
        )
    return find_clock(series, where, times.zone)


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


def _is_constant(values: np.ndarray) -> bool:
    begin = values[: 1 << 10]
    if (begin[1:] < begin[:-1]).any() or (begin[1:] > begin[:-1]).any():
        return False
    present = values[~np.isnan(values)]
    return len(present) > 0 and bool((present == present[0]).all())
