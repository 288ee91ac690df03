"""Tables in files: CSV, TSV, Parquet, JSON lines. Errors name the file, the row and the fix.

Rows are counted from 1, without the header. `read_*` raise `DataError` with the place, `parse_*`
raise ValueError.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.errors import DataError, UserError

if TYPE_CHECKING:
    import polars as pl

MISSING_WORDS = {"", "na", "n/a", "nan", "null", "nil", "none", "-", "--", "?"}
"""Text that marks a missing value, in lower case."""
SEPARATORS = ",;\t|"
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
"""Tried after ISO 8601. Formats in which day and month are ambiguous need `time_format`."""
MIN_MILLISECONDS = 1e11
"""Numeric times from here on are milliseconds since 1970, below it seconds."""


def read_table(path: str | Path) -> pl.DataFrame:
    """The table in a .csv, .tsv, .txt, .parquet, .jsonl or .ndjson file; text files may be gzipped
    (.gz). CSV values are read as text. Raises `DataError`.
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
        raise DataError(f"{path}: is empty; expected a table with a header line")
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
                f"{path}: .{kind} is not a table format; use .csv, .tsv, .parquet or .jsonl"
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(":")
        raise DataError(f"{path}: is not a readable {kind} table ({reason})") from None
    if frame.height == 0:
        raise DataError(f"{path}: has a header but no rows")
    return frame


def is_missing(value: Any) -> bool:
    """True for None, NaN and `MISSING_WORDS`."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING_WORDS
    return value is None or (isinstance(value, float) and math.isnan(value))


def parse_number(value: Any) -> float:
    """A cell as float64; NaN if missing. Raises ValueError for other text and for infinity."""
    if is_missing(value):
        return math.nan
    result = float(value)
    if math.isinf(result):
        raise ValueError("is infinite")
    return result


def parse_time_us(value: Any, time_format: str | None = None) -> int:
    """A time in microseconds since 1970. Raises ValueError.

    Text is ISO 8601, a year, one of `DATE_FORMATS`, or `time_format`; numbers are seconds, or
    milliseconds from `MIN_MILLISECONDS`.
    """
    if isinstance(value, datetime):
        return _epoch_us(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(float(value) * (1e3 if abs(value) >= MIN_MILLISECONDS else 1e6))
    if not isinstance(value, str):
        raise ValueError("not a time")
    text = value.strip()
    if time_format:
        return _epoch_us(datetime.strptime(text, time_format))
    if text.isdigit() and len(text) not in (4, 8):  # neither a year nor 20260131: a number
        return parse_time_us(float(text))
    if text.isdigit() and len(text) == 4:
        return _epoch_us(datetime(int(text), 1, 1))
    try:
        return _epoch_us(datetime.fromisoformat(text))
    except ValueError:
        pass
    for date_format in DATE_FORMATS:
        try:
            return _epoch_us(datetime.strptime(text, date_format))
        except ValueError:
            continue
    return parse_time_us(float(text))


def read_numbers(column: pl.Series, where: str) -> np.ndarray:
    """A column as [N] float64, NaN where it is missing. `where` names the file in errors."""
    import polars as pl

    if column.dtype == pl.String:
        text = column.str.strip_chars()
        missing = text.is_null() | text.str.to_lowercase().is_in(list(MISSING_WORDS))
        values = text.cast(pl.Float64, strict=False)
        wrong = (values.is_null() & ~missing).arg_true()
        values = values.set(missing, None)
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        values = column.cast(pl.Float64)
        wrong = pl.Series([], dtype=pl.UInt32)
    else:
        raise DataError(f"{where}: column {column.name!r} holds {column.dtype}, expected numbers")
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}: row {row + 1}, column {column.name!r}: {column[row]!r} is not a number;"
            " correct it, or leave it empty if it is missing"
        )
    array = values.fill_null(math.nan).to_numpy().astype(np.float64)
    if np.isinf(array).any():
        row = int(np.isinf(array).argmax())
        raise DataError(
            f"{where}: row {row + 1}, column {column.name!r} is infinite; leave it empty if the"
            " value is missing"
        )
    return array


def read_times(column: pl.Series, where: str, time_format: str | None = None) -> np.ndarray:
    """A column as [N] int64, microseconds since 1970 (UTC if it has a time zone)."""
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
            result[row] = parse_time_us(value, time_format)
        except ValueError:
            problem = "the time is missing" if is_missing(value) else f"{value!r} is not a time"
            raise DataError(
                f"{where}: row {row + 1}, column {column.name!r}: {problem}; write 2026-01-31"
                " 13:45:00, or give the format, as in --set time_format=%d/%m/%Y"
            ) from None
    return result


def read_number(row: Mapping[str, Any], column: str, where: str) -> float:
    """The number in a column of a row; NaN if it is missing. Raises `DataError` for other text and
    for a missing column.
    """
    if column not in row:
        raise DataError(f"{where}: no column {column!r}; it has {', '.join(map(repr, row))}")
    try:
        return parse_number(row[column])
    except (TypeError, ValueError):
        raise DataError(
            f"{where}, column {column!r}: {row[column]!r} is not a finite number; leave it empty if"
            " it is missing"
        ) from None


def read_time(row: Mapping[str, Any], column: str, time_format: str | None, where: str) -> int:
    """The time in a column of a row, in microseconds since 1970. Raises `DataError`."""
    value = row.get(column)
    if is_missing(value):
        raise DataError(f"{where}: the time (column {column!r}) is missing")
    try:
        return parse_time_us(value, time_format)
    except (TypeError, ValueError):
        raise DataError(f"{where}, column {column!r}: {value!r} is not a time") from None


def mean_std(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [K] of the known values of each column of [N, K]; zeros for a
    column without any.
    """
    known = [column[~np.isnan(column)] for column in values.T]
    return np.array([k.mean() if len(k) else 0.0 for k in known]), np.array(
        [k.std() if len(k) else 0.0 for k in known]
    )


def are_dates(values: Iterable[Any]) -> bool:
    """Whether there are values and all are written as dates; a bare number is not a date."""
    any_value = False
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
            parse_time_us(value)
        except ValueError:
            return False
        any_value = True
    return any_value


def _epoch_us(time: datetime) -> int:
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    delta = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _separator(path: Path, kind: str) -> str:
    """The most frequent separator of the header line; a comma for a single column."""
    if kind == "tsv":
        return "\t"
    with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as file:
        header = file.readline(1 << 20).decode("utf-8", "replace")
    return max(SEPARATORS, key=header.count) if any(s in header for s in SEPARATORS) else ","
