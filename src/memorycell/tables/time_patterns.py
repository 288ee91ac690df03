"""Finds the format of the times in a column of text or numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.strptime import bare_pattern, strptime
from memorycell.tables.times import ZONE_SUFFIX, epoch_unit

if TYPE_CHECKING:
    import polars as pl

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
MAX_SEEDS = 6
"""Cells of different lengths from which patterns are taken."""
MAX_SHARE_ROWS = 50_000
"""Cells that are compared with a pattern where there is one only; of more, evenly spaced ones."""
MIN_SHARE = 0.9
"""Of the cells of a column of times, those that must be times; the others are reported."""
YEARS = (1800, 2200)
MIN_EPOCH_S = 1e8
"""Smaller numbers are not taken for times unless the column is named."""


def find_pattern(column: pl.Series, where: str, *, named: bool, any_number: bool) -> str | None:
    """The pattern of a column; None if it holds no times. Raises `DataError` where day and month
    cannot be told apart.

    named        numbers may be times
    any_number   also small ones
    """
    import polars as pl

    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        numbers = named and column.dtype.is_numeric()
        return number_pattern(present_texts(column), any_number=any_number) if numbers else None
    spacing = max(len(column) // MAX_SHARE_ROWS, 1)
    texts = present_texts(column.gather_every(spacing))
    sample = texts.head(SAMPLE_ROWS).to_list()
    if not sample:
        return None
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", cell) for cell in sample):
        return number_pattern(present_texts(column), any_number=any_number) if named else None
    bare = without_zones(texts)
    seeds = {len(cell): cell for cell in bare.head(SAMPLE_ROWS)}
    candidates = dict.fromkeys(
        p for cell in list(seeds.values())[:MAX_SEEDS] for p in _candidates(cell)
    )
    if len(candidates) > 1 and spacing > 1:  # one cell may tell them apart
        bare = without_zones(present_texts(column))
    shares = {p: pattern_share(bare, p) for p in candidates}
    best = max(shares.values(), default=0.0)
    if best < MIN_SHARE:
        return None
    chosen = [p for p, share in shares.items() if share == best]
    if len(chosen) > 1 and not _same(bare, chosen):
        ways = " or ".join(f"--set time_format='{p}'" for p in chosen[:2])
        raise DataError(
            f"{where}: column {quote(column.name)}: {quote(bare[0])}: day and month cannot be told"
            f" apart; say which comes first: {ways}"
        )
    return chosen[0]


def present_texts(column: pl.Series) -> pl.Series:
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


def without_zones(texts: pl.Series) -> pl.Series:
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


def pattern_share(texts: pl.Series, pattern: str) -> float:
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


def number_pattern(texts: pl.Series, *, any_number: bool) -> str | None:
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


def clock_pattern(column: pl.Series) -> str | None:
    """The pattern of a column of times of day; None if it holds something else."""
    import polars as pl

    if column.dtype == pl.Time:
        return "%H:%M:%S"
    texts = present_texts(column)
    seed = max(texts.head(SAMPLE_ROWS), key=len, default="")
    for shape, pattern in CLOCKS:
        if re.fullmatch(shape, seed):
            read = strptime("2000-01-01 " + texts, f"%Y-%m-%d {pattern}")
            if 1 - read.null_count() / len(texts) >= MIN_SHARE:
                return pattern
    return None
