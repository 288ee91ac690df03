"""Columns of text as times of one pattern."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def bare_pattern(pattern: str) -> str:
    """A pattern without the zone, which is read separately."""
    return pattern.replace("%z", "").replace("%Z", "").strip()


def strptime(text: pl.Series, pattern: str | None) -> pl.Series:
    """Int64 microseconds, null where the text has another pattern."""
    import polars as pl

    if pattern is None:
        text = text.str.replace("T", " ", literal=True)
        patterns = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d"]
    else:
        text, complete = _completed(text, bare_pattern(pattern))
        patterns = [complete.replace(".%f", "%.f")]
    values = pl.Series([None] * len(text), dtype=pl.Int64)
    for candidate in patterns:
        try:
            found = text.str.to_datetime(candidate, strict=False, time_unit="us")
        except pl.exceptions.PolarsError:  # a directive that it does not know
            continue
        values = values.fill_null(found.dt.epoch("us"))
        if values.null_count() == text.null_count():
            break
    return values


def _completed(text: pl.Series, pattern: str) -> tuple[pl.Series, str]:
    """Texts and their pattern with the day, month and minute that polars needs."""
    if not re.search("%[dj]", pattern):
        text, pattern = "01 " + text, f"%d {pattern}"
    if not re.search("%[mbBj]", pattern):
        text, pattern = "01 " + text, f"%m {pattern}"
    if pattern.endswith("%H"):
        text, pattern = text + ":00", f"{pattern}:%M"
    return text, pattern
