"""Data frames of any library in, the same kind of frame out (narwhals). Neither pandas nor pyarrow
is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from datetime import time as clock_time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from memorycell.errors import UserError, quote
from memorycell.face.frame_columns import error_line, object_series, to_series

if TYPE_CHECKING:
    import polars as pl

TIME_COLUMN = "time"
"""The column that an unnamed index of times becomes."""
ORIGIN_COLUMN = "origin"
"""The times that several forecasts were made at."""
TEXT_COLUMNS = ("text", "source")
MAX_LOOKED_AT = 1000
"""Rows in which times are looked for."""


def is_frame(data: object) -> bool:
    """Whether `data` is a data frame: polars, pandas, pyarrow or another that narwhals knows."""
    try:
        import narwhals.stable.v2 as nw
    except ModuleNotFoundError:
        return False
    return nw.dependencies.is_into_dataframe(data) or isinstance(data, nw.DataFrame)


def as_frame(data: Any) -> Any:
    """A series of pandas or polars, an Arrow array or a structured array as a frame, of one column
    "value" if it has no name; other data as they are. Raises `UserError` for a lazy frame.
    """
    try:
        import narwhals.stable.v2 as nw
        import polars as pl
    except ModuleNotFoundError:
        return data
    if nw.dependencies.is_polars_lazyframe(data) or isinstance(data, nw.LazyFrame):
        raise UserError("a lazy frame cannot be read; collect() it first")
    if is_frame(data):
        return data
    if nw.dependencies.is_into_series(data) and hasattr(data, "to_frame"):
        return data.rename("value").to_frame() if data.name in (None, "") else data.to_frame()
    if isinstance(data, np.ndarray) and data.dtype.names:
        columns = ((name, data[name]) for name in data.dtype.names)
        return pl.DataFrame(
            {n: c.astype("M8[us]") if c.dtype.kind == "M" else c for n, c in columns}
        )
    if isinstance(data, pl.Series) or not hasattr(data, "__array__"):
        is_arrow = hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")
        return _from_arrow(data) if is_arrow else data
    return _from_arrow(data) if type(data).__module__.startswith("pyarrow") else data


def _from_arrow(data: Any) -> Any:
    """Arrow data of any library, a batch or an array, as a frame: pyarrow's as its table."""
    import polars as pl

    try:
        found = pl.from_arrow(data)
        frame = found if isinstance(found, pl.DataFrame) else found.alias("value").to_frame()
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(f"Arrow data cannot be read ({error_line(error)})") from None
    return frame.to_arrow() if type(data).__module__.startswith("pyarrow") else frame


def to_polars(frame: Any) -> pl.DataFrame:
    """A data frame as polars. An index that says something (times, names) becomes a column.

    Raises `UserError` for a lazy frame, several index levels, two columns of one name, and a column
    of mixed types.
    """
    import narwhals.stable.v2 as nw
    import polars as pl

    if isinstance(frame, pl.DataFrame):
        return _checked(frame)
    if not is_frame(frame):
        raise UserError(f"{type(frame).__name__} is not a frame that can be read; collect it first")
    levels = getattr(frame.columns, "nlevels", 1)
    if levels > 1:
        raise UserError(
            f"the frame has columns of {levels} levels; join their names:"
            " frame.columns = ['_'.join(map(str, c)) for c in frame.columns]"
        )
    names = [str(name) for name in getattr(frame, "column_names", frame.columns)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the frame has two columns {quote(name)}; rename one of them")
    narwhal = nw.from_native(_index_to_column(frame), eager_only=True)
    columns = [to_series(narwhal.get_column(name), str(name)) for name in narwhal.columns]
    return _checked(pl.DataFrame(columns))


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    if not frame.width or not frame.height:
        raise UserError(f"the frame has no {'rows' if frame.width else 'columns'}")
    objects = [column for column in frame if column.dtype == pl.Object]
    return frame.with_columns(object_series(column.to_list(), column.name) for column in objects)


def has_times(frame: pl.DataFrame) -> bool:
    """Whether a column of a frame has times."""
    from memorycell.tables.time_formats import find_times

    if any(kind.is_temporal() for kind in frame.dtypes):
        return True
    return find_times(frame.head(MAX_LOOKED_AT), "the frame")[0] is not None


def text_column(frame: pl.DataFrame) -> list[str]:
    """The texts of a frame: of its column "text" or "source", or of its only column of strings.

    Raises `UserError`, also for a missing text.
    """
    import polars as pl

    names = [name for name, kind in frame.schema.items() if kind == pl.String]
    chosen = [name for name in names if name.lower() in TEXT_COLUMNS] or names
    if len(chosen) != 1:
        raise UserError(
            f"which column has the texts? there are {', '.join(map(quote, frame.columns))}; select"
            " one, or name it 'text'"
        )
    texts = frame[chosen[0]].to_list()
    for row, text in enumerate(texts, 1):
        if text is None or not text.strip():
            raise UserError(f"column {quote(chosen[0])}, row {row}: no text; leave the row out")
    return texts


def like(frame: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Columns as a data frame of the library of `frame`. ISO 8601 text in the columns "time" and
    "origin" becomes times where `frame` has times, in their zone, and dates where it has dates.
    """
    import narwhals.stable.v2 as nw
    import polars as pl

    kinds = to_polars(frame).dtypes
    times = [kind for kind in kinds if isinstance(kind, pl.Datetime)]
    columns = dict(columns)
    for name in (TIME_COLUMN, ORIGIN_COLUMN) if times or pl.Date in kinds else ():
        if columns.get(name):
            zone = times[0].time_zone if times else None
            columns[name] = _parsed_times(columns[name], zone, as_dates=not times)
    backend = nw.from_native(frame, eager_only=True).implementation
    return nw.from_dict(columns, backend=backend).to_native()


def _parsed_times(
    texts: Sequence[Any], zone: str | None, *, as_dates: bool = False
) -> Sequence[Any]:
    try:
        times = [datetime.fromisoformat(str(text)) for text in texts]
    except ValueError:  # numbered rows
        return texts
    if as_dates and all(time.time() == clock_time.min for time in times):
        return [time.date() for time in times]
    return times if zone is None else [time.astimezone(ZoneInfo(zone)) for time in times]


def _index_to_column(frame: Any) -> Any:
    import narwhals.stable.v2 as nw

    index = nw.maybe_get_index(nw.from_native(frame, pass_through=True))
    if index is None or type(index).__name__ == "RangeIndex":
        return frame
    if index.nlevels > 1:
        names = ", ".join(quote(name) for name in index.names)
        raise UserError(
            f"the frame has an index of {index.nlevels} levels ({names}); make them columns with"
            " reset_index()"
        )
    if type(index).__name__ == "PeriodIndex":  # the beginning of each period
        index = index.to_timestamp()
        frame = frame.set_axis(index)
    if index.name is None:
        if "datetime" not in str(index.dtype) and not _are_times(index):
            return frame  # row numbers left over from a selection
        index = index.rename(TIME_COLUMN)
        frame = frame.set_axis(index)
    if index.name in frame.columns:
        raise UserError(
            f"the index and a column are both named {quote(index.name)}; drop one of them, as with"
            " reset_index(drop=True)"
        )
    return frame.reset_index()


def _are_times(index: Any) -> bool:
    """Whether the labels of an index are texts with times."""
    import polars as pl

    labels = list(index[:MAX_LOOKED_AT])
    if not labels or not all(isinstance(label, str) for label in labels):
        return False
    return has_times(pl.DataFrame({TIME_COLUMN: labels}))
