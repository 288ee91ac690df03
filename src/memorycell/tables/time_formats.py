"""Finds the times of a table: in which columns, in which format and zone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.times import (
    EPOCH_UNITS,
    MIXED_OFFSETS,
    ZONE_SUFFIX,
    TimeColumns,
    bare_pattern,
    epoch_unit,
    strptime,
)
from memorycell.tables.zones import find_zone, offset_minutes, zone_of_offsets

if TYPE_CHECKING:
    import polars as pl

TIME_NAMES = (
    "time", "datetime", "timestamp", "date", "ds", "date_time", "time_hour", "zeitstempel",
    "datum", "zeit", "fecha", "data", "horodatage", "epoch", "unixtime", "unix_time", "ts",
    "created_at", "date time", "datetime_utc", "utc", "day", "month", "year", "period",
)  # fmt: skip
"""Names of columns of times in lower case; the first ones are looked at first."""
CLOCK_NAMES = ("time", "hour", "hr", "uhrzeit", "zeit", "stunde", "heure", "hora", "ora", "uur")
"""Names of columns with the time of day, beside one of dates."""
DATES = (
    (r"\d{4}([-/.])\d{1,2}\1\d{1,2}", ("%Y{0}%m{0}%d",)),
    (r"\d{1,2}(\.)\d{1,2}\1\d{4}", ("%d{0}%m{0}%Y",)),
    (r"\d{1,2}(\.)\d{1,2}\1\d{2}", ("%d{0}%m{0}%y",)),
    (r"\d{1,2}([-/])\d{1,2}\1\d{4}", ("%d{0}%m{0}%Y", "%m{0}%d{0}%Y")),
    (r"\d{1,2}([-/])\d{1,2}\1\d{2}", ("%d{0}%m{0}%y", "%m{0}%d{0}%y", "%y{0}%m{0}%d")),
    (r"\d{1,2}([- ])[A-Za-z]{3,9}\1\d{4}", ("%d{0}%b{0}%Y", "%d{0}%B{0}%Y")),
    (r"\d{1,2}([- ])[A-Za-z]{3,9}\1\d{2}", ("%d{0}%b{0}%y",)),
    (r"[A-Za-z]{3,9}( )\d{1,2}, \d{4}", ("%b{0}%d, %Y", "%B{0}%d, %Y")),
    (r"[A-Za-z]{3}(,) \d{1,2} [A-Za-z]{3} \d{4}", ("%a{0} %d %b %Y",)),
    (r"\d{8}()", ("%Y%m%d",)),
    (r"\d{4}([-/])\d{1,2}", ("%Y{0}%m",)),
    (r"[A-Za-z]{3}([- ])\d{4}", ("%b{0}%Y",)),
)
"""Regular expression of a day -> the patterns that it may have."""
CLOCKS = (
    (r"\d{1,2}:\d{2}:\d{2}\.\d+", "%H:%M:%S.%f"),
    (r"\d{1,2}:\d{2}:\d{2}", "%H:%M:%S"),
    (r"\d{1,2}:\d{2}", "%H:%M"),
    (r"\d{1,2}:\d{2}:\d{2} ?[AaPp][Mm]", "%I:%M:%S %p"),
    (r"\d{1,2}:\d{2} ?[AaPp][Mm]", "%I:%M %p"),
    (r"\d{1,2}\.\d{2}\.\d{2}", "%H.%M.%S"),
    (r"\d{1,2}\.\d{2}", "%H.%M"),
    (r"\d{6}", "%H%M%S"),
    (r"\d{4}", "%H%M"),
    (r"\d{1,2}", "%H"),
)
COMPACT = {
    14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 10: "%Y%m%d%H", 8: "%Y%m%d", 6: "%Y%m", 4: "%Y"
}  # fmt: skip
"""Number of digits -> pattern."""
SAMPLE_ROWS = 50
MIN_SHARE = 0.9
"""Of the cells of a column of times, those that must be times; the others are reported."""
YEARS = (1800, 2200)
MIN_EPOCH_S = 1e8
"""Smaller numbers are not taken for times unless the column is named."""


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
    named column without times.
    """
    if zone is not None:
        _check_zone(zone)
    found: TimeColumns | None
    if time is not None:
        names = (time,) if time in frame.columns else tuple(n.strip() for n in time.split(","))
        found = _named(frame, names, where, time_format)
    else:
        found = _search(frame, where, time_format)
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

    if len(names) > 2:
        raise DataError(f"{where}: time={','.join(names)}: expected one column, or two")
    columns = TimeColumns(names)
    columns.require(frame.columns, where)
    column = columns.joined(frame)
    if column.dtype in (pl.Date, pl.Datetime):
        return (_with_clock(frame, columns) if column.dtype == pl.Date else None) or columns
    pattern = _checked_format(time_format) or _pattern(column, where, named=True, any_number=True)
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
    return None


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
        elif pattern is not None and _share(_bare(_texts(column)), pattern) < MIN_SHARE:
            pattern = None
        return None if pattern is None else TimeColumns((name,), pattern)
    pattern = _pattern(column, where, named=named, any_number=False)
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


