"""Rows of a live table: JSON lines, or CSV lines under a header line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from memorycell.application.contract import Item
from memorycell.errors import DataError, counted, quote
from memorycell.tables.json_tables import flattened_row, parse_row
from memorycell.tables.text_lines import SEPARATORS


class RowReader:
    """Reads the items of a session as rows, column -> cell.

    needed   columns that a header line contains
    header   the columns of CSV lines; None before the header line
    """

    def __init__(self, needed: Sequence[str]) -> None:
        self.needed = needed
        self.header: list[str] | None = None
        self._separator = ","
        self._line = 0

    def read(self, item: Item) -> tuple[Mapping[str, Any], str] | None:
        """(row, its location for error messages); None for a header line and a blank one. Raises
        `DataError`.
        """
        if isinstance(item, Mapping):
            return flattened_row(item), "row"
        self._line += 1
        where = f"stdin, line {self._line}"
        try:
            text = item.decode() if isinstance(item, bytes) else item
        except UnicodeDecodeError:
            raise DataError(f"{where}: not UTF-8 text") from None
        if not isinstance(text, str):
            raise DataError(f"{where}: expected a row or a line of text, got {quote(text)}")
        text = text.removeprefix("\ufeff").strip("\r\n")
        if not text.strip():
            return None
        row = self._json(text, where) if text.lstrip().startswith("{") else self._csv(text, where)
        return None if row is None else (row, where)

    def snapshot(self) -> dict[str, Any]:
        """JSON values for `restore`."""
        return {"header": self.header, "separator": self._separator}

    def restore(self, data: object) -> None:
        """Continue from a snapshot; anything else is ignored."""
        saved = data if isinstance(data, dict) else {}
        header, separator = saved.get("header"), saved.get("separator")
        self.header = [str(name) for name in header] if isinstance(header, list) else None
        self._separator = (
            separator
            if self.header and isinstance(separator, str) and separator in SEPARATORS
            else ","
        )

    def _json(self, text: str, where: str) -> dict[str, Any]:
        try:
            return parse_row(text)
        except ValueError as error:
            raise DataError(
                f"{where}: {error} (one object a line; a missing value: null)"
            ) from None

    def _csv(self, text: str, where: str) -> dict[str, Any] | None:
        """A row; None for a header line."""
        cells, problem = _cells(text, self._separator)
        is_header = set(self.needed) <= {cell.strip() for cell in cells}
        if self.header is not None and len(cells) == len(self.header) and not is_header:
            return dict(zip(self.header, cells, strict=True))
        if self._read_header(text, where):
            return None
        if self.header is None:
            columns = ", ".join(self.needed)
            raise DataError(
                f"stdin: a header line with the columns {columns} must come first (or JSON lines)"
            )
        problem = problem or (
            f"{counted(len(cells), 'values')}, but the header has"
            f" {counted(len(self.header), 'columns')}"
        )
        raise DataError(f"{where}: {problem}")

    def _read_header(self, text: str, where: str) -> bool:
        """Whether a line is a header. Raises `DataError` where it names a column twice."""
        for separator in SEPARATORS:
            names = [cell.strip() for cell in _cells(text, separator)[0]]
            if set(self.needed) <= set(names):
                for name, count in Counter(names).items():
                    if name and count > 1:
                        raise DataError(f"{where}: {count} columns {quote(name)}; rename one")
                self.header, self._separator = names, separator
                return True
        return False


def _cells(text: str, separator: str) -> tuple[list[str], str]:
    """(cells of a line of CSV, what is wrong with it or "")."""
    try:
        return next(csv.reader([text], delimiter=separator, strict=True)), ""
    except csv.Error as error:
        if separator == "\t":  # in which quotation marks need not mean anything
            return text.split(separator), ""
        return [], f"not a line of CSV ({_REASONS.get(str(error), error)})"


_REASONS = {
    "unexpected end of data": "a quotation mark is not closed",
    "new-line character seen in unquoted field - do you need to open the file with newline=''?": (
        "a carriage return inside the line; end lines with a newline"
    ),
}
"""Of csv's messages in terms of a line."""
