"""Files of the UCR/UEA time series archives: .ts (header and rows) and the .tsv and .txt of UCR.

A row of .ts is one sequence: the values of each channel separated by commas, the channels by
colons, and the class or number after the last colon. See arXiv:1809.06705 (Löning, Bagnall et al.)
for the directives of the header.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from memorycell.errors import DataError, counted, quote
from memorycell.reading import decode_text
from memorycell.tables.cells import MISSING_WORDS

YES_NO = {"true": True, "false": False}
COMMENTS = ("#", "%")
MAX_CHANNELS = 10_000


@dataclass
class LabelledRows:
    """N sequences of F channels, unnamed, and their labels as text.

    values   N arrays float64 [T_i, F]
    labels   N texts; None without labels
    classes  whether labels are classes or numbers; None: not known
    """

    values: list[np.ndarray]
    labels: list[str] | None
    classes: bool | None
    notes: list[str] = field(default_factory=list)


@dataclass
class _Header:
    """The directives of a .ts file; None: not given."""

    channels: int | None = None
    equal_length: bool | None = None
    length: int | None = None
    classes: list[str] | None = None
    target: bool = False
    labelled: bool = False


def read_ts(path: Path, encoding: str | None = None) -> LabelledRows:
    """The sequences of a .ts file. Raises `DataError` with the line, also where rows and header
    disagree.
    """
    where = str(path)
    lines = decode_text(_bytes(path), where, encoding).splitlines()
    header, first = _read_header(lines, where)
    values: list[np.ndarray] = []
    labels: list[str] = []
    for number, line in enumerate(lines[first:], first + 1):
        text = line.strip()
        if not text or text.startswith(COMMENTS):
            continue
        place = f"{where}: line {number}"
        if "(" in text:
            raise DataError(
                f"{place}: time stamps, (time,value), are not read; write the values alone"
            )
        *parts, label = text.split(":") if header.labelled else (*text.split(":"), "")
        if header.channels is None and not values:
            header.channels = len(parts)
        if len(parts) != header.channels:
            raise DataError(
                f"{place}: {counted(len(parts), 'channels')}, but"
                f" {'the header says' if values or header.channels else 'expected'}"
                f" {header.channels}"
            )
        columns = [parse_values(part, place) for part in parts]
        sizes = {len(column) for column in columns}
        if len(sizes) > 1:
            raise DataError(
                f"{place}: channel 1 has {counted(len(columns[0]), 'values')}, channel"
                f" {[len(c) != len(columns[0]) for c in columns].index(True) + 1} has another"
                " number; write ? for a missing value"
            )
        _check_length(header, values, len(columns[0]), place)
        values.append(np.stack(columns, 1))
        if header.labelled:
            labels.append(_checked_label(header, label.strip(), place))
    if not values:
        raise DataError(f"{where}: has no rows after @data")
    classes = True if header.classes is not None else False if header.target else None
    return LabelledRows(values, labels if header.labelled else None, classes)


def _read_header(lines: list[str], where: str) -> tuple[_Header, int]:
    """(directives, the line after @data, from 0)."""
    header, univariate, listed = _Header(), None, False
    for number, line in enumerate(lines):
        text = line.strip()
        if not text or text.startswith(COMMENTS):
            continue
        place = f"{where}: line {number + 1}"
        if not text.startswith("@") or not text[1:].strip():
            raise DataError(f"{place}: expected a directive such as @data before the first row")
        name, *words = text[1:].split()
        name = name.lower()
        if name == "data":
            if univariate and header.channels not in (None, 1):
                raise DataError(
                    f"{where}: the header contradicts itself: @univariate true, and"
                    f" @dimensions {header.channels}"
                )
            header.channels = 1 if univariate and header.labelled else header.channels
            return header, number + 1
        if name == "timestamps" and _yes(words, place):
            raise DataError(
                f"{place}: @timeStamps true: files with time stamps are not read; write the values"
                " alone"
            )
        if name == "univariate":
            univariate = _yes(words, place)
        elif name in ("dimension", "dimensions"):
            header.channels = _count(words, place, MAX_CHANNELS)
        elif name == "equallength":
            header.equal_length = _yes(words, place)
        elif name == "serieslength":
            header.length = _count(words, place, 10**9)
        elif name == "classlabel":
            listed = _yes(words, place)
            header.labelled |= listed
            header.classes = words[1:] if listed else None
        elif name == "targetlabel" and _yes(words, place):
            header.labelled = header.target = True
    raise DataError(f"{where}: has no @data line; is it a .ts file?")


def _yes(words: list[str], place: str) -> bool:
    value = YES_NO.get(words[0].lower()) if words else None
    if value is None:
        raise DataError(f"{place}: expected true or false, got {quote(' '.join(words))}")
    return value


def _count(words: list[str], place: str, most: int) -> int:
    if len(words) != 1 or not words[0].isdecimal() or not 1 <= int(words[0][:12]) <= most:
        raise DataError(f"{place}: expected a number from 1 to {most:,}, got {quote(words)}")
    return int(words[0])


def _check_length(header: _Header, values: list[np.ndarray], size: int, place: str) -> None:
    if header.equal_length is False:
        return
    expected = header.length
    if expected is None and header.equal_length and values:
        expected = len(values[0])
    if expected is not None and size != expected:
        raise DataError(
            f"{place}: {counted(size, 'values')} per channel, but the header says"
            f" {'@seriesLength ' + str(header.length) if header.length else '@equalLength true'}"
            f"{'' if header.length else f' and the first row has {expected}'}; correct one of them"
        )


def _checked_label(header: _Header, label: str, place: str) -> str:
    if header.classes and label not in header.classes and label.lower() not in MISSING_WORDS:
        raise DataError(
            f"{place}: class {quote(label)} is not one of the header's @classLabel:"
            f" {quote(' '.join(header.classes))[1:-1]}"
        )
    return label


def parse_values(text: str, place: str, separator: str | None = ",") -> np.ndarray:
    """Numbers [T] float64 between separators, NaN for `MISSING_WORDS`. Raises `DataError`."""
    cells = text.split(separator)
    try:
        values = np.array(cells, np.float64)
    except ValueError:
        values = np.array([_parse_cell(cell, place) for cell in cells])
    if np.isinf(values).any():
        raise DataError(f"{place}: a value is infinite; write ? for a missing value")
    return values


def _parse_cell(cell: str, place: str) -> float:
    word = cell.strip()
    if word.lower() in MISSING_WORDS:
        return math.nan
    try:
        return float(word)
    except ValueError:
        raise DataError(f"{place}: {quote(word)} is not a number; write ? if missing") from None


def read_ucr_table(path: Path, encoding: str | None = None) -> LabelledRows:
    """A .tsv, .txt or .csv of the UCR archive, without a header: the class, then the values of one
    channel; values that are missing at the end of a row are padding. Raises `DataError`.
    """
    where = str(path)
    values, labels, padded = [], [], 0
    for number, line in enumerate(decode_text(_bytes(path), where, encoding).splitlines(), 1):
        if not line.strip():
            continue
        place = f"{where}: line {number}"
        separator = "\t" if "\t" in line else "," if "," in line else None
        label, *rest = line.strip().split(separator)
        if not rest:
            raise DataError(f"{place}: expected a class and values")
        own = parse_values((separator or " ").join(rest), place, separator)
        known = np.flatnonzero(~np.isnan(own))
        end = int(known[-1]) + 1 if len(known) else len(own)
        padded += end < len(own)
        values.append(own[:end, None])
        labels.append(label)
    if not values:
        raise DataError(f"{where}: has no rows")
    notes = (
        [f"{counted(padded, 'sequences')} padded with missing values, left out"] if padded else []
    )
    return LabelledRows(values, labels, True, notes)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
