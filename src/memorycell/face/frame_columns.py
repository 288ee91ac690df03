"""Columns of data frames of any library as polars series."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from typing import TYPE_CHECKING, Any

from memorycell.errors import UserError, quote

if TYPE_CHECKING:
    import polars as pl


def to_series(series: Any, name: str) -> pl.Series:
    """A narwhals series as polars, types unchanged; times with an offset instead of the name of a
    zone become UTC, periods the times at which they begin. Raises `UserError` for mixed types.
    """
    import narwhals.stable.v2 as nw
    import polars as pl

    if series.dtype == nw.Categorical or series.dtype == nw.Enum:
        return pl.Series(name, [None if _is_null(v) else str(v) for v in series.to_list()])
    if series.dtype == nw.Object or series.dtype == nw.Unknown:  # periods, complex numbers
        return object_series(series.to_list(), name)
    if isinstance(series.dtype, nw.Datetime) and _is_offset(series.dtype.time_zone):
        series = series.dt.convert_time_zone("UTC")
    try:
        return series.to_polars().alias(name)
    except Exception:  # pandas without pyarrow, and types that pyarrow or polars do not have
        return object_series(series.to_list(), name)


def object_series(values: Sequence[Any], name: str) -> pl.Series:
    """Values of one type, None or NaN where missing. Raises `UserError`."""
    import polars as pl

    values = [None if _is_null(value) else value for value in values]
    kinds: dict[type, int] = {}
    for row, value in enumerate(values):
        if value is not None:
            kinds.setdefault(_kind(value), row)
    if len(kinds) > 1:
        first, second = list(kinds.items())[:2]
        raise UserError(
            f"column {quote(name)} holds {_described(first[0])} (row {first[1] + 1}) and"
            f" {_described(second[0])} (row {second[1] + 1}); give it one type"
        )
    kind, row = next(iter(kinds.items()), (float, 0))
    if kind.__name__ == "Period":
        values = [None if value is None else value.to_timestamp() for value in values]
    elif kind not in KINDS:
        raise UserError(
            f"column {quote(name)} holds {kind.__name__} (row {row + 1}), which cannot be read;"
            " give numbers, words or times, or leave the column out"
        )
    try:
        return pl.Series(name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        if kind is float:  # whole numbers and others
            return pl.Series(name, [None if v is None else float(v) for v in values], pl.Float64)
        raise UserError(f"column {quote(name)} cannot be read ({error_line(error)})") from None


KINDS = (bool, str, datetime, date, clock_time, timedelta, float, bytes, list, tuple, dict)
"""Types of values that a column may hold; float stands for every number."""


def _described(kind: type) -> str:
    return {float: "a number", str: "text"}.get(kind, kind.__name__)


def _kind(value: Any) -> type:
    for kind in KINDS:
        if isinstance(value, kind):
            return kind
    return float if hasattr(value, "__float__") else type(value)


def _is_offset(zone: str | None) -> bool:
    """Whether a zone is an offset such as +05:30 or UTC+05:30, which polars does not read."""
    return zone is not None and zone.removeprefix("UTC")[:1] in ("+", "-")


def _is_null(value: Any) -> bool:
    """None, NaN, NaT and pandas' NA: the values that do not equal themselves."""
    if value is None:
        return True
    equal = value == value
    return (not isinstance(equal, bool) and "NA" in type(value).__name__) or equal is False


def error_line(error: Exception) -> str:
    """The first line of a message, quoted."""
    return quote((str(error) or type(error).__name__).strip().splitlines()[0])