def _pattern(column: pl.Series, where: str, *, named: bool, any_number: bool) -> str | None:
    """The pattern of a column; None if it holds no times. Raises `DataError` where day and month
    cannot be told apart.

    named        numbers may be times
    any_number   also small ones
    """
    import polars as pl

    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        numbers = named and column.dtype.is_numeric()
        return _number_pattern(_texts(column), any_number=any_number) if numbers else None
    texts = _texts(column)
    sample = texts.head(SAMPLE_ROWS).to_list()
    if not sample:
        return None
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", cell) for cell in sample):
        return _number_pattern(texts, any_number=any_number) if named else None
    bare = _bare(texts)
    seed = max(bare.head(SAMPLE_ROWS), key=len)
    shares = {p: _share(bare, p) for p in _candidates(seed)}
    best = max(shares.values(), default=0.0)
    if best < MIN_SHARE:
        return None
    chosen = [p for p, share in shares.items() if share == best]
    if len(chosen) > 1 and not _same(bare, chosen):
        ways = " or ".join(f"--set time_format='{p}'" for p in chosen[:2])
        raise DataError(
            f"{where}: column {quote(column.name)}: {quote(seed)}: day and month cannot be told"
            f" apart; say which comes first: {ways}"
        )
    return chosen[0]


def _texts(column: pl.Series) -> pl.Series:
    """The cells that are present, as text."""
    import polars as pl

    if column.dtype.is_float():
        whole = (column == column.floor()).all()
        column = column.cast(pl.Int64, strict=False) if whole else column
    try:
        text = column.cast(pl.String).str.strip_chars()
    except pl.exceptions.PolarsError:  # lists and the like
        return pl.Series([], dtype=pl.String)
    return text.filter(~text.str.to_lowercase().is_in(list(MISSING_WORDS))).drop_nulls()


def _bare(texts: pl.Series) -> pl.Series:
    """The cells without their zones."""
    zones = texts.str.extract(ZONE_SUFFIX, 1)
    if zones.null_count() == len(zones):
        return texts
    return texts.str.strip_suffix(zones.fill_null("")).str.strip_chars_end()


def _candidates(cell: str) -> Iterator[str]:
    """The patterns that a cell may have."""
    for expression, days in DATES:
        more = "[0-9]" if expression.startswith(r"\d{8}") else "[-/.]?[0-9]"
        match = re.match(f"(?:{expression})(?!{more})", cell)
        if match is None:
            continue
        between, clock = _split_clock(cell[match.end() :])
        for day in days:
            day = day.format(match[1])
            if clock == "":
                yield day
            for shape, pattern in CLOCKS:
                if re.fullmatch(shape, clock):
                    yield f"{day}{between}{pattern}"


def _split_clock(rest: str) -> tuple[str, str]:
    """(separator, time of day)"""
    clock = rest.lstrip(" T,_;-")
    return rest[: len(rest) - len(clock)], clock


def _share(texts: pl.Series, pattern: str) -> float:
    """Of the cells, those with a pattern, or with its day alone."""
    return 1 - _parsed(texts, pattern).null_count() / max(len(texts), 1)


