"""Lines of text as the items of a session."""

from __future__ import annotations

from collections.abc import Mapping

from memorycell.application.contract import Item
from memorycell.errors import DataError, quote


class LineReader:
    """Reads the items of a session as lines of text; `place` names the last one in messages."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def place(self) -> str:
        """Such as "stdin, line 3"."""
        return f"stdin, line {self._count}"

    def read(self, item: Item) -> str:
        """The line without its newline. Raises `DataError` for anything else than UTF-8 text."""
        self._count += 1
        if isinstance(item, Mapping):
            raise DataError(f"{self.place}: expected a line of text, got a row")
        if not isinstance(item, (str, bytes)):
            raise DataError(f"{self.place}: expected a line of text, got {quote(item)}")
        try:
            text = item.decode() if isinstance(item, bytes) else item
            text.encode()  # half a surrogate pair cannot be printed again
        except UnicodeError:
            raise DataError(f"{self.place}: not UTF-8 text") from None
        return text.rstrip("\r\n")
