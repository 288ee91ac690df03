"""Tables of many Parquet files, read in pieces: for data larger than memory."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from memorycell.errors import DataError, UserError, quote

if TYPE_CHECKING:
    import polars as pl

PIECE_ROWS = 1 << 17
"""Rows that are in memory at once, besides the row groups of the file that hold them."""


class Piece(NamedTuple):
    """Some rows of the table.

    first   the number of the first row in the table, from 0
    where   the file and its rows, for error messages
    """

    frame: pl.DataFrame
    first: int
    where: str


def parquet_files(data: str) -> list[Path] | None:
    """The files of a pattern such as "rows/*.parquet", or of a folder with its subfolders, in the
    order of their names; None where data are something else. Raises `DataError` where no file
    matches a pattern.
    """
    path = Path(data)
    try:
        if path.is_dir():
            return sorted(p for p in path.rglob("*.parquet") if p.is_file()) or None
        if path.exists() or not glob.has_magic(data) or not data.endswith(".parquet"):
            return None
    except (OSError, ValueError):  # a name that is too long or has a NUL
        return None
    found = sorted(p for p in map(Path, glob.glob(data, recursive=True)) if p.is_file())
    if not found:
        raise DataError(f"{data}: no file matches")
    return found


class ParquetTable:
    """The rows of several files, one file after another. Raises `DataError` for a file that cannot
    be read, or whose columns or their types are not those of the first.

    rows   of each file
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        try:
            import polars as pl
        except ModuleNotFoundError:
            raise UserError(
                "reading tables needs polars: pip install 'memorycell[forecast]'"
            ) from None
        self._errors = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
        self.paths, self.rows = list(paths), list[int]()
        first: dict[str, pl.DataType] | None = None
        for path in self.paths:
            try:
                schema = dict(pl.read_parquet_schema(path))
                height = pl.scan_parquet(path).select(pl.len()).collect().item()
            except self._errors as error:
                raise self._unreadable(path, error) from None
            self.rows.append(height)
            first = schema if first is None else first
            missing = [name for name in first if name not in schema]
            differing = [n for n in first if n not in missing and schema[n] != first[n]]
            if missing or differing:
                name = (missing or differing)[0]
                problem = "has no" if missing else f"has {schema[name]} in"
                raise DataError(
                    f"{path}: {problem} column {quote(name)}, unlike {self.paths[0]}; the files of"
                    " one table have the same columns"
                )
        assert first is not None
        self.columns = list(first)

    @property
    def height(self) -> int:
        """The rows of all files."""
        return sum(self.rows)

    def pieces(self, columns: Sequence[str], limit: int | None = None) -> Iterator[Piece]:
        """The columns of all rows, or of the first `limit`, at most `PIECE_ROWS` at once."""
        import polars as pl

        begin, left = 0, self.height if limit is None else limit
        for path, rows in zip(self.paths, self.rows, strict=True):
            for first in range(0, rows, PIECE_ROWS):
                size = min(PIECE_ROWS, rows - first, left)
                if size <= 0:
                    return
                try:
                    scan = pl.scan_parquet(path, low_memory=True).select(columns)
                    frame = scan.slice(first, size).collect()
                except self._errors as error:
                    raise self._unreadable(path, error) from None
                where = str(path)
                if first:
                    where += f", from row {first + 1:,}"
                yield Piece(frame, begin + first, where)
                left -= size
            begin += rows

    def _unreadable(self, path: Path, error: BaseException) -> DataError:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return DataError(
            f"{path}: is not a readable parquet table ({quote(reason[0].rstrip(':'))[1:-1]});"
            " write it again, or leave it out"
        )
