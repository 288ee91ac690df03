"""Columns that number the rows of a table and say nothing about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

UNNAMED = re.compile(r"(Unnamed: \d+|index|level_0|__index_level_0__|)", re.IGNORECASE)
"""Names of the index of a data frame in a file."""
MIN_ROWS = 3


def unused_reason(column: pl.Series) -> str | None:
    """Why a column is no input unless the user names it: it numbers the rows. None for others."""
    numbers = _whole_numbers(column)
    if numbers is None or len(numbers) < MIN_ROWS:
        return None
    steps = np.diff(numbers)
    if (steps == 1).all():
        return "an unnamed index" if UNNAMED.fullmatch(column.name) else "a counter of the rows"
    restarts = numbers[1:][steps != 1]
    if UNNAMED.fullmatch(column.name) and (restarts == numbers[0]).all():
        return "an unnamed index"
    return None


def _whole_numbers(column: pl.Series) -> np.ndarray | None:
    """The column as [N] int64; None if it holds anything else."""
    import polars as pl

    if not (column.dtype == pl.String or column.dtype.is_numeric()) or column.dtype.is_decimal():
        return None
    head = column.head(MIN_ROWS).cast(pl.Float64, strict=False)
    if head.null_count() or (head.diff().drop_nulls() != 1).any():
        return None
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() or not (numbers == numbers.floor()).all():
        return None
    if not (numbers.abs() < 2**53).all():
        return None
    return numbers.cast(pl.Int64).to_numpy()
