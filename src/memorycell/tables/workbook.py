"""Tables in workbooks: Excel (.xlsx, .xlsm, .xls) and OpenDocument (.ods)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memorycell.errors import DataError, UserError, quote
from memorycell.tables.text_lines import MAX_COLUMNS

if TYPE_CHECKING:
    import fastexcel
    import polars as pl

UNNAMED = "__UNNAMED__"
"""How fastexcel begins the names of columns without one."""


def read_workbook(path: Path, sheet: str | None, notes: list[str]) -> pl.DataFrame:
    """A sheet of a workbook, by default the first that is not empty. Cells keep their types.

    Raises `DataError`, and `UserError` where fastexcel is not installed.
    """
    import polars as pl

    try:
        import fastexcel
    except ModuleNotFoundError:
        raise UserError(
            f"reading {path.suffix} needs fastexcel: pip install 'memorycell[excel]'"
        ) from None
    with _without_log():
        try:
            book = fastexcel.read_excel(str(path))
            chosen = _chosen_sheet(book, path, sheet, notes)
            _check_names(book, chosen, path)
            frame = pl.read_excel(
                path, sheet_name=chosen, infer_schema_length=None, raise_if_empty=False
            )
        except fastexcel.FastExcelError as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: is not a readable workbook ({quote(reason)[1:-1]})") from None
    frame.columns = [_name(name) for name in frame.columns]
    return frame


def _chosen_sheet(
    book: fastexcel.ExcelReader, path: Path, sheet: str | None, notes: list[str]
) -> str:
    """The name of the sheet to read. Raises `DataError`."""
    names = list(book.sheet_names)
    filled = [name for name in names if book.load_sheet(name, header_row=None, n_rows=1).height]
    if sheet is not None and sheet not in names:
        raise DataError(f"{path}: no sheet {quote(sheet)}; it has {quote(', '.join(names))[1:-1]}")
    if not filled:
        raise DataError(f"{path}: all sheets are empty")
    if sheet is not None and sheet not in filled:
        raise DataError(f"{path}: sheet {quote(sheet)} is empty")
    if len(filled) > 1 and sheet is None:
        others = ", ".join(filled[1:])
        notes.append(f"sheet {quote(filled[0])} read; not {quote(others)} (--set sheet=NAME)")
    return sheet or filled[0]


def _check_names(book: fastexcel.ExcelReader, sheet: str, path: Path) -> None:
    """Raises `DataError` for too many columns, and where two have one name: fastexcel would rename
    the second.
    """
    first = book.load_sheet(sheet, header_row=None, n_rows=1).to_polars()
    if first.width > MAX_COLUMNS:
        raise DataError(f"{path}: {first.width:,} columns, more than {MAX_COLUMNS:,}")
    places: dict[str, int] = {}
    for place, cell in enumerate(first.row(0), 1):
        name = "" if cell is None else str(cell).strip()
        if name in places:
            raise DataError(
                f"{path}: columns {places[name]} and {place} are called {quote(name)}; rename one"
            )
        if name:
            places[name] = place


def _name(name: str) -> str:
    """The name of a column; that of one without a name says which it is."""
    if name.startswith(UNNAMED):
        return f"Unnamed: {name.removeprefix(UNNAMED)}"  # as pandas calls it
    return name.strip()


@contextmanager
def _without_log() -> Iterator[None]:
    """Without the lines that fastexcel and calamine log for empty columns and repeated cells."""
    loggers = [logging.getLogger(name) for name in ("fastexcel", "calamine")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
