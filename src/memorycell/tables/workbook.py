"""Tables in workbooks (.xlsx)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memorycell.errors import DataError, UserError, quote

if TYPE_CHECKING:
    import polars as pl


def read_workbook(path: Path, sheet: str | None, notes: list[str]) -> pl.DataFrame:
    """A sheet of a workbook, by default the first that is not empty. Cells keep their types.

    Raises `DataError`, and `UserError` where fastexcel is not installed.
    """
    import polars as pl

    try:
        import fastexcel
    except ModuleNotFoundError:
        raise UserError("reading .xlsx needs fastexcel: pip install 'memorycell[excel]'") from None
    try:
        book = fastexcel.read_excel(str(path))
        names = list(book.sheet_names)
        filled = [name for name in names if book.load_sheet(name, header_row=None).height > 0]
    except fastexcel.FastExcelError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is not a readable workbook ({quote(reason)[1:-1]})") from None
    if sheet is not None and sheet not in names:
        raise DataError(f"{path}: no sheet {quote(sheet)}; it has {quote(', '.join(names))[1:-1]}")
    if not filled:
        raise DataError(f"{path}: all sheets are empty")
    chosen = sheet or filled[0]
    if len(filled) > 1 and sheet is None:
        others = ", ".join(filled[1:])
        notes.append(f"sheet {quote(chosen)} read; not {quote(others)} (--set sheet=NAME)")
    frame = pl.read_excel(path, sheet_name=chosen, infer_schema_length=None, raise_if_empty=False)
    if frame.width == 0:
        raise DataError(f"{path}: sheet {quote(chosen)} is empty")
    frame.columns = [name.strip() for name in frame.columns]
    return frame
