"""Finds how the numbers of a column are written.

A cell is first reduced to its shape, in which every digit is a 9; the few different shapes of a
column then decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.numbers import (
    MAX_UNIT_CHARS,
    PLAIN,
    VARIANTS,
    WORDS,
    NumberFormat,
    plain_values,
)
from memorycell.tables.sentinels import sentinel_note

if TYPE_CHECKING:
    import polars as pl

CURRENCY = "[€$£¥₹]|EUR|USD|GBP|CHF|JPY|CNY|SEK|NOK|DKK|PLN|CZK|CAD|AUD"
CELL = re.compile(
    rf"[(]?[+-]?\s*(?P<before>{CURRENCY})?\s*[+-]?"
    r"(?P<number>[9z.,][9z.,' ]*?)(?P<exponent>[eE][+-]?9+)?"
    rf"\s*(?P<after>[^\W\d_][^\s\d]*9?|[%‰°€$£¥₹][^\s\d]*)?[)-]?"
)
"""The shape of a number with its unit: kWh, %, °C, W/m2, or a currency in front of it."""
GROUPED_POINTS = r"^[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+$"
SAMPLE_ROWS = 1000
MAX_CELL_CHARS = 40
MAX_SHAPES = 2000
MIN_GROUPED_CELLS = 50
"""Of a column in which 1.025 and 991 occur: from this number of cells on, three digits after each
point are a group. Of decimals, some would end in 0 and be shorter.
"""


def check_separators(decimal: str | None, thousands: str | None) -> None:
    """Raises ValueError for settings `decimal` and `thousands` that no number has."""
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal={quote(decimal)}: expected . or ,")
    if thousands not in (None, "none", "space", ".", ",", " ", "'"):
        raise ValueError(f"thousands={quote(thousands)}: expected . , ' space or none")
    if decimal is not None and decimal == thousands:
        raise ValueError(f"decimal={decimal} and thousands={thousands} must differ")


def find_number_formats(
    frame: pl.DataFrame,
    columns: Iterable[str],
    where: str,
    *,
    decimal: str | None = None,
    thousands: str | None = None,
    min_share: float = 0.5,
    read: dict[str, pl.Series] | None = None,
) -> tuple[dict[str, NumberFormat], list[str]]:
    """(formats of the columns that hold numbers, notes on those that are not plain).

    decimal, thousands   decide where a column can be read in two ways
    min_share            of the values that are present, which must be numbers
    read                 column -> its numbers is added, where its text was read to find the format

    Raises `DataError` for a column that can be read in two ways.
    """
    import polars as pl

    found = {c: f for c in columns if (f := _find(frame[c], min_share)) is not None}
    if decimal is None and thousands in (".", ","):
        decimal = "," if thousands == "." else "."
    proven = {f.formats[0].decimal for f in found.values() if f.proven}
    others = proven.pop() if len(proven) == 1 else None
    formats, notes = {}, []
    for name, own in found.items():
        formats[name], note = own.decide(decimal, others, ungrouped=thousands == "none")
        if note == AMBIGUOUS:
            point = own.example
            raise DataError(
                f"{where}: column {quote(name)}: {quote(point)} can be read in two ways; say which:"
                " --set decimal=. or --set decimal=,"
            )
        if note or (formats[name] != PLAIN and frame[name].dtype != pl.Boolean):
            notes.append(f"column {quote(name)}: {note or formats[name]}")
        elif formats[name] == PLAIN:
            values = frame[name] if own.values is None else own.values
            if read is not None and own.values is not None:
                read[name] = own.values
            if (mark := sentinel_note(values)) is not None:
                notes.append(f"column {quote(name)}: {mark}")
    return formats, notes


AMBIGUOUS = "ambiguous"


@dataclass(frozen=True)
class _Found:
    """How a column can be written.

    values     the column, where it was read
    formats    one, or two that read the column as different numbers, "." first
    proven     whether it has decimals or groups that can be read in one way only
    separators "." or "," or both, where there are two formats
    grouped    number of cells with a separator
    short, long   numbers of cells without one, of up to three digits and of more
    example    a cell with a separator
    """

    formats: tuple[NumberFormat, ...]
    proven: bool = False
    values: pl.Series | None = None
    separators: str = ""
    grouped: int = 0
    short: int = 0
    long: int = 0
    example: str = ""

    def decide(
        self, decimal: str | None, others: str | None, *, ungrouped: bool
    ) -> tuple[NumberFormat, str]:
        """(format, note); the note is `AMBIGUOUS` where it cannot be decided.

        decimal     as set; others: that of the other columns; ungrouped: thousands=none is set
        """
        if len(self.formats) == 1:
            return self.formats[0], ""
        if decimal is not None:
            return self._with_decimal(decimal), ""
        if len(self.separators) > 1:
            return (PLAIN, AMBIGUOUS) if others is None else (self._with_decimal(others), "")
        decimals = self._with_decimal(self.separators)
        groups = next(f for f in self.formats if f != decimals)
        if ungrouped or self.long:
            return decimals, ""
        like_groups = self.short > 0 and self.grouped >= MIN_GROUPED_CELLS
        if others is not None and not (like_groups and others == decimals.decimal):
            return self._with_decimal(others), ""
        if like_groups and others is None:
            whole = self.example.replace(self.separators, "")
            return groups, f"{self.example} read as {whole}; else --set decimal={self.separators}"
        if self.short or self.separators == ",":
            return PLAIN, AMBIGUOUS
        return decimals, f"{self.example} read with a decimal point; else --set decimal=,"

    def _with_decimal(self, decimal: str) -> NumberFormat:
        return next(f for f in self.formats if f.decimal == decimal)


def _find(column: pl.Series, min_share: float) -> _Found | None:
    import polars as pl

    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        if column.null_count() == len(column):
            return None
        if column.dtype == pl.Boolean:
            return _Found((NumberFormat(words=True),))
        return _Found((PLAIN,)) if column.dtype.is_numeric() else None
    if _has_decimals(column.drop_nulls()) and (values := plain_values(column)) is not None:
        return _Found((PLAIN,), proven=True, values=values)
    text = column.str.strip_chars()
    text = text.filter(~text.str.to_lowercase().is_in(list(MISSING_WORDS))).drop_nulls()
    if len(text) == 0:
        return None
    if _is_plain(text):
        return _Found((PLAIN,), proven=True)
    sample = text.head(SAMPLE_ROWS)
    if set(sample.str.to_lowercase()) <= set(WORDS):
        words = set(text.str.to_lowercase().unique())
        return _Found((NumberFormat(words=True),)) if _is_pair(words) else None
    digits = sample.str.contains("[0-9]") & (sample.str.len_chars() <= MAX_CELL_CHARS)
    if (digits.sum() or 0) < min_share * len(sample) / 2:
        return None
    return _from_shapes(text, min_share)


def _is_plain(text: pl.Series) -> bool:
    """Whether all cells are plain numbers, some of whose decimals cannot be groups of three."""
    return _has_decimals(text) and plain_values(text) is not None


def _has_decimals(text: pl.Series) -> bool:
    """Whether the first cells have points, some of which cannot be between groups of three."""
    sample = text.head(SAMPLE_ROWS)
    points = sample.filter(sample.str.contains(".", literal=True))
    return len(points) > 0 and not points.str.contains(GROUPED_POINTS).all()


def _is_pair(words: set[str]) -> bool:
    """Whether the words are yes and no of one language, or one of them."""
    pairs = ({"true", "false"}, {"yes", "no"}, {"on", "off"}, {"y", "n"}, {"t", "f"})
    return any(words <= pair for pair in pairs)


def _from_shapes(text: pl.Series, min_share: float) -> _Found | None:
    """The formats that most cells of a column have."""
    import polars as pl

    text = text.str.replace_many(list(VARIANTS), list(VARIANTS.values()))
    shapes = text.str.replace("^([^0-9]*)0([.,][0-9])", "${1}z$2").str.replace_all("[0-9]", "9")
    counted = pl.DataFrame({"shape": shapes, "cell": text})
    counted = counted.group_by("shape").agg(pl.len(), pl.col("cell").first())
    counted = counted.sort("len", "shape", descending=[True, False]).head(MAX_SHAPES)
    cells = [
        (match, count, cell)
        for shape, count, cell in counted.iter_rows()
        if len(shape) <= MAX_CELL_CHARS and (match := CELL.fullmatch(shape))
    ]
    units: Counter[str] = Counter()
    for match, count, cell in cells:
        units[_unit(match, cell)] += count
    if not units:
        return None
    unit = units.most_common(1)[0][0]
    own = [(m["number"], n, cell) for m, n, cell in cells if _unit(m, cell) == unit]
    fits = _fits([(number, n) for number, n, _ in own], unit)
    most = max(fits.values(), default=0)
    if most <= min_share * len(text) or len(unit) > MAX_UNIT_CHARS:
        return None
    best = [f for f, n in fits.items() if n == most]
    by_decimal = [next((f for f in best if f.decimal == d), None) for d in (".", ",")]
    formats = tuple(f for f in by_decimal if f is not None)
    separators = "".join(s for s in ".," if any(s in number for number, _, _ in own))
    if len(formats) == 1:
        return _Found(formats, proven=bool(separators))
    if not separators:
        return _Found(formats[:1])
    without = [(number, n) for number, n, _ in own if not re.search("[.,]", number)]
    return _Found(
        formats,
        separators=separators,
        grouped=sum(n for number, n, _ in own if re.search("[.,]", number)),
        short=sum(n for number, n in without if len(number) <= 3),
        long=sum(n for number, n in without if len(number) > 3),
        example=next(cell for number, _, cell in own if re.search("[.,]", number)),
    )


def _unit(match: re.Match[str], cell: str) -> str:
    """The unit of a cell with a shape; digits in it are not those of the shape."""
    if match["before"] is not None:
        return match["before"]
    if match["after"] is None:
        return ""
    end = len(match["after"]) + len(match.string) - match.end("after")
    return cell[len(cell) - end :][: len(match["after"])]


def _fits(numbers: list[tuple[str, int]], unit: str) -> dict[NumberFormat, int]:
    """Format -> number of cells that have it; formats with fewer separators first."""
    fits = {}
    for thousands, decimal in product(("", ".", ",", " ", "'"), (".", ",")):
        if thousands == decimal:
            continue
        number_format = NumberFormat(decimal, thousands, unit)  # type: ignore[arg-type]
        body = re.compile(number_format.body.replace("[0-9]", "[9z]").replace("[1-9]", "9"))
        fits[number_format] = sum(n for number, n in numbers if body.fullmatch(number))
    return fits
