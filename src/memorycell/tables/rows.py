"""Rows of a live table: JSON lines, or CSV lines under a header line."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from typing import Any

from memorycell.application.contract import Item
from memorycell.errors import DataError
from memorycell.tables.table import SEPARATORS


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
        """(row, its location for error messages); None for a header line. Raises `DataError`."""
        if isinstance(item, Mapping):
            return item, "row"
        text = item.decode() if isinstance(item, bytes) else item
        self._line += 1
        where = f"stdin, line {self._line}"
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
            return dict(json.loads(text))
        except ValueError:
            raise DataError(f"{where}: is not JSON") from None

    def _csv(self, text: str, where: str) -> dict[str, Any] | None:
        for separator in SEPARATORS:
            names = [cell.strip() for cell in next(csv.reader([text], delimiter=separator))]
            if set(self.needed) <= set(names):
                self.header, self._separator = names, separator
                return None
        cells = next(csv.reader([text], delimiter=self._separator))
        if self.header is None:
            columns = ", ".join(self.needed)
            raise DataError(
                f"stdin: a header line with the columns {columns} must come first (or JSON lines)"
            )
        if len(cells) != len(self.header):
            raise DataError(
                f"{where}: {len(cells)} values, but the header has {len(self.header)} columns"
            )
        return dict(zip(self.header, cells, strict=True))
