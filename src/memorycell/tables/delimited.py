"""Tables as text: lines of cells between separators (CSV, TSV), with or without quotation marks."""

from __future__ import annotations

import csv
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.reading import decode_text

if TYPE_CHECKING:
    import polars as pl

SEPARATORS = ",;\t|"
MAX_LINE_BYTES = 10_000_000
"""Of a line, and of a cell."""
MAX_COLUMNS = 10_000
HEADER_LINES = 10
"""Lines from which the separator is found."""
CHUNK_ROWS = 50_000
MIN_SWALLOWED_LINES = 5
"""Lines within one quoted cell that all look like rows, from which a quotation mark is taken for
one that was not closed.
"""
_field_limit = threading.Lock()


def read_delimited(
    data: bytes, where: str, *, tabs: bool, encoding: str | None, notes: list[str]
) -> pl.DataFrame:
    """The table in the bytes of a file, all cells text, empty ones null.

    tabs    the separator is a tab; by default it is found
    notes   what was left out is added

    Raises `DataError` with the line.
    """
    lines = _Lines(_utf8(data, where, encoding), where)
    separator = "\t" if tabs else lines.separator() or _find_separator(lines.first(HEADER_LINES))
    if not lines.quoted:
        names, frame = _read_plain(lines, separator)
    elif separator == "\t" and not _all_closed(lines.data, separator):
        names, frame = _read_marks_as_text(lines, separator)
    else:
        names, frame = _read_quoted(lines, separator)
    if lines.comments:
        notes.append(f"{lines.comments:,} lines that begin with # left out")
    return _with_names(frame, names, where)


class _Lines:
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

    def _set_ends(self) -> None:
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
        if count == len(lines) or not self.data.strip():
            raise DataError(f"{self.where}: is empty; expected a table with a header line")
        if count:
            self._drop(count)
        if named:
            self.data = self.data.lstrip(b"#").lstrip(b" ")
            self._set_ends()


def _is_header(comment: bytes, row: bytes) -> bool:
    """Whether a line that begins with # names the cells of the next one."""
    names, cells = comment.decode(), row.decode()
    separator = _find_separator([cells])
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


def _utf8(data: bytes, where: str, encoding: str | None) -> bytes:
    """The data in UTF-8 with LF at the ends of lines."""
    if encoding is not None or not data.isascii() or b"\0" in data[:10_000]:
        data = decode_text(data, where, encoding).encode("utf-8", "replace")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data


def _find_separator(lines: Sequence[str]) -> str:
    """The separator that occurs equally often in the most lines; a comma for a single column."""
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines if line.strip()]

    def score(separator: str) -> tuple[int, int]:
        counts = [line.count(separator) for line in bare]
        same = sum(count == counts[0] for count in counts) if counts and counts[0] else 0
        return same, counts[0] if counts else 0

    best = max(SEPARATORS, key=score)
    return best if score(best)[1] else ","


# ---- without quotation marks -------------------------------------------------------------------


def _read_plain(lines: _Lines, separator: str) -> tuple[list[str], pl.DataFrame]:
    names, trailing = _split_header(lines, separator)
    ends = lines.ends
    starts = np.concatenate([[0], ends[:-1] + 1])
    at = np.flatnonzero(np.frombuffer(lines.data, np.uint8) == ord(separator))
    counts = np.searchsorted(at, ends) - np.searchsorted(at, starts)
    expected = len(names) - 1
    blank = ends == starts
    if len(names) == 1:  # blank lines between rows are missing values
        blank[: np.flatnonzero(~blank)[-1]] = False
    keep = ~blank
    keep[0] = False
    for index in np.flatnonzero((counts != expected) & keep).tolist():
        line = lines.data[starts[index] : ends[index]]
        if line.strip() == b"":
            keep[index] = False
        elif line.startswith(b"#"):
            keep[index] = False
            lines.comments += 1
        else:
            row = int(keep[: index + 1].sum())
            raise _ragged(lines, index, row, int(counts[index]) + 1, names, trailing)
    if keep[1:].all():
        body = lines.data[int(ends[0]) + 1 :]
    else:
        parts = lines.data.split(b"\n")
        body = b"\n".join([parts[k] for k in np.flatnonzero(keep)])
    return names, _parse(body, separator, len(names), lines.where)


def _split_header(lines: _Lines, separator: str) -> tuple[list[str], bool]:
    """(names, whether the rows end with a separator that the header lacks)"""
    first = lines.first(HEADER_LINES)
    names = first[0].split(separator)
    rows = [line for line in first[1:] if line.strip() and not line.startswith("#")]
    trailing = bool(rows) and all(
        row.endswith(separator) and row.count(separator) == len(names) for row in rows
    )
    if names[-1] == "" and rows and all(row.count(separator) == len(names) - 2 for row in rows):
        return names[:-1], False
    return [*names, ""] if trailing else names, trailing


