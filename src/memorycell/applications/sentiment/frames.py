"""Data frames in memory that should not be trained on as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memorycell.applications.sentiment.columns import find_columns
from memorycell.applications.sentiment.settings import SentimentSettings
from memorycell.errors import DataError, quote

if TYPE_CHECKING:
    import polars as pl


def check_frame(frame: pl.DataFrame, settings: SentimentSettings) -> None:
    """See `Application`: missing labels are refused, unless losses are accepted."""
    if settings.lossy:
        return
    name = find_columns(frame, "the frame", settings.text, settings.label).label
    column = frame[name]
    missing = column.is_null() | (column.is_nan() if column.dtype.is_float() else False)
    if missing.any():
        raise DataError(
            f"column {quote(name)}, row {int(missing.arg_true()[0]) + 1}: the label is missing"
            f" ({int(missing.sum()):,} of {len(column):,} rows); leave these rows out, or say"
            " lossy=True"
        )
