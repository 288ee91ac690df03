"""The lines of a table in a text file: encoding, ends, comments above the header, separator."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.reading import MAX_SKIPPED, decode_text

SEPARATORS = ",;\t|"
MAX_LINE_BYTES = 10_000_000
"""Of a line, and of a cell."""
MAX_COLUMNS = 10_000
HEADER_LINES = 10
"""Lines from which the separator is found."""


class TextLines:
    """The lines of a table in UTF-8, without those above its header.

    skipped    number of lines above the header
    comments   number of lines left out that begin with #
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.where, self.data, self.skipped, self.comments = where, data, 0, 0
        self._set_ends()
        longest = int(np.diff(self.ends, prepend=-1).max(initial=0))
        if longest > MAX_LINE_BYTES:
            line = int(np.diff(self.ends, prepend=-1).argmax()) + 1
            raise DataError(
                f"{where}: line {line} has {longest:,} bytes, more than {MAX_LINE_BYTES:,}; is it a"
                " table of lines?"
            )
        self._skip_preamble()

    @property
    def quoted(self) -> bool:
        """Whether there are quotation marks."""
        return b'"' in self.data

    def first(self, count: int) -> list[str]:
        """The first lines."""
        end = int(self.ends[min(count, len(self.ends)) - 1])
        return self.data[:end].decode().split("\n")

    def separator(self) -> str | None:
        """That of a first line such as sep=; which is then dropped."""
        match = re.match(rb"sep=(.)\n", self.data)
        if match is None:
            return None
        self._drop(1)
        return match[1].decode("utf-8", "replace")

    def number(self, index: int) -> int:
        """The number of a line in the file, from 1."""
        return index + self.skipped + 1

    def replace(self, data: bytes) -> None:
        """Take other data for the same lines."""
        self.data = data
        self._set_ends()

    def _set_ends(self) -> None:
        if not self.data.endswith(b"\n") or self.data.endswith(b"\n\n"):
            self.data = self.data.rstrip(b"\n") + b"\n"
        self.ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == 10)

    def _drop(self, count: int) -> None:
        self.skipped += count
        self.data = self.data[int(self.ends[count - 1]) + 1 :]
        self._set_ends()

    def _skip_preamble(self) -> None:
        """Drop blank lines and comments above the header; the last comment is the header where it
        has as many cells as the first row and that row has no names.
        """
        lines = self.data[: int(self.ends[min(1000, len(self.ends)) - 1])].split(b"\n")
        count = 0
        while count < len(lines) and (not lines[count].strip() or lines[count].startswith(b"#")):
            count += 1
        comments = [k for k in range(count) if lines[k].startswith(b"#")]
        named = (
            bool(comments) and count < len(lines) and _is_header(lines[comments[-1]], lines[count])
        )
        if named:
            count = comments.pop()
        self.comments = len(comments)
        if count == len(lines) or self.data.isspace():
            raise DataError(f"{self.where}: is empty; expected a table with a header line")
        if count:
            self._drop(count)
        if named:
            self.data = self.data.lstrip(b"#").lstrip(b" ")
            self._set_ends()


def _is_header(comment: bytes, row: bytes) -> bool:
    """Whether a line that begins with # names the cells of the next one."""
    names, cells = comment.decode(), row.decode()
    separator = find_separator([cells])
    return names.count(separator) == cells.count(separator) and any(
        looks_like_data(cell) for cell in cells.split(separator)
    )


def looks_like_data(cell: str) -> bool:
    """Whether a cell of a header is a number or a date, not a name."""
    cell = cell.strip().strip('"')
    return (
        re.fullmatch(r"[+-]?[\d.,: T/-]*\d[\d.,:ZT/+-]*|[+-]?\d[\d.]*[eE][+-]?\d+", cell)
        is not None
    )


def utf8(data: bytes, where: str, encoding: str | None) -> bytes:
    """The data in UTF-8 with LF at the ends of lines."""
    if encoding is not None or not data.isascii() or b"\0" in data[:10_000]:
        data = decode_text(data, where, encoding).encode("utf-8", "replace")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data


def find_separator(lines: Sequence[str]) -> str:
    """The separator that occurs equally often in the most lines; a comma for a single column."""
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines if line.strip()]

    def score(separator: str) -> tuple[int, int]:
        counts = [line.count(separator) for line in bare]
        same = sum(count == counts[0] for count in counts) if counts and counts[0] else 0
        return same, counts[0] if counts else 0

    best = max(SEPARATORS, key=score)
    return best if score(best)[1] else ","


def max_row_like_comments(rows: int) -> int:
    """How many lines that begin with # and have separators are taken for comments below the header:
    each could also be a row with a separator too few or too many.
    """
    return max(1, int(MAX_SKIPPED * rows))


def ragged(
    lines: TextLines, index: int, row: int, count: int, names: Sequence[str], trailing: bool
) -> DataError:
    """The error of a row with more or fewer cells than the header; see `TextLines.number`."""
    line = lines.data.split(b"\n")[index].decode()
    columns = len(names) - trailing
    return DataError(
        f"{lines.where}: row {row} (line {lines.number(index)}): number of values {count:,}, but"
        f" the header has {columns:,} columns: {quote(line)}"
    )
