"""Data frames in memory that should not be forecast as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError, quote
from memorycell.tables.time_formats import find_times

if TYPE_CHECKING:
    import polars as pl

NUM_LOOKED_AT = 1000
"""Rows in which times are looked for."""
MAX_LISTED = 6


def check_frame(frame: pl.DataFrame, settings: ForecastSettings) -> None:
    """See `Application`: a frame whose times were lost, as by `reset_index(drop=True)`, is refused
    unless the settings say that its rows are one step apart.
    """
    if settings.time is not None or settings.every == "row":
        return
    if any(kind.is_temporal() for kind in frame.dtypes):
        return
    if find_times(frame.head(NUM_LOOKED_AT), "the frame")[0] is None:
        listed = ", ".join(map(quote, frame.columns[:MAX_LISTED]))
        more = ", …" if frame.width > MAX_LISTED else ""
        raise DataError(
            f"no column has times (row 1 to {frame.height:,}; there are {listed}{more}), and the"
            " index has none: set the index to the times, name their column with time=…, or say"
            " every='row' for rows one step apart"
        )
