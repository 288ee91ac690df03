"""Cells of a table: which of them are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MISSING_WORDS = {
    *("", "na", "n/a", "nan", "nat", "null", "nil", "none", "<na>", "-", "--", "?"),
    *(r"\n", "#n/a", "."),  # of MySQL and PostgreSQL, of Excel, of SAS and Stata
}
"""Text that marks a missing value, in lower case."""


def is_missing(value: Any) -> bool:
    """True for None, NaN, `MISSING_WORDS`, and the NaT and NA of numpy and pandas."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING_WORDS
    if value is None or type(value).__name__ == "NAType":  # comparing pandas.NA gives pandas.NA
        return True
    try:
        return bool(value != value)  # NaN and NaT differ from themselves
    except (TypeError, ValueError):
        return False


def shown_cell(column: pl.Series, row: int) -> Any:
    """A cell, for a message; of a time that Python cannot hold its number."""
    try:
        return column[row]
    except (ValueError, OverflowError):
        return column.to_physical()[row]
