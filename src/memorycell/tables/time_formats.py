"""Finds the times of a table: in which columns, in which format and zone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from memorycell.errors import DataError, quote
from memorycell.tables.time_patterns import (
    MIN_SHARE,
    clock_pattern,
    find_pattern,
    number_pattern,
    pattern_share,
    present_texts,
    without_zones,
)
from memorycell.tables.times import (
    EPOCH_UNITS,
    MAX_COLUMNS,
    MIXED_OFFSETS,
    ZONE_SUFFIX,
    TimeColumns,
)
from memorycell.tables.zones import find_zone, offset_minutes, zone_of_offsets

if TYPE_CHECKING:
    import polars as pl

TIME_NAMES = (
    "time", "datetime", "timestamp", "date", "ds", "date_time", "time_hour", "zeitstempel",
    "datum", "zeit", "fecha", "data", "horodatage", "epoch", "unixtime", "unix_time", "ts",
    "created_at", "date time", "datetime_utc", "utc", "period",
)  # fmt: skip
"""Names of columns of times in lower case; the first ones are looked at first."""
CALENDAR_NAMES = (
    ("year", "%Y"),
    ("month", "%m"),
    ("day", "%d"),
    ("hour", "%H"),
    ("minute", "%M"),
    ("second", "%S"),
)
"""Names of columns that together hold a time, and the directive of each."""
CLOCK_NAMES = ("time", "hour", "hr", "uhrzeit", "zeit", "stunde", "heure", "hora", "ora", "uur")
"""Names of columns with the time of day, beside one of dates."""


def find_times(
    frame: pl.DataFrame,
    where: str,
    *,
    time: str | None = None,
    time_format: str | None = None,
    zone: str | None = None,
) -> tuple[TimeColumns | None, list[str]]:
    """(the columns of times with their format and zone, notes); None: there are none.

    time          the column, or two separated by a comma; by default looked for
    time_format   as for `datetime.strptime`
    zone          in which times are written; by default that of their offsets

    Raises `DataError` where day and month cannot be told apart, for an unknown zone, and for a
    named column or format without times.
    """
    if zone is not None:
        _check_zone(zone)
    found: TimeColumns | None
    if time is not None:
        names = (time,) if time in frame.columns else tuple(n.strip() for n in time.split(","))
        found = _named(frame, names, where, time_format)
    else:
        found = _search(frame, where, time_format)
    if found is None and time_format is not None:
        raise DataError(
            f"{where}: no column has times of the format {quote(time_format)}; name the column with"
            " --set time=NAME, or leave time_format out"
        )
    if found is None:
        return None, []
    found = replace(found, zone=zone or _zone(frame, found, where))
    return found, _notes(frame, found)


def _check_zone(zone: str) -> None:
    try:
        find_zone(zone)
    except ValueError as error:
        raise DataError(
            f"zone: {error}; expected a name such as Europe/Berlin, or +01:00"
        ) from None


def _named(
    frame: pl.DataFrame, names: tuple[str, ...], where: str, time_format: str | None
) -> TimeColumns:
    import polars as pl

    if len(names) > MAX_COLUMNS:
        raise DataError(f"{where}: time: {len(names)} columns, more than {MAX_COLUMNS}")
    columns = TimeColumns(names)
    columns.require(frame.columns, where)
    column = columns.joined(frame)
    if column.dtype in (pl.Date, pl.Datetime):
        return (_with_clock(frame, columns) if column.dtype == pl.Date else None) or columns
    pattern = _checked_format(time_format)
    if pattern is None and [name.lower() for name in names[:2]] == ["year", "month"]:
        pattern = " ".join(directive for _, directive in CALENDAR_NAMES[: len(names)])
    pattern = pattern or find_pattern(column, where, named=True, any_number=True)
    if len(names) == 1 and pattern is not None and _is_day(pattern) and time_format is None:
        return _with_clock(frame, TimeColumns(names, pattern)) or TimeColumns(names, pattern)
    found = TimeColumns(names, pattern)
    if pattern is None:
        found.read_column(column, where)  # raises for the first cell that is not a time
    return found


def _search(frame: pl.DataFrame, where: str, time_format: str | None) -> TimeColumns | None:
    def order(name: str) -> int:
        lower = name.strip().lower()
        return TIME_NAMES.index(lower) if lower in TIME_NAMES else len(TIME_NAMES)

    ambiguous: DataError | None = None
    for name in sorted(frame.columns, key=order):
        named = order(name) < len(TIME_NAMES)
        try:
            if found := _column_times(frame, name, where, time_format, named=named):
                return found
        except DataError as error:
            ambiguous = ambiguous or error
    if ambiguous is not None:
        raise ambiguous
    return _calendar_columns(frame)


def _calendar_columns(frame: pl.DataFrame) -> TimeColumns | None:
    """Columns with the year, month, day, hour, …; None where there is no year."""
    by_name = {name.strip().lower(): name for name in frame.columns}
    names, pattern = [], ""
    for name, directive in CALENDAR_NAMES:
        if name not in by_name:
            break
        names.append(by_name[name])
        pattern = f"{pattern} {directive}".strip()
    if not names:
        return None
    if len(names) == 1:
        alone = number_pattern(present_texts(frame[names[0]]), any_number=False)
        return TimeColumns((names[0],), "%Y") if alone == "%Y" else None
    found = TimeColumns(tuple(names), pattern)
    texts = found.joined(frame)
    return found if pattern_share(texts, pattern) == 1 else None


def _column_times(
    frame: pl.DataFrame, name: str, where: str, time_format: str | None, *, named: bool
) -> TimeColumns | None:
    """The times of a column, joined with those of day if it holds days; None if it has none."""
    import polars as pl

    column = frame[name]
    if column.dtype in (pl.Date, pl.Datetime):
        found = TimeColumns((name,))
        return (_with_clock(frame, found) if column.dtype == pl.Date else None) or found
    if time_format is not None:
        pattern = _checked_format(time_format)
        if pattern in EPOCH_UNITS:
            pattern = pattern if named and _is_number(column) else None
        elif (
            pattern is not None
            and pattern_share(without_zones(present_texts(column)), pattern) < MIN_SHARE
        ):
            pattern = None
        return None if pattern is None else TimeColumns((name,), pattern)
    pattern = find_pattern(column, where, named=named, any_number=False)
    if pattern is None:
        return None
    found = TimeColumns((name,), pattern)
    return (_with_clock(frame, found) if _is_day(pattern) else None) or found


def _checked_format(time_format: str | None) -> str | None:
    if time_format is None or time_format in EPOCH_UNITS or "%" in time_format:
        return time_format
    raise DataError(
        f"time_format={quote(time_format)}: expected a format such as %d/%m/%Y %H:%M, or s or ms"
    )


def _is_number(column: pl.Series) -> bool:
    import polars as pl

    return column.dtype.is_numeric() or bool(
        column.dtype == pl.String and present_texts(column).cast(pl.Float64, strict=False).count()
    )


def _is_day(pattern: str) -> bool:
    return pattern not in EPOCH_UNITS and not re.search("%[HI]", pattern) and "%d" in pattern


def _with_clock(frame: pl.DataFrame, day: TimeColumns) -> TimeColumns | None:
    """The days together with a column of times of day; None where there is none, or where no day
    occurs twice.
    """
    if frame[day.columns[0]].n_unique() == frame.height:
        return None
    for name in frame.columns:
        if name.strip().lower() not in CLOCK_NAMES or name in day.columns:
            continue
        pattern = clock_pattern(frame[name])
        if pattern is not None:
            return TimeColumns((*day.columns, name), f"{day.pattern or '%Y-%m-%d'} {pattern}")
    return None


def _zone(frame: pl.DataFrame, found: TimeColumns, where: str) -> str | None:
    """The zone of the column or of its offsets; None if it has neither."""
    import polars as pl

    column = found.joined(frame)
    if column.dtype != pl.String:
        zone = getattr(column.dtype, "time_zone", None)
        return None if zone is None else str(zone)
    if found.pattern in EPOCH_UNITS:
        return None
    suffixes = column.str.strip_chars().str.extract(ZONE_SUFFIX, 1)
    known = {z: offset_minutes(z) for z in suffixes.unique().drop_nulls()}
    if not known:
        return None
    times, aware = found.read_column(column, where)
    if not aware.all():
        raise found.problem(where, int(aware.argmin()), MIXED_OFFSETS, "zone=Europe/Berlin (yours)")
    minutes = suffixes.drop_nulls().replace_strict(known, return_dtype=pl.Int64).to_numpy()
    return zone_of_offsets(times[aware], minutes)


def _notes(frame: pl.DataFrame, found: TimeColumns) -> list[str]:
    """What was found that could have been otherwise."""
    names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    notes = []
    pattern = found.pattern or ""
    if len(found.columns) > 1:
        *others, last = (quote(name) for name in found.columns)
        notes.append(f"times from columns {', '.join(others)} and {last}")
    if pattern in names:
        notes.append(f"column {quote(found.label)}: {names[pattern]} since 1970")
    if re.match("%[dm][-/]%[dm]", pattern):
        first = "day" if pattern.startswith("%d") else "month"
        notes.append(f"column {quote(found.label)}: the {first} comes first ({pattern})")
    if found.zone is not None:
        notes.append(f"times in zone {found.zone}")
    return notes
