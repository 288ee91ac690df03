"""Times in tables: where they are, how they are written, and in which zone.

Times are int64, microseconds since 1970 in UTC. Times without a zone count as UTC and are written
without an offset.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS, is_missing, shown_cell
from memorycell.tables.strptime import bare_pattern, strptime
from memorycell.tables.zones import (
    ABBREVIATIONS,
    EPOCH,
    MAX_TIME_US,
    MIN_TIME_US,
    find_zone,
    from_local,
    from_local_after,
    iso_time,
    offset_minutes,
    to_local,
)

if TYPE_CHECKING:
    import polars as pl

EPOCH_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
"""Unit of numbers since 1970 -> microseconds."""
MIN_MILLISECONDS, MIN_MICROSECONDS, MIN_NANOSECONDS = 1e11, 1e14, 1e17
"""Numbers from here on are in this unit, smaller ones in seconds."""
DATE_PATTERNS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%Y%m%d", "%Y-%m", "%Y/%m")
"""Tried where no pattern is known; none of them leaves day and month open."""
TIME_PATTERNS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
ZONE_SUFFIX = (
    r"[:T][0-9]{2,6}(?:[.,][0-9]+)?(?: ?[AaPp][Mm])?\s*"
    rf"([+-](?:0[0-9]|1[0-8])(?::?[0-5][0-9])?|{'|'.join(ABBREVIATIONS)})$"
)
"""The offset or zone after a time of day."""
MIXED_OFFSETS = "the time has no offset, unlike others"
MAX_PATTERN_CHARS = 60
MAX_COLUMNS = 6


@dataclass(frozen=True)
class TimeColumns:
    """The columns with the times of a table, and how they are written.

    columns   one column; a column of dates and one of times of day; or year, month, day, hour, …
    pattern   as for `datetime.strptime`, or "s", "ms", "us", "ns" for numbers since 1970; None:
              ISO 8601, or one of `DATE_PATTERNS`
    zone      in which times are written: an IANA name, or an offset such as +01:00; None: unknown
    """

    columns: tuple[str, ...]
    pattern: str | None = None
    zone: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= MAX_COLUMNS:
            raise ValueError(f"times are in up to {MAX_COLUMNS} columns")
        if self.pattern is not None:
            known = self.pattern in EPOCH_UNITS or "%" in self.pattern
            if not known or len(self.pattern) > MAX_PATTERN_CHARS or "\0" in self.pattern:
                raise ValueError(f"not a time format: {quote(self.pattern)}")
        if self.zone is not None:
            find_zone(self.zone)

    @property
    def label(self) -> str:
        """The names of the columns."""
        return " ".join(self.columns)

    def require(self, columns: Collection[str], where: str) -> None:
        """Raises `DataError` if one of the columns is missing."""
        for name in self.columns:
            if name not in columns:
                names = quote(", ".join(map(str, columns)))[1:-1]
                raise DataError(f"{where}: no column {quote(name)}; it has {names}")

    def read(self, frame: pl.DataFrame, where: str, group: str | None = None) -> np.ndarray:
        """The times of a table, [N] int64.

        group   column that names the series of a row; an hour that occurs twice is resolved within
                it

        Raises `DataError` that names the row.
        """
        self.require(frame.columns, where)
        column = self.joined(frame)
        times, aware = self.read_column(column, where)
        if ((times < MIN_TIME_US) | (times > MAX_TIME_US)).any():
            row = int(((times < MIN_TIME_US) | (times > MAX_TIME_US)).argmax())
            raise self._unread(where, row, shown_cell(column, row))
        if self.zone is None or aware.all():
            if aware.any() and not aware.all():
                row = int(np.flatnonzero(~aware)[0])
                raise self.problem(where, row, MIXED_OFFSETS, "zone=Europe/Berlin (yours)")
            return times
        groups = None if group is None else frame[group].to_list()
        utc, exists = from_local(times, self.zone, groups)
        if not (exists | aware).all():
            row = int(np.flatnonzero(~(exists | aware))[0])
            problem = f"{iso_time(int(times[row]))} does not exist in {self.zone}"
            raise self.problem(where, row, problem, "zone=UTC (or the zone of the file)")
        return np.where(aware, times, utc)

    def read_row(self, row: Mapping[str, Any], where: str, after: int | None = None) -> int:
        """The time of a row.

        after   the time of the previous row of the series; it decides in an hour that occurs twice

        Raises `DataError`.
        """
        self.require(row, where)
        cells = [row[name] for name in self.columns]
        if any(is_missing(cell) for cell in cells):
            raise DataError(f"{where}: the time (column {quote(self.label)}) is missing")
        value = cells[0] if len(cells) == 1 else " ".join(map(_cell_text, cells))
        try:
            time_us, aware = parse_time(value, self.pattern)
            if aware or self.zone is None:
                return time_us
            return from_local_after(time_us, self.zone, after)
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{where}, column {quote(self.label)}: {quote(value)} is not a time"
                f"{_expected(self)}"
            ) from None

    def text(self, time_us: int) -> str:
        """2026-01-31 13:45:00, with the offset +01:00 if the zone is known."""
        return iso_time(time_us, self.zone)

    def local(self, time_us: np.ndarray) -> np.ndarray:
        """The wall clock at the times [N], as microseconds."""
        return to_local(time_us, self.zone)

    def joined(self, frame: pl.DataFrame) -> pl.Series:
        """The column, or the texts of all, with spaces between them."""
        import polars as pl

        if len(self.columns) == 1:
            return frame[self.columns[0]]
        texts = [_column_text(frame[name]) for name in self.columns]
        return pl.select(pl.concat_str(texts, separator=" ").alias(self.label)).to_series()

    def read_column(self, column: pl.Series, where: str) -> tuple[np.ndarray, np.ndarray]:
        """(times, whether they have an offset) [N]; those without one are wall-clock times."""
        import polars as pl

        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        if column.dtype in (pl.Date, pl.Datetime):
            aware = getattr(column.dtype, "time_zone", None) is not None
            times = column.cast(pl.Datetime("us")) if not aware else column
            values = times.dt.epoch("us")
        elif column.dtype == pl.String:
            return self._read_text(column, where)
        elif column.dtype.is_numeric():
            if self.pattern is not None and self.pattern not in EPOCH_UNITS:
                return self._read_text(column.cast(pl.Int64, strict=False).cast(pl.String), where)
            values, aware = _since_epoch(column, self.pattern), False
        else:
            kind = quote(str(column.dtype))[1:-1]
            raise DataError(f"{where}: column {quote(column.name)} holds {kind}, expected times")
        if values.null_count():
            row = int(values.is_null().arg_true()[0])
            raise self._unread(where, row, shown_cell(column, row))
        return values.to_numpy().astype(np.int64), np.full(len(column), aware)

    def _read_text(self, column: pl.Series, where: str) -> tuple[np.ndarray, np.ndarray]:
        import polars as pl

        if self.pattern not in EPOCH_UNITS:  # what most columns hold, quickly
            values = strptime(column, self.pattern)
            if values.null_count() == 0:
                return values.to_numpy().astype(np.int64), np.zeros(len(column), bool)
        text = column.str.strip_chars()
        text = text.set(text.str.to_lowercase().is_in(list(MISSING_WORDS)), None)
        aware = np.zeros(len(text), bool)
        if self.pattern in EPOCH_UNITS:
            values = _since_epoch(text, self.pattern)
        else:
            zones = text.str.extract(ZONE_SUFFIX, 1)
            known = {z: offset_minutes(z) * 60_000_000 for z in zones.unique().drop_nulls()}
            if known:
                aware = zones.is_not_null().to_numpy().astype(bool)
                text = text.str.strip_suffix(zones.fill_null("")).str.strip_chars_end()
            values = strptime(text, self.pattern)
            if known:
                values -= zones.replace_strict(known, default=0, return_dtype=pl.Int64)
        read = {}
        for row in values.is_null().arg_true().to_list():
            try:
                read[row], aware[row] = parse_time(column[row], self.pattern)
            except (TypeError, ValueError, OverflowError):
                raise self._unread(where, row, shown_cell(column, row)) from None
        values = values.scatter(list(read), list(read.values())) if read else values
        return values.to_numpy().astype(np.int64), aware

    def _unread(self, where: str, row: int, value: Any) -> DataError:
        if is_missing(value):
            return DataError(
                f"{where}: row {row + 1}, column {quote(self.label)}: the time is missing; remove"
                " the row or give it a time"
            )
        return self.problem(
            where,
            row,
            f"{quote(value)} is not a time{_expected(self)}",
            "time_format=%d/%m/%Y (yours), or write 2026-01-31 13:45:00",
        )

    def problem(self, where: str, row: int, problem: str, fix: str) -> DataError:
        """The error of a row, from 0."""
        return DataError(
            f"{where}: row {row + 1}, column {quote(self.label)}: {problem}; --set {fix}"
        )


def parse_time(value: Any, pattern: str | None = None) -> tuple[int, bool]:
    """(microseconds since 1970, whether the time has an offset) of a cell. Raises ValueError.

    Numbers are seconds, or smaller units from `MIN_MILLISECONDS` on.
    """
    time_us, aware = _parse_cell(value, pattern)
    if not MIN_TIME_US <= time_us <= MAX_TIME_US:
        raise ValueError("out of the range of times")
    return time_us, aware


def _parse_cell(value: Any, pattern: str | None) -> tuple[int, bool]:
    if isinstance(value, datetime):
        return _microseconds(value), value.tzinfo is not None
    if isinstance(value, date):
        return _microseconds(datetime.combine(value, time())), False
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64)), False
    if isinstance(value, str):
        return _parse_text(value.strip(), pattern)
    if isinstance(value, bool) or is_missing(value):
        raise ValueError("not a time")
    if pattern is not None and pattern not in EPOCH_UNITS:
        return _parse_text(str(int(value)), pattern)
    return _epoch_number(float(value), pattern), False


def parse_time_us(value: Any, time_format: str | None = None) -> int:
    """A time in microseconds since 1970; see `parse_time`. Raises ValueError."""
    return parse_time(value, time_format)[0]


def epoch_unit(number: float) -> str:
    """The unit of a number since 1970, by its size."""
    size = abs(number)
    if size >= MIN_NANOSECONDS:
        return "ns"
    if size >= MIN_MICROSECONDS:
        return "us"
    return "ms" if size >= MIN_MILLISECONDS else "s"


def _epoch_number(number: float, unit: str | None) -> int:
    return round(number * EPOCH_UNITS[unit or epoch_unit(number)])


def _parse_text(text: str, pattern: str | None) -> tuple[int, bool]:
    if pattern in EPOCH_UNITS:
        return _epoch_number(float(text), pattern), False
    match = re.search(ZONE_SUFFIX, text)
    bare = text[: match.start(1)].rstrip() if match else text
    offset_us = offset_minutes(match[1]) * 60_000_000 if match else 0
    bare = re.sub(r"(\.\d{6})\d+$", r"\1", bare) if "." in bare else bare  # nanoseconds
    late = re.search(r"[ T]24(:00(:00)?)?$", bare) if "24" in bare else None  # the end of a day
    if late and (pattern is None or "%H" in pattern):
        bare = f"{bare[: late.start() + 1]}00{late[1] or ''}"
    parsed = _parse_bare(bare, pattern)
    if parsed is not None:
        day_us = 86_400_000_000 if late else 0
        return _microseconds(parsed) - offset_us + day_us, match is not None
    if pattern is not None:
        raise ValueError(f"not of the format {pattern}")
    try:
        return _microseconds(datetime.fromisoformat(bare)) - offset_us, match is not None
    except ValueError:
        return _epoch_number(float(text), None), False


def _parse_bare(text: str, pattern: str | None) -> datetime | None:
    """A cell without its zone; None where it has none of the patterns."""
    if len(text) == 19 and text[4] == "-" and (pattern or "%Y-%m-%d").startswith("%Y-%m-%d"):
        with contextlib.suppress(ValueError):  # the usual case, ten times as fast
            return datetime.fromisoformat(text)
    for candidate in _candidates(text, pattern):
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, candidate)
    return None


def _candidates(text: str, pattern: str | None) -> list[str]:
    """The patterns that a cell may have: the column's, its day alone, its other times of day."""
    if pattern is None:
        if text.isdigit():
            return {4: ["%Y"], 12: ["%Y%m%d%H%M"], 14: ["%Y%m%d%H%M%S"]}.get(len(text), [])
        return [d + t for d in DATE_PATTERNS for t in ("", *(f" {t}" for t in TIME_PATTERNS))]
    pattern = bare_pattern(pattern)
    match = re.search(r"^(.*%[YymdbB])([T ,]+)%[HI].*$", pattern)
    if match is None:
        return [pattern]
    day, between = match.groups()
    return [pattern, day, *(f"{day}{between}{t}" for t in TIME_PATTERNS)]


