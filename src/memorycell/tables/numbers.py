"""Numbers in tables as people write them: decimal commas, thousands, units, yes and no.

`read_*` raise `DataError` with the place, `parse_*` raise ValueError.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS, is_missing

if TYPE_CHECKING:
    import polars as pl

WORDS = {
    **dict.fromkeys(("true", "yes", "on", "y", "t"), 1.0),
    **dict.fromkeys(("false", "no", "off", "n", "f"), 0.0),
}
"""What words in lower case stand for in a column of words."""
VARIANTS = {
    **dict.fromkeys("\u2212\u2013\ufe63\uff0d", "-"),
    **dict.fromkeys("\u00a0\u202f\u2009\u2007", " "),
    "\u2019": "'",
}
"""Minus signs, spaces and apostrophes of Unicode, and those of ASCII."""
MAX_UNIT_CHARS = 16
USUAL_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?").fullmatch
"""Whether text is a number in a notation that `float` reads as `PLAIN` does."""


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are written.

    decimal     "." or ","
    thousands   between groups of digits: "" (none), ".", ",", " " or "'"
    unit        before or after each number
    words       true and false, or yes and no, stand for 1 and 0
    """

    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""
    unit: str = ""
    words: bool = False

    def __post_init__(self) -> None:
        if self.decimal not in (".", ",") or self.thousands not in ("", ".", ",", " ", "'"):
            raise ValueError("unknown separators of numbers")
        if self.decimal == self.thousands:
            raise ValueError("one separator for decimals and thousands")
        if len(self.unit) > MAX_UNIT_CHARS or self.unit != self.unit.strip():
            raise ValueError("not a unit")

    def __str__(self) -> str:
        parts = ["decimal comma"] if self.decimal == "," else []
        if self.thousands:
            parts.append(f"thousands separator {self.thousands!r}")
        if self.unit:
            parts.append(f"unit {quote(self.unit)}")
        if self.words:
            parts.append("words read as 1 and 0")
        return ", ".join(parts) or "plain numbers"

    @property
    def body(self) -> str:
        """A regular expression of a number without sign, exponent and unit."""
        integer = "[0-9]*"
        if self.thousands:
            t = re.escape(self.thousands)  # groups of two as in 12,34,567 are Indian
            integer = f"(?:[1-9][0-9]{{0,2}}(?:{t}[0-9]{{2,3}})*{t}[0-9]{{3}}|[0-9]*)"
        return f"{integer}(?:{re.escape(self.decimal)}[0-9]*)?"

    @property
    def pattern(self) -> str:
        """A regular expression of a number without unit."""
        return rf"^[+-]?{self.body}(?:[eE][+-]?[0-9]+)?$"

    @cached_property
    def _matches(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def parse(self, text: str) -> float:
        """A cell as a number; raises ValueError. The cell is not missing."""
        if self.words:
            if (word := text.strip().lower()) in WORDS:
                return WORDS[word]
            raise ValueError("not one of the words")
        if not text.isascii():
            text = "".join(VARIANTS.get(c, c) for c in text)
        text = text.strip()
        if self.unit and self.unit in text:
            text = _without_unit(text, self.unit)
        elif self.unit and text.strip("0.,") != "":
            raise ValueError(f"without the unit {self.unit}")
        if text.startswith("(") and text.endswith(")"):
            text = f"-{text[1:-1]}"
        elif text.endswith("-"):
            text = f"-{text[:-1]}"
        if not self._matches.match(text):
            raise ValueError("not a number")
        return float(text.replace(self.thousands or " ", "").replace(self.decimal, "."))


PLAIN = NumberFormat()


def parse_number(value: Any, number_format: NumberFormat | None = None) -> float:
    """A cell as float64; NaN if missing. Raises ValueError for other text, for infinity, and for
    true and false in a column of numbers.
    """
    if is_missing(value):
        return math.nan
    number_format = number_format or PLAIN
    if isinstance(value, (bool, np.bool_)) and not number_format.words:
        raise ValueError("is true or false, not a number")
    parsed = number_format.parse(value) if isinstance(value, str) else float(value)
    if math.isinf(parsed):
        raise ValueError("is infinite")
    return parsed


def read_numbers(
    column: pl.Series, where: str, number_format: NumberFormat | None = None
) -> np.ndarray:
    """A column as [N] float64, NaN where it is missing. `where` names the file in errors."""
    import polars as pl

    number_format = number_format or PLAIN
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        values = _from_text(column, where, number_format)
    elif column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        values = column.cast(pl.Float64)
    else:
        raise DataError(
            f"{where}: column {quote(column.name)} holds {quote(str(column.dtype))[1:-1]}, expected"
            " numbers"
        )
    array = values.fill_null(math.nan).to_numpy().astype(np.float64)
    if np.isinf(array).any():
        row = int(np.isinf(array).argmax())
        raise DataError(
            f"{where}: row {row + 1}, column {quote(column.name)} is infinite; leave it empty if"
            " the value is missing"
        )
    return array


def read_number(
    row: Mapping[str, Any], column: str, where: str, number_format: NumberFormat | None = None
) -> float:
    """The number in a column of a row; NaN if it is missing. Raises `DataError` for other text and
    for a missing column.
    """
    if number_format is None and column in row:  # what most live rows hold, quickly
        value = row[column]
        if type(value) is str and USUAL_NUMBER(value):
            value = float(value)
        if type(value) is float and value - value == 0.0:  # neither NaN nor infinite
            return value
    if column not in row:
        names = quote(", ".join(map(str, row)))
        raise DataError(f"{where}: no column {quote(column)}; it has {names[1:-1]}")
    try:
        return parse_number(row[column], number_format)
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{where}, column {quote(column)}: {quote(row[column])} is not a finite number"
            f"{_expected(number_format)}; leave it empty if it is missing"
        ) from None


