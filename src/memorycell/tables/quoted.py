"""Tables as text with quotation marks."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.text_lines import (
    MAX_LINE_BYTES,
    TextLines,
    max_row_like_comments,
    ragged,
)

if TYPE_CHECKING:
    import polars as pl

CHUNK_ROWS = 50_000
MIN_SWALLOWED = 5
"""Separators within one quoted cell whose lines all look like rows, from which a quotation mark is
taken for one that was not closed.
"""
_field_limit = threading.RLock()


def without_marks(data: bytes, separator: str) -> bytes | None:
    """The data without quotation marks, if they only enclose cells that need none; else None."""
    cells = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(cells == ord('"'))
    if len(marks) % 2:
        return None
    opened, closed = marks[::2], marks[1::2]
    edge = (cells == ord(separator)) | (cells == ord("\n"))
    if not (edge[np.maximum(opened - 1, 0)] | (opened == 0)).all() or not edge[closed + 1].all():
        return None
    at = np.flatnonzero(edge)
    if (np.searchsorted(at, opened) != np.searchsorted(at, closed)).any():
        return None  # a separator or the end of a line within a cell
    return cells[cells != ord('"')].tobytes()


def all_closed(data: bytes, separator: str) -> bool:
    """Whether every cell with a quotation mark begins and ends with one in the same line."""
    for line in data.split(b"\n"):
        if b'"' not in line:
            continue
        for cell in line.decode().split(separator):
            inside = cell[1:-1].replace('""', "")
            if '"' in cell and (len(cell) < 2 or cell[0] + cell[-1] != '""' or '"' in inside):
                return False
    return True


def read_quoted(lines: TextLines, separator: str) -> tuple[list[str], pl.DataFrame]:
    """Rows by the rules of RFC 4180 (2005), of which a wrong one is an error."""
    import polars as pl

    with _longer_fields():
        rows = _quoted_rows(lines, separator)
        names = next(rows)[1]
        chunks, chunk, number = [], list[list[str]](), 0
        max_comments = max_row_like_comments(len(lines.ends))
        for index, row in rows:
            if len(row) != len(names):
                if len(names) > 1 and len(row) < 2 and not "".join(row).strip():
                    continue
                if row and row[0].startswith("#") and (len(row) == 1 or max_comments):
                    max_comments -= len(row) > 1
                    lines.comments += 1
                    continue
                if row == []:  # a blank line in a table of one column is a missing value
                    row = [""]
                elif len(row) == len(names) + 1 and row[-1] == "" and number == 0:
                    names = [*names, ""]
                else:
                    raise ragged(lines, index, number + 1, len(row), names, False)
            number += 1
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS:
                chunks.append(_text_frame(chunk, len(names)))
                chunk = []
    frame = pl.concat([*chunks, _text_frame(chunk, len(names))])
    return names, frame.with_columns(pl.when(pl.all().str.len_bytes() > 0).then(pl.all()))


def _text_frame(rows: Sequence[Sequence[str]], width: int) -> pl.DataFrame:
    import polars as pl

    columns = zip(*rows, strict=True) if rows else [[]] * width
    return pl.DataFrame(
        [pl.Series(f"column {k}", c, dtype=pl.String) for k, c in enumerate(columns)]
    )


def _quoted_rows(lines: TextLines, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(index of its first line, cells) of every row. Raises `DataError`."""
    text = lines.data.decode()
    spaces = re.search(rf'(?:^|\n|{re.escape(separator)}) +"', text[:100_000]) is not None
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=spaces
    )
    width, begin = 0, 0
    while True:
        begin = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _misquoted(lines, text.split("\n"), begin, str(error)) from None
        width = width or len(row)
        if reader.line_num > begin + 1:
            _check_swallowed(lines, begin, reader.line_num, separator, width)
        yield begin, row


def _check_swallowed(lines: TextLines, begin: int, end: int, separator: str, width: int) -> None:
    """Raises `DataError` for a row of lines [begin, end) of which all within look like rows."""
    start = int(lines.ends[begin - 1]) + 1 if begin else 0
    first, *inside, _ = lines.data[start : int(lines.ends[end - 1])].decode().split("\n")
    if (
        len(inside) > 1
        and len(inside) * (width - 1) >= MIN_SWALLOWED
        and _are_rows(inside, separator, width)
    ):
        raise DataError(
            f"{lines.where}: line {lines.number(begin)}: a quotation mark opens a cell of"
            f" {len(inside) + 2:,} lines that look like rows; close it, or double it:"
            f" {quote(first)}"
        )


def _are_rows(texts: Sequence[str], separator: str, width: int) -> bool:
    return width > 1 and all(t.count(separator) == width - 1 for t in texts)


def _misquoted(lines: TextLines, texts: list[str], begin: int, error: str) -> DataError:
    """The error of a row that begins at line `begin`."""
    if "unexpected end" in error:
        opened, is_open = begin, False
        for k in range(begin, len(texts)):
            if texts[k].count('"') % 2:
                is_open = not is_open
                opened = k if is_open else opened
        return DataError(
            f"{lines.where}: line {lines.number(opened)}: a quotation mark is not closed; close it,"
            f" or double it: {quote(texts[opened])}"
        )
    return DataError(
        f"{lines.where}: line {lines.number(begin)}: text after a closing quotation mark; write a"
        f' mark inside a cell twice, as in "the ""best"" film": {quote(texts[begin])}'
    )


@contextmanager
def _longer_fields() -> Iterator[None]:
    """Cells up to `MAX_LINE_BYTES` for the csv module, whose limit is global."""
    with _field_limit:
        before = csv.field_size_limit(MAX_LINE_BYTES)
        try:
            yield
        finally:
            csv.field_size_limit(before)
