"""Rows of tab-separated text without a header."""

from __future__ import annotations

import re
from pathlib import Path

from memorycell.language.files import read_lines

SEPARATOR_LINE = re.compile(r'"?sep=.?"?\t?', re.IGNORECASE)
"""A first line that names the separator to a spreadsheet."""
CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^"\t\n]*))(\t|\n|\Z)')
"""(enclosed content, or plain content; what ends the cell)"""


def read_tsv(path: Path, encoding: str | None, notes: list[str]) -> list[list[str]]:
    """The cells of every line; see `split_rows`. Raises `DataError`."""
    lines = read_lines(path, encoding, notes)
    if SEPARATOR_LINE.fullmatch(lines[0]):
        lines = lines[1:]
    rows, is_quoted = split_rows(lines)
    if is_quoted:
        notes.append(f"{path.name}: quotation marks around cells removed, doubled ones halved")
    return rows


def split_rows(lines: list[str]) -> tuple[list[list[str]], bool]:
    """(cells of every row, whether quotation marks enclose cells).

    They do, as in files of spreadsheets, where every cell that has one is enclosed and its inner
    marks are doubled; such a cell may go over several lines, if it holds no tab and all rows have
    the same number of cells. Otherwise quotation marks are part of the text.
    """
    plain = [line.split("\t") for line in lines]
    if not any('"' in line for line in lines):
        return plain, False
    rows = _enclosed_rows("\n".join(lines))
    return (plain, False) if rows is None else (rows, True)


def _enclosed_rows(text: str) -> list[list[str]] | None:
    """None where the quotation marks of a text do not enclose cells."""
    rows: list[list[str]] = [[]]
    position, end = 0, "\t"
    while end:
        match = CELL.match(text, position)
        if match is None:
            return None
        enclosed, cell, end = match.groups()
        rows[-1].append(cell if enclosed is None else enclosed.replace('""', '"'))
        if end == "\n":
            rows.append([])
        position = match.end()
    over_lines = [cell for row in rows for cell in row if "\n" in cell]
    is_ragged = len({len(row) for row in rows if row != [""]}) > 1
    if over_lines and (is_ragged or any("\t" in cell for cell in over_lines)):
        return None
    return rows
