"""Data frames of any library in, the same kind of frame out (narwhals). Neither pandas nor pyarrow
is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from memorycell.errors import UserError, quote

if TYPE_CHECKING:
    import polars as pl

TIME_COLUMN = "time"
"""The column that an unnamed index of times becomes."""
ORIGIN_COLUMN = "origin"
"""The times that several forecasts were made at."""
TEXT_COLUMNS = ("text", "source")


def is_frame(data: object) -> bool:
    """Whether `data` is a data frame: polars, pandas, pyarrow or another that narwhals knows."""
    try:
        import narwhals.stable.v2 as nw
    except ModuleNotFoundError:
        return False
    return nw.dependencies.is_into_dataframe(data) or isinstance(data, nw.DataFrame)


def as_frame(data: Any) -> Any:
    """A series of pandas or polars as a frame of one column, "value" if it has no name; other data
    as they are. Raises `UserError` for a lazy frame.
    """
    try:
        import narwhals.stable.v2 as nw
    except ModuleNotFoundError:
        return data
    if nw.dependencies.is_into_series(data):
        return data.rename("value").to_frame() if data.name in (None, "") else data.to_frame()
    if nw.dependencies.is_polars_lazyframe(data) or isinstance(data, nw.LazyFrame):
        raise UserError("a lazy frame cannot be read; collect() it first")
    return data


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
    return _checked(pl.DataFrame([_column(narwhal[name], str(name)) for name in narwhal.columns]))


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    if not frame.width or not frame.height:
        raise UserError(f"the frame has no {'rows' if frame.width else 'columns'}")
    return frame


def has_times(frame: pl.DataFrame) -> bool:
    """Whether a column of a frame has times."""
    from memorycell.tables.time_formats import find_times

    if any(kind.is_temporal() for kind in frame.dtypes):
        return True
    return find_times(frame.head(1000), "the frame")[0] is not None


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
    "origin" becomes times where `frame` has times, in their zone.
    """
    import narwhals.stable.v2 as nw
    import polars as pl

    times = [kind for kind in to_polars(frame).dtypes if isinstance(kind, pl.Datetime)]
    columns = dict(columns)
    for name in (TIME_COLUMN, ORIGIN_COLUMN) if times else ():
        if columns.get(name):
            columns[name] = _parsed_times(columns[name], times[0].time_zone)
    backend = nw.from_native(frame, eager_only=True).implementation
    return nw.from_dict(columns, backend=backend).to_native()


def _parsed_times(texts: Sequence[Any], zone: str | None) -> Sequence[Any]:
    try:
        times = [datetime.fromisoformat(str(text)) for text in texts]
    except ValueError:  # numbered rows
        return texts
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
    if index.name is None:
        if "datetime" not in str(index.dtype):
            return frame  # row numbers left over from a selection
        index = index.rename(TIME_COLUMN)
        frame = frame.set_axis(index)
    if index.name in frame.columns:
        raise UserError(
            f"the index and a column are both named {quote(index.name)}; drop one of them, as with"
            " reset_index(drop=True)"
        )
    return frame.reset_index()


def _column(series: Any, name: str) -> pl.Series:
    """A narwhals series as polars, types unchanged. Raises `UserError` for mixed types."""
    import narwhals.stable.v2 as nw
    import polars as pl

    if series.dtype == nw.Categorical or series.dtype == nw.Enum:
        return pl.Series(name, [None if _is_null(v) else str(v) for v in series.to_list()])
    if series.dtype == nw.Object:
        return _object_column(series.to_list(), name)
    try:
        return series.to_polars().alias(name)
    except (ModuleNotFoundError, TypeError, ValueError):  # pandas without pyarrow
        return _object_column(series.to_list(), name)


def _object_column(values: Sequence[Any], name: str) -> pl.Series:
    import polars as pl

    values = [None if _is_null(value) else value for value in values]
    kinds: dict[type, int] = {}
    for row, value in enumerate(values):
        if value is not None:
            kinds.setdefault(_kind(value), row)
    if len(kinds) > 1:
        first, second = list(kinds.items())[:2]
        raise UserError(
            f"column {quote(name)} holds {first[0].__name__} (row {first[1] + 1}) and"
            f" {second[0].__name__} (row {second[1] + 1}); give it one type"
        )
    try:
        return pl.Series(name, values)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(f"column {quote(name)} cannot be read ({_line(error)})") from None


def _kind(value: Any) -> type:
    for kind in (bool, str, datetime, date):
        if isinstance(value, kind):
            return kind
    return float if hasattr(value, "__float__") else type(value)


def _is_null(value: Any) -> bool:
    """None, NaN, NaT and pandas' NA: the values that do not equal themselves."""
    if value is None:
        return True
    equal = value == value
    return (not isinstance(equal, bool) and "NA" in type(value).__name__) or equal is False


def _line(error: Exception) -> str:
    return quote((str(error) or type(error).__name__).strip().splitlines()[0])