def _parse(body: bytes, separator: str, columns: int, where: str) -> pl.DataFrame:
    import polars as pl

    names = [f"column {k}" for k in range(columns)]
    if not body.strip(b"\n") and columns > 1:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    try:
        return pl.read_csv(
            body,
            separator=separator,
            quote_char=None,
            infer_schema=False,
            has_header=False,
            new_columns=names,
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{where}: is not a readable table ({quote(str(error))[1:-1]})") from None


def _ragged(
    lines: _Lines, index: int, row: int, count: int, names: Sequence[str], trailing: bool
) -> DataError:
    line = lines.data.split(b"\n")[index].decode()
    columns = len(names) - trailing
    return DataError(
        f"{lines.where}: row {row} (line {lines.number(index)}): number of values {count:,}, but"
        f" the header has {columns:,} columns: {quote(line)}"
    )


# ---- with quotation marks ----------------------------------------------------------------------


def _read_marks_as_text(lines: _Lines, separator: str) -> tuple[list[str], pl.DataFrame]:
    """Rows in which quotation marks mean nothing; by the rules of CSV if only those fit."""
    try:
        return _read_plain(lines, separator)
    except DataError as error:
        lines.comments = 0
        try:
            return _read_quoted(lines, separator)
        except DataError:
            raise error from None


def _all_closed(data: bytes, separator: str) -> bool:
    """Whether every cell with a quotation mark begins and ends with one in the same line."""
    for line in data.split(b"\n"):
        if b'"' not in line:
            continue
        for cell in line.decode().split(separator):
            inside = cell[1:-1].replace('""', "")
            if '"' in cell and (len(cell) < 2 or cell[0] + cell[-1] != '""' or '"' in inside):
                return False
    return True


def _read_quoted(lines: _Lines, separator: str) -> tuple[list[str], pl.DataFrame]:
    """Rows by the rules of RFC 4180 (2005), of which a wrong one is an error."""
    import polars as pl

    texts = lines.data.decode().split("\n")[:-1]
    spaced = re.search(
        rf'(?:^|\n|{re.escape(separator)}) +"', lines.data[:100_000].decode("utf-8", "ignore")
    )
    rows = _quoted_rows(lines, texts, separator, spaces=spaced is not None)
    names = next(rows)[1]
    chunks, chunk, number, width = [], list[list[str]](), 0, len(names)
    schema = {f"column {k}": pl.String for k in range(width)}
    for index, row in rows:
        if len(row) != width:
            if width > 1 and not "".join(row).strip() and len(row) < 2:
                continue
            if row and row[0].startswith("#"):
                lines.comments += 1
                continue
            if row == []:  # a blank line in a table of one column is a missing value
                row = [""]
            elif len(row) == width + 1 and row[-1] == "" and number == 0 and names[-1] != "":
                names, width = [*names, ""], width + 1
                schema = {f"column {k}": pl.String for k in range(width)}
            else:
                raise _ragged(lines, index, number + 1, len(row), names, False)
        number += 1
        chunk.append(row)
        if len(chunk) == CHUNK_ROWS:
            chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
            chunk = []
    chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
    frame = pl.concat(chunks)
    return names, frame.with_columns(pl.when(pl.all().str.len_bytes() > 0).then(pl.all()))


def _quoted_rows(
    lines: _Lines, texts: list[str], separator: str, *, spaces: bool
) -> Iterator[tuple[int, list[str]]]:
    """(index of its first line, cells) of every row. Raises `DataError`."""
    reader = csv.reader(
        (f"{text}\n" for text in texts), delimiter=separator, strict=True, skipinitialspace=spaces
    )
    width, begin = 0, 0
    with _longer_fields():
        while True:
            begin = reader.line_num
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise _misquoted(lines, texts, begin, str(error)) from None
            width = width or len(row)
            inside = texts[begin + 1 : reader.line_num - 1]
            if len(inside) >= MIN_SWALLOWED_LINES and _are_rows(inside, separator, width):
                raise DataError(
                    f"{lines.where}: line {lines.number(begin)}: a quotation mark opens a cell of"
                    f" {len(inside) + 2:,} lines that look like rows; close it, or double it:"
                    f" {quote(texts[begin])}"
                )
            yield begin, row


def _are_rows(texts: Sequence[str], separator: str, width: int) -> bool:
    return width > 1 and all(t.count(separator) == width - 1 for t in texts)


def _misquoted(lines: _Lines, texts: list[str], begin: int, error: str) -> DataError:
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


# ---- header ------------------------------------------------------------------------------------


def _with_names(frame: pl.DataFrame, names: Sequence[str], where: str) -> pl.DataFrame:
    """The frame with the names of its header, without unnamed empty columns. Raises `DataError`."""
    names = [name.strip() for name in names]
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{where}: {len(names):,} columns, more than {MAX_COLUMNS:,}")
    numbers = all(looks_like_data(name) for name in names)
    if numbers and any(re.search(r"[.:/-]|\d{5}", name) for name in names):
        raise DataError(
            f"{where}: line 1 looks like data, not like names ({quote(', '.join(names))}); add a"
            " header line"
        )
    unnamed = [
        c
        for c, name in zip(frame.columns, names, strict=True)
        if not name and frame[c].null_count() == frame.height
    ]
    if len(unnamed) < frame.width:
        names = [n for c, n in zip(frame.columns, names, strict=True) if c not in unnamed]
        frame = frame.drop(unnamed)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        at = [str(k + 1) for k, name in enumerate(names) if name == repeated[0]]
        called = f"are called {quote(repeated[0])}" if repeated[0] else "have no name"
        raise DataError(f"{where}: columns {' and '.join(at[:5])} {called}; rename one")
    frame.columns = names
    return frame
