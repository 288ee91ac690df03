"""Tables that people have: CSV, TSV, Parquet, JSON lines. Every complaint names the file, the row
and the mend.

Rows are counted from 1, the header not included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.errors import DataError, UserError

if TYPE_CHECKING:
    import polars as pl

MISSING = {"", "na", "n/a", "nan", "null", "nil", "none", "-", "--", "?"}
"""What people write where a value is missing (compared in lower case)."""

DATE_FORMATS = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%Y-%m",
    "%Y/%m",
)
"""Tried after ISO 8601. Forms in which day and month could be mistaken for each other are left to
`time_format`.
"""


def read_table(path: str | Path) -> pl.DataFrame:
    """The table in a .csv, .tsv, .txt, .parquet, .jsonl or .ndjson file (.gz where text). CSV
    values arrive as text.
    """
    try:
        import polars as pl
    except ModuleNotFoundError:
        raise UserError("reading tables needs polars: pip install 'memorycell[forecast]'") from None
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a table in it (.csv, .tsv, .parquet, .jsonl)")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty; a table with a header line was expected")
    kind = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    try:
        if kind == "parquet":
            frame = pl.read_parquet(path)
        elif kind in ("jsonl", "ndjson"):
            frame = pl.read_ndjson(path, infer_schema_length=None)
        elif kind in ("csv", "tsv", "txt"):
            frame = pl.read_csv(path, separator=_separator(path, kind), infer_schema=False)
        else:
            raise DataError(
                f"{path}: the ending .{kind} is not a table's; use .csv, .tsv, .parquet or .jsonl"
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        why = str(error).strip().splitlines()[0].rstrip(":")
        raise DataError(f"{path}: is not a readable {kind} table ({why})") from None
    if frame.height == 0:
        raise DataError(f"{path}: has a header but no rows")
    return frame


def is_missing(value: Any) -> bool:
    """True for None, NaN and the words in `MISSING`."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: Any) -> float:
    """A cell as float64; NaN where it is missing. Raises ValueError for text and for infinite
    values.
    """
    if is_missing(value):
        return math.nan
    result = float(value)
    if math.isinf(result):
        raise ValueError("is infinite")
    return result


def numbers(column: pl.Series, where: str) -> np.ndarray:
    """A column as [N] float64 with NaN where it is missing. `where` names the file in complaints."""
    import polars as pl

    if column.dtype == pl.String:
        text = column.str.strip_chars()
        known = text.is_null() | text.str.to_lowercase().is_in(list(MISSING))
        values = text.cast(pl.Float64, strict=False)
        wrong = (values.is_null() & ~known).arg_true()
        values = values.set(known, None)
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        values = column.cast(pl.Float64)
        wrong = pl.Series([], dtype=pl.UInt32)
    else:
        raise DataError(
            f"{where}: column {column.name!r} holds {column.dtype}, numbers were expected"
        )
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}: row {row + 1}, column {column.name!r}: {column[row]!r} is not a number; "
            "mend it, or leave it empty if it is missing"
        )
    array = values.fill_null(math.nan).to_numpy().astype(np.float64)
    if np.isinf(array).any():
        row = int(np.isinf(array).argmax())
        raise DataError(
            f"{where}: row {row + 1}, column {column.name!r} is infinite; leave it empty if the"
            " value is missing"
        )
    return array


def times(column: pl.Series, where: str, time_format: str | None = None) -> np.ndarray:
    """A column of times as [N] int64, microseconds since 1970 (UTC where a zone is given)."""
    import polars as pl

    if column.dtype.is_temporal():
        column = column.cast(pl.Datetime("us"))
        if column.null_count():
            row = int(column.is_null().arg_true()[0])
            raise DataError(f"{where}: row {row + 1}, column {column.name!r}: the time is missing")
        return column.dt.epoch("us").to_numpy().astype(np.int64)
    result = np.empty(len(column), np.int64)
    for row, value in enumerate(column):
        try:
            result[row] = time_us(value, time_format)
        except ValueError:
            what = "the time is missing" if is_missing(value) else f"{value!r} is not a time"
            raise DataError(
                f"{where}: row {row + 1}, column {column.name!r}: {what}; write 2026-01-31"
                " 13:45:00, or give the form, as in --set time_format=%d/%m/%Y"
            ) from None
    return result


def time_us(value: Any, time_format: str | None = None) -> int:
    """A time as microseconds since 1970. Text: ISO 8601, a year, a form of `DATE_FORMATS`, or
    `time_format`; numbers: seconds, or milliseconds from 10¹¹ on. Raises ValueError.
    """
    if isinstance(value, datetime):
        return _epoch_us(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(float(value) * (1e3 if abs(value) >= 1e11 else 1e6))
    if not isinstance(value, str):
        raise ValueError("not a time")
    text = value.strip()
    if time_format:
        return _epoch_us(datetime.strptime(text, time_format))
    if text.isdigit() and len(text) not in (4, 8):  # not a year, not 20260131: a number
        return time_us(float(text))
    if text.isdigit() and len(text) == 4:
        return _epoch_us(datetime(int(text), 1, 1))
    try:
        return _epoch_us(datetime.fromisoformat(text))
    except ValueError:
        pass
    for form in DATE_FORMATS:
        try:
            return _epoch_us(datetime.strptime(text, form))
        except ValueError:
            continue
    return time_us(float(text))


def number_in(row: Mapping[str, Any], column: str, where: str) -> float:
    """A row's number in a column; NaN where it is missing. Raises `DataError` for text, and where
    there is no such column.
    """
    if column not in row:
        raise DataError(f"{where}: no column {column!r}; it has {', '.join(map(repr, row))}")
    try:
        return number(row[column])
    except (TypeError, ValueError):
        raise DataError(
            f"{where}, column {column!r}: {row[column]!r} is not a finite number; leave it empty if"
            " it is missing"
        ) from None


def time_in(row: Mapping[str, Any], column: str, time_format: str | None, where: str) -> int:
    """A row's time in microseconds since 1970. Raises `DataError` for what is none."""
    value = row.get(column)
    if is_missing(value):
        raise DataError(f"{where}: the time (column {column!r}) is missing")
    try:
        return time_us(value, time_format)
    except (TypeError, ValueError):
        raise DataError(f"{where}, column {column!r}: {value!r} is not a time") from None


def mean_and_deviation(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column's known values; zeros where it has none."""
    known = [column[~np.isnan(column)] for column in values.T]
    return np.array([k.mean() if len(k) else 0.0 for k in known]), np.array(
        [k.std() if len(k) else 0.0 for k in known]
    )


def looks_like_time(values: Iterable[Any]) -> bool:
    """True when every one of the values is written as a date (a bare number is not)."""
    seen = False
    for value in values:
        if not isinstance(value, datetime) and (
            not isinstance(value, str) or value.strip().isdigit()
        ):
            return False
        try:
            if not isinstance(value, datetime):
                float(value)
                return False
        except ValueError:
            pass
        try:
            time_us(value)
        except ValueError:
            return False
        seen = True
    return seen


def _epoch_us(moment: datetime) -> int:
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _separator(path: Path, kind: str) -> str:
    """The separator the header line uses most; a header without any has one column."""
    if kind == "tsv":
        return "\t"
    import gzip

    with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as file:
        header = file.readline(1 << 20).decode("utf-8", "replace")
    return max(",;\t|", key=header.count) if any(s in header for s in ",;\t|") else ","
