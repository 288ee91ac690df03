"""Tables in files: CSV, TSV, Parquet, Arrow, JSON, workbooks.

Errors name the file, the row and the fix. Rows are counted from 1, without the header.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.errors import DataError, UserError, quote
from memorycell.tables.delimited import read_delimited
from memorycell.tables.json_tables import flattened, read_json_array, read_json_lines
from memorycell.tables.numbers import parse_number
from memorycell.tables.panics import without_panic_text
from memorycell.tables.times import parse_time_us

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "TABLE_SUFFIXES",
    "are_dates",
    "mean_std",
    "parse_number",
    "parse_time_us",
    "read_table",
]

TEXT_KINDS = ("csv", "tsv", "txt", "tab", "jsonl", "ndjson", "json")
WORKBOOK_KINDS = ("xlsx", "xlsm", "xls", "ods")
TYPED_KINDS = ("parquet", "feather", "arrow", "ipc", *WORKBOOK_KINDS)
TABLE_SUFFIXES = (
    *(f".{kind}" for kind in (*TEXT_KINDS, *TYPED_KINDS) if kind not in ("txt", "json", "ipc")),
    ".csv.gz",
    ".tsv.gz",
    ".jsonl.gz",
)
"""How the names of tables in a folder end."""
OTHER_KINDS = {
    "xlsb": "save it as .xlsx or .csv",
    "numbers": "export it as .xlsx or .csv",
    "zip": "unpack it",
    "7z": "unpack it",
    "bz2": "unpack it",
    "xz": "unpack it",
    "zst": "unpack it",
    "h5": "save it as .parquet",
    "hdf5": "save it as .parquet",
    "pkl": "save it as .parquet",
    "pickle": "save it as .parquet",
}
"""Kinds that are not read -> what to do."""
MAX_UNPACKED_BYTES = 4 << 30


def read_table(
    path: str | Path,
    *,
    encoding: str | None = None,
    sheet: str | None = None,
    notes: list[str] | None = None,
) -> pl.DataFrame:
    """The table in a file: .csv, .tsv, .txt, .jsonl, .ndjson or .json, also gzipped (.gz),
    .parquet, .feather, .arrow, .xlsx, .xls or .ods. Cells of CSV and TSV are text.

    encoding   of text; by default UTF-8, or UTF-16 with a byte order mark
    sheet      of a workbook; by default the first
    notes      what was left out is added, a line each

    Raises `DataError`.
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
    notes = [] if notes is None else notes
    try:
        if kind in TEXT_KINDS:
            frame = _read_text(path, kind, encoding, notes)
        elif kind in TYPED_KINDS:
            frame = _read_typed(path, kind, sheet, notes)
        else:
            fix = OTHER_KINDS.get(kind, "use .csv, .tsv, .parquet, .jsonl, .xlsx or .ods")
            raise DataError(f"{path}: .{kind[:20]} is not a table format that is read; {fix}")
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,  # of polars, for some damaged files
        OSError,
        EOFError,
        zlib.error,
    ) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{path}: is not a readable {kind} table ({quote(reason[0].rstrip(':'))[1:-1]})"
        ) from None
    frame = _without_empty_end(flattened(frame, str(path)), notes)
    if frame.height == 0:
        raise DataError(f"{path}: has a header but no rows")
    return frame


def _read_text(path: Path, kind: str, encoding: str | None, notes: list[str]) -> pl.DataFrame:
    data, where = _bytes(path), str(path)
    if kind == "json":
        return read_json_array(data, where, encoding)
    if kind in ("jsonl", "ndjson"):
        return read_json_lines(data, where, encoding)
    return read_delimited(data, where, tabs=kind in ("tsv", "tab"), encoding=encoding, notes=notes)


def _bytes(path: Path) -> bytes:
    if not path.name.lower().endswith(".gz"):
        return path.read_bytes()
    with gzip.open(path, "rb") as file:
        data = file.read(MAX_UNPACKED_BYTES + 1)
    if len(data) > MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
    return data


def _read_typed(path: Path, kind: str, sheet: str | None, notes: list[str]) -> pl.DataFrame:
    import polars as pl

    if path.name.lower().endswith(".gz"):
        raise DataError(f"{path}: a gzipped .{kind} is not read; unpack it")
    if kind in WORKBOOK_KINDS:
        from memorycell.tables.workbook import read_workbook

        return read_workbook(path, sheet, notes)
    with without_panic_text(pl.exceptions.PanicException):
        if kind == "parquet":
            return pl.read_parquet(path)
        try:
            return pl.read_ipc(path)
        except pl.exceptions.PolarsError:
            return pl.read_ipc_stream(path)


def _without_empty_end(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The frame without rows at its end in which all cells are empty."""
    import polars as pl

    if frame.height == 0 or frame.width < 2:
        return frame
    # Counted by polars: Python has no time beyond the year 9999, which a cell may hold.
    if frame.tail(1).null_count().sum_horizontal().item() < frame.width:
        return frame
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    height = int(np.flatnonzero(filled.to_numpy())[-1]) + 1 if filled.any() else 0
    notes.append(f"{frame.height - height:,} empty rows at the end left out")
    return frame.head(height)


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
