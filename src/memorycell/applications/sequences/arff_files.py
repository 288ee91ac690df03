"""Sequences in .arff files (Weka) as the UCR/UEA archives have them.

One channel: an attribute per step, and a nominal (or numeric) attribute last. Several: a relational
attribute, a quoted text with one line of values per channel, and the class.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from memorycell.applications.sequences.ts_files import COMMENTS, LabelledRows, parse_values
from memorycell.errors import DataError, counted, quote
from memorycell.reading import read_text
from memorycell.tables.cells import MISSING_WORDS

ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.IGNORECASE)
RELATIONAL = re.compile(r"\s*(['\"])(.*)\1\s*,\s*(['\"]?)([^'\"]*)\3\s*", re.DOTALL)


def read_arff(path: Path, encoding: str | None = None) -> LabelledRows:
    """The sequences of an .arff file. Raises `DataError` with the line."""
    where = str(path)
    lines = read_text(path, encoding).splitlines()
    attributes, first = _attributes(lines, where)
    relational = any(kind.lower().startswith("relational") for _, kind in attributes)
    outer = [a for a in attributes if not a[0].startswith("\0")]
    kind = outer[-1][1].strip()
    nominal = kind.startswith("{") or kind.lower() == "string"
    last = outer[-1][0].strip("'\"").lower()
    labelled = relational or nominal or last in ("target", "class", "label")
    classes = _classes(kind)
    values: list[np.ndarray] = []
    labels: list[str] = []
    for number, line in enumerate(lines[first:], first + 1):
        text = line.strip()
        if not text or text.startswith(COMMENTS):
            continue
        place = f"{where}: line {number}"
        if relational:
            own, label = _relational_row(text, place)
        else:
            cells = next(csv.reader([text], quotechar="'", skipinitialspace=True))
            if len(cells) != len(outer):
                raise DataError(
                    f"{place}: {counted(len(cells), 'values')}, but the header has"
                    f" {counted(len(outer), 'attributes')}"
                )
            end = len(cells) - labelled
            own, label = parse_values(",".join(cells[:end]), place)[:, None], cells[-1].strip()
        if values and own.shape[1] != values[0].shape[1]:
            raise DataError(
                f"{place}: {counted(own.shape[1], 'channels')}, but {values[0].shape[1]} in the"
                " first row"
            )
        if classes and label not in classes and label.lower() not in MISSING_WORDS:
            raise DataError(
                f"{place}: class {quote(label)} is not one of the header's"
                f" {quote(', '.join(classes))[1:-1]}"
            )
        values.append(own)
        labels.append(label)
    if not values:
        raise DataError(f"{where}: has no rows after @data")
    return LabelledRows(values, labels if labelled else None, nominal if labelled else None)


def _attributes(lines: list[str], where: str) -> tuple[list[tuple[str, str]], int]:
    """((name, type) of the attributes, the line after @data from 0); names of attributes inside a
    relational one begin with NUL.
    """
    attributes: list[tuple[str, str]] = []
    inside = False
    for number, line in enumerate(lines):
        text = line.strip()
        lower = text.lower()
        if lower.startswith("@data"):
            if not attributes:
                raise DataError(f"{where}: has no @attribute lines before @data")
            return attributes, number + 1
        if lower.startswith("@end"):
            inside = False
        elif match := ATTRIBUTE.match(text):
            name, kind = match[1], match[2]
            attributes.append(("\0" + name if inside else name, kind))
            inside |= kind.lower().startswith("relational")
    raise DataError(f"{where}: has no @data line; is it an .arff file?")


def _classes(kind: str) -> list[str]:
    if not kind.startswith("{"):
        return []
    return [word.strip().strip("'\"") for word in kind.strip("{} ").split(",")]


def _relational_row(text: str, place: str) -> tuple[np.ndarray, str]:
    """(values [T, F], class) of a row: the channels, between them a backslash and n, the class."""
    match = RELATIONAL.fullmatch(text)
    if match is None:
        raise DataError(f"{place}: expected the values in quotation marks, a comma and the class")
    columns = [parse_values(part, place) for part in re.split(r"\\n|\n", match[2]) if part.strip()]
    if not columns or len({len(c) for c in columns}) > 1:
        raise DataError(f"{place}: its channels have different numbers of values")
    return np.stack(columns, 1), match[4].strip()
