"""Tables as text: lines of cells between separators (CSV, TSV), with or without quotation marks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.quoted import all_closed, read_quoted, without_marks
from memorycell.tables.text_lines import (
    HEADER_LINES,
    MAX_COLUMNS,
    TextLines,
    find_separator,
    looks_like_data,
    max_row_like_comments,
    ragged,
    utf8,
)

if TYPE_CHECKING:
    import polars as pl


def read_delimited(
    data: bytes, where: str, *, tabs: bool, encoding: str | None, notes: list[str]
) -> pl.DataFrame:
    """The table in the bytes of a file, all cells text, empty ones null.

    tabs    the separator is a tab; by default it is found
    notes   what was left out is added

    Raises `DataError` with the line.
    """
    lines = TextLines(utf8(data, where, encoding), where)
    separator = "\t" if tabs else lines.separator() or find_separator(lines.first(HEADER_LINES))
    if lines.quoted and (bare := without_marks(lines.data, separator)) is not None:
        lines.replace(bare)
    if not lines.quoted:
        names, frame = _read_plain(lines, separator)
    elif separator == "\t" and not all_closed(lines.data, separator):
        names, frame = _read_marks_as_text(lines, separator)
    else:
        names, frame = read_quoted(lines, separator)
    if lines.comments:
        notes.append(f"{lines.comments:,} lines that begin with # left out")
    return _with_names(frame, names, where)


def _read_plain(lines: TextLines, separator: str) -> tuple[list[str], pl.DataFrame]:
    names, trailing = _split_header(lines, separator)
    if (frame := _read_even(lines, separator, len(names))) is not None:
        return names, frame
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
    max_comments = max_row_like_comments(int(keep.sum()))
    for index in np.flatnonzero((counts != expected) & keep).tolist():
        line = lines.data[starts[index] : ends[index]]
        if line.strip() == b"":
            keep[index] = False
        elif line.startswith(b"#") and (counts[index] == 0 or max_comments):
            keep[index] = False
            max_comments -= bool(counts[index])
            lines.comments += 1
        else:
            row = int(keep[: index + 1].sum())
            raise ragged(lines, index, row, int(counts[index]) + 1, names, trailing)
    if keep[1:].all():
        body = lines.data[int(ends[0]) + 1 :]
    else:
        parts = lines.data.split(b"\n")
        body = b"\n".join([parts[k] for k in np.flatnonzero(keep)])
    return names, _parse(body, separator, len(names), lines.where)


def _read_even(lines: TextLines, separator: str, columns: int) -> pl.DataFrame | None:
    """The rows where each line has as many cells as the header: there are as many separators in
    all, and polars found no line with more. None otherwise, and for one column, in which a line
    may be blank.
    """
    per_line = (columns - 1) * len(lines.ends)
    if columns == 1 or lines.data.count(separator.encode()) != per_line:
        return None
    try:
        frame = _parse(lines.data[int(lines.ends[0]) + 1 :], separator, columns, lines.where)
    except DataError:
        return None
    return frame if (frame.width, frame.height) == (columns, len(lines.ends) - 1) else None


def _read_marks_as_text(lines: TextLines, separator: str) -> tuple[list[str], pl.DataFrame]:
    """Rows in which quotation marks mean nothing; by the rules of CSV if only those fit."""
    try:
        return _read_plain(lines, separator)
    except DataError as error:
        lines.comments = 0
        try:
            return read_quoted(lines, separator)
        except DataError:
            raise error from None


def _split_header(lines: TextLines, separator: str) -> tuple[list[str], bool]:
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
    if columns > 1 and re.match(rb"\n*\Z", body):
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
