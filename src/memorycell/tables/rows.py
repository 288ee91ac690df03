"""Rows of a table as lines of text: JSON, or CSV under a header line."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any

from memorycell.errors import DataError

SEPARATORS = ",;\t|"


class RowLines:
    """Reads lines; `header` is the columns of the CSV lines, once their header has come.

    needed   columns that make a line a header
    """

    def __init__(self, needed: Sequence[str]) -> None:
        self.needed = needed
        self.header: list[str] | None = None
        self._separator = ","

    def keep(self) -> dict[str, Any]:
        """JSON values to be taken up again."""
        return {"header": self.header, "separator": self._separator}

    def take_up(self, kept: Any) -> None:
        """What `keep` gave; anything else is taken for nothing."""
        header = kept.get("header") if isinstance(kept, dict) else None
        self.header = [str(name) for name in header] if isinstance(header, list) else None
        self._separator = (
            kept["separator"] if self.header and kept.get("separator") in SEPARATORS else ","
        )

    def row(self, text: str, number: int) -> dict[str, Any] | None:
        """The row in a line; None for the header. Raises `DataError`."""
        if text.lstrip().startswith("{"):
            try:
                return dict(json.loads(text))
            except ValueError:
                raise DataError(f"stdin, line {number}: is not JSON") from None
        for separator in SEPARATORS:
            named = [cell.strip() for cell in next(csv.reader([text], delimiter=separator))]
            if set(self.needed) <= set(named):
                self.header, self._separator = named, separator
                return None
        cells = next(csv.reader([text], delimiter=self._separator))
        if self.header is None:
            columns = ", ".join(self.needed)
            raise DataError(
                f"stdin: a header line with the columns {columns} must come first (or JSON lines)"
            )
        if len(cells) != len(self.header):
            raise DataError(
                f"stdin, line {number}: {len(cells)} values, but the header has {len(self.header)}"
                " columns"
            )
        return dict(zip(self.header, cells, strict=True))