def _parsed(texts: pl.Series, pattern: str) -> pl.Series:
    import polars as pl

    values = strptime(texts, pattern)
    day = re.sub(r"[T ,_;-]*%[HI].*$", "", bare_pattern(pattern))
    if values.null_count() and day not in ("", pattern):
        values = values.fill_null(strptime(texts, day))
        ends = texts.str.replace("([ T])24(:00(?::00)?)?$", "${1}00$2")  # of days
        values = values.fill_null(strptime(ends, pattern))
    return values if len(texts) else pl.Series([None], dtype=pl.Int64)


def _same(texts: pl.Series, patterns: list[str]) -> bool:
    """Whether all patterns read the same times."""
    first = strptime(texts, patterns[0])
    return all(first.equals(strptime(texts, p), null_equal=True) for p in patterns[1:])


def _number_pattern(texts: pl.Series, *, any_number: bool) -> str | None:
    """The pattern of a column of numbers: 20230131, 2023, or a time since 1970."""
    import polars as pl

    lengths = texts.str.len_chars().unique().to_list()
    pattern = COMPACT.get(lengths[0]) if len(lengths) == 1 else None
    if pattern is not None:
        years = texts.str.slice(0, 4).cast(pl.Int64, strict=False)
        padded, long = (texts, pattern) if lengths[0] > 6 else (texts + "0101", "%Y%m%d")
        if lengths[0] == 6:
            padded = texts + "01"
        if lengths[0] == 10:
            padded, long = texts + "00", "%Y%m%d%H%M"
        inside = bool(years.is_between(*YEARS).all())
        if inside and strptime(padded, long).null_count() == 0:
            return pattern
    numbers = texts.cast(pl.Float64, strict=False)
    typical = numbers.abs().median()
    if numbers.null_count() or not isinstance(typical, float):
        return None
    if typical < MIN_EPOCH_S and not any_number:
        return None
    return epoch_unit(typical)


def _is_number(column: pl.Series) -> bool:
    import polars as pl

    return column.dtype.is_numeric() or bool(
        column.dtype == pl.String and _texts(column).cast(pl.Float64, strict=False).count()
    )


def _is_day(pattern: str) -> bool:
    return pattern not in EPOCH_UNITS and not re.search("%[HI]", pattern) and "%d" in pattern


def _with_clock(frame: pl.DataFrame, day: TimeColumns) -> TimeColumns | None:
    """The days together with a column of times of day; None where there is none, or where no day
    occurs twice.
    """
    import polars as pl

    if frame[day.columns[0]].n_unique() == frame.height:
        return None
    for name in frame.columns:
        if name.strip().lower() not in CLOCK_NAMES or name in day.columns:
            continue
        pattern: str | None = None
        if frame[name].dtype == pl.Time:
            pattern = "%H:%M:%S"
        else:
            texts = _texts(frame[name])
            seed = max(texts.head(SAMPLE_ROWS), key=len, default="")
            for shape, clock in CLOCKS:
                dated = pl.Series([], dtype=pl.String) if len(texts) == 0 else "2000-01-01 " + texts
                if re.fullmatch(shape, seed) and _clock_share(dated, clock) >= MIN_SHARE:
                    pattern = clock
                    break
        if pattern is not None:
            return TimeColumns((*day.columns, name), f"{day.pattern or '%Y-%m-%d'} {pattern}")
    return None


def _clock_share(dated: pl.Series, clock: str) -> float:
    return 1 - strptime(dated, f"%Y-%m-%d {clock}").null_count() / max(len(dated), 1)


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
    if len(found.columns) == 2:
        notes.append(f"times from columns {quote(found.columns[0])} and {quote(found.columns[1])}")
    if pattern in names:
        notes.append(f"column {quote(found.label)}: {names[pattern]} since 1970")
    if re.match("%[dm][-/]%[dm]", pattern):
        first = "day" if pattern.startswith("%d") else "month"
        notes.append(f"column {quote(found.label)}: the {first} comes first ({pattern})")
    if found.zone is not None:
        notes.append(f"times in zone {found.zone}")
    return notes
