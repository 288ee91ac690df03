"""Columns of text that were read, in place of the text: reading a long table again takes time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from memorycell.tables.times import TimeColumns
from memorycell.tables.zones import MAX_TIME_US, MIN_TIME_US

if TYPE_CHECKING:
    import polars as pl


def is_text(column: pl.Series) -> bool:
    """Whether the cells are text, also of categories."""
    import polars as pl

    return column.dtype in (pl.String, pl.Categorical, pl.Enum)


def with_numbers(frame: pl.DataFrame, numbers: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """The table with numbers [N] in place of the text of columns."""
    import polars as pl

    return frame.with_columns(pl.Series(c, own) for c, own in numbers.items() if is_text(frame[c]))


def with_times(frame: pl.DataFrame, times: TimeColumns, where: str) -> pl.DataFrame:
    """The table with the times of a column of text in its place; as it is where they are in several
    columns, or some have an offset. Raises `DataError` that names the row.
    """
    import polars as pl

    name = times.columns[0]
    if len(times.columns) > 1 or not is_text(frame[name]):
        return frame
    read, aware = times.read_column(frame[name], where)
    if aware.any() or ((read < MIN_TIME_US) | (read > MAX_TIME_US)).any():
        return frame
    return frame.with_columns(pl.Series(name, read).cast(pl.Datetime("us")))