def number_text(value: float) -> str:
    """The shortest text that reads back as the same number, whole numbers without a point."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _from_text(column: pl.Series, where: str, number_format: NumberFormat) -> pl.Series:
    """Float64, null where the cell is missing."""
    import polars as pl

    if number_format == PLAIN and (values := plain_values(column)) is not None:
        return values
    text = column.str.strip_chars()
    missing = text.is_null() | text.str.to_lowercase().is_in(list(MISSING_WORDS))
    text = text.set(missing, None)
    values = (text if number_format == PLAIN else _plain_text(text, number_format)).cast(
        pl.Float64, strict=False
    )
    unread = (values.is_null() & ~missing).arg_true().to_list()
    read = {}
    for row in unread:  # the few that are written in another way: (12.5), 12.5-, 0 without a unit
        try:
            read[row] = number_format.parse(text[row])
        except ValueError:
            raise DataError(
                f"{where}: row {row + 1}, column {quote(column.name)}: {quote(column[row])} is not"
                f" a number{_expected(number_format)}; correct it, or leave it empty if it is"
                " missing"
            ) from None
    return values.scatter(list(read), list(read.values())) if read else values


def plain_values(text: pl.Series) -> pl.Series | None:
    """A column of text as Float64, null where the cell is missing; None where a cell is not as
    `float` reads it, has spaces around it, or is a word that marks a missing value.
    """
    import polars as pl

    values = text.cast(pl.Float64, strict=False)
    return values.fill_nan(None) if values.null_count() == text.null_count() else None


def _plain_text(text: pl.Series, number_format: NumberFormat) -> pl.Series:
    """Text that casts to Float64; null where it does not have the format."""
    import polars as pl

    if number_format.words:
        return text.str.to_lowercase().replace_strict(WORDS, default=None).cast(pl.String)
    text = text.str.replace_many(list(VARIANTS), list(VARIANTS.values()))
    if number_format.unit:
        has_unit = text.str.contains(number_format.unit, literal=True)
        text = text.str.replace(number_format.unit, "", literal=True)
        text = text.str.replace_all(" ", "", literal=True).set(~has_unit, None)
        if number_format.thousands == " ":
            number_format = NumberFormat(number_format.decimal)
    text = text.set(~text.str.contains(number_format.pattern), None)
    if number_format.thousands:
        text = text.str.replace_all(number_format.thousands, "", literal=True)
    return text.str.replace(number_format.decimal, ".", literal=True)


def _without_unit(text: str, unit: str) -> str:
    """The number of a cell such as 12.5 kWh, € 12, -€12 or (€ 12)."""
    before, _, after = text.partition(unit)
    return (before.rstrip() + after.lstrip()).strip()


def _expected(number_format: NumberFormat | None) -> str:
    """What the column's numbers look like, for a message; "" for plain numbers."""
    if number_format is None or number_format == PLAIN:
        return ""
    return f" of the column's format ({number_format})"