def _since_epoch(column: pl.Series, unit: str | None) -> pl.Series:
    """Int64 microseconds of numbers or their texts, null where they are no times."""
    import polars as pl

    numbers = column.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    known = np.abs(numbers[~np.isnan(numbers)])
    unit = unit or epoch_unit(float(np.median(known)) if len(known) else 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.round(numbers * EPOCH_UNITS[unit])
        outside = ~((values >= MIN_TIME_US) & (values <= MAX_TIME_US))
    return pl.Series(np.where(outside, 0, values).astype(np.int64)).set(pl.Series(outside), None)


def _microseconds(moment: datetime) -> int:
    delta = moment.replace(tzinfo=moment.tzinfo or EPOCH.tzinfo) - EPOCH
    return delta // timedelta(microseconds=1)


def _column_text(column: pl.Series) -> pl.Series:
    """A column of several that are joined, as text."""
    import polars as pl

    if column.dtype == pl.Datetime:
        column = column.cast(pl.Date)
    if column.dtype.is_float():
        column = column.cast(pl.Int64, strict=False)
    if column.dtype == pl.Time:
        return column.dt.to_string("%H:%M:%S")
    return column.cast(pl.String, strict=False).str.strip_chars()


def _cell_text(value: Any) -> str:
    """A cell of several that are joined; see `_column_text`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value.date() if isinstance(value, datetime) else value).strip()


def _expected(columns: TimeColumns) -> str:
    if columns.pattern is None:
        return ""
    names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    pattern = names.get(columns.pattern)
    return f" in {pattern} since 1970" if pattern else f" of the format {quote(columns.pattern)}"
