"""Cells of a table: which of them are missing."""

from __future__ import annotations

from typing import Any

MISSING_WORDS = {"", "na", "n/a", "nan", "nat", "null", "nil", "none", "<na>", "-", "--", "?"}
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
