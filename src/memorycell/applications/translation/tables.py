"""Pairs in tables, with and without a header line, and in message catalogues."""

from __future__ import annotations

import re
import struct
from collections import Counter
from pathlib import Path

from memorycell.applications.translation.cleaning import Pairs, ReadOptions
from memorycell.applications.translation.columns import find_pair
from memorycell.applications.translation.languages import HEADER_NAMES, language_code
from memorycell.errors import DataError, quote
from memorycell.language.tsv import read_tsv
from memorycell.reading import Losses, normalise
from memorycell.tables.table import read_table

MIN_SENTENCE_WORDS = 3
SENTENCE_END = re.compile(r"\w[.!?…。！？]$")
HEADER_NAME = re.compile(r"\w+(?:[ ._-]\w+){0,2}")


def read_lines_of_cells(path: Path, options: ReadOptions, notes: list[str]) -> Pairs:
    """The pairs of tab-separated lines, with or without a header line."""
    rows = [row for row in read_tsv(path, options.encoding, notes) if row != [""]]
    losses = Losses("lines")
    complete = [row for row in rows if len(row) > 1]
    if not complete:
        raise DataError(f"{path}: line 1: no tab; expected SOURCE TAB TARGET")
    if len(complete) < len(rows):
        first = next(k for k, row in enumerate(rows, 1) if len(row) < 2)
        losses.skip(f"no tab (the first: line {first})", len(rows) - len(complete))
    width = Counter(map(len, complete)).most_common(1)[0][0]
    even = [[*row, *[""] * (width - len(row))] for row in complete if len(row) <= width]
    losses.skip(f"more than {width - 1} tabs", len(complete) - len(even))
    losses.check(len(rows), str(path), options.lossy)
    notes += [f"{path.name}: {note}" for note in losses.notes(len(rows))]
    names = [str(k) for k in range(1, width + 1)]
    if _is_header(even[0]):
        names, even = [cell.strip() for cell in even[0]], even[1:]
        if len(set(names)) < width:
            raise DataError(f"{path}: line 1: two columns of one name; rename one")
        notes.append(f"{path.name}: line 1 is a header")
    columns = {name: [row[k] for row in even] for k, name in enumerate(names)}
    return _pairs(columns, path, options, notes)


def read_table_pairs(path: Path, options: ReadOptions, notes: list[str]) -> Pairs:
    """The pairs of a table with a header line."""
    table_notes: list[str] = []
    frame = read_table(path, encoding=options.encoding, sheet=options.sheet, notes=table_notes)
    notes += [f"{path.name}: {note}" for note in table_notes]
    columns = {
        column.name: ["" if value is None else str(value) for value in column]
        for column in frame.get_columns()
        if not column.dtype.is_nested()
    }
    if len(columns) < 2:
        raise DataError(f"{path}: expected two columns, the source and its translation")
    if all(_is_sentence(name) for name in columns):  # it has no header line
        notes.append(f"{path.name}: line 1 is not a header, but a pair")
        numbered = (str(k) for k in range(1, len(columns) + 1))
        columns = {k: [name, *columns[name]] for k, name in zip(numbered, columns, strict=True)}
    return _pairs(columns, path, options, notes)


def read_catalogue(path: Path, options: ReadOptions, notes: list[str]) -> Pairs:
    """The translated messages of a gettext catalogue, without fuzzy and obsolete ones."""
    import polib

    try:
        if path.suffix.lower() == ".mo":
            entries = list(polib.mofile(str(path)))
        else:
            entries = list(polib.pofile(str(path), encoding=options.encoding))
    except (OSError, ValueError, LookupError, struct.error, MemoryError, OverflowError) as error:
        reason = quote(str(error).strip().split("\n", 1)[0])[1:-1]
        raise DataError(f"{path}: not a readable message catalogue ({reason})") from None
    losses = Losses("messages")
    pairs = []
    for entry in entries:
        text = entry.msgstr or next(iter(entry.msgstr_plural.values()), "")
        if getattr(entry, "obsolete", False) or "fuzzy" in getattr(entry, "flags", []):
            losses.repair("fuzzy or obsolete, left out")
        elif not text.strip():
            losses.repair("not translated, left out")
        else:
            pairs.append((entry.msgid, text))
    if not pairs:
        raise DataError(f"{path}: not a readable message catalogue, or without translated messages")
    notes += [f"{path.name}: {note}" for note in losses.notes(0)]
    notes.append(f"{path.name}: from the messages to their translations")
    return [(normalise(source), normalise(target)) for source, target in pairs]


def _pairs(
    columns: dict[str, list[str]], path: Path, options: ReadOptions, notes: list[str]
) -> Pairs:
    source, target, note = find_pair(columns, str(path), options.languages)
    notes.append(f"{path.name}: {note}")
    return list(zip(columns[source], columns[target], strict=True))


def _is_header(row: list[str]) -> bool:
    """Whether a first line names columns, two of them after languages or sides."""
    names = [cell.strip() for cell in row]
    known = sum(name.lower() in HEADER_NAMES or bool(language_code(name)) for name in names)
    are_names = all(HEADER_NAME.fullmatch(name) for name in names)
    return known > 1 and are_names and len(set(names)) == len(names)


def _is_sentence(name: str) -> bool:
    """Whether a name of a column is a text that somebody wrote."""
    name = name.strip()
    return (
        len(name.split()) >= MIN_SENTENCE_WORDS or re.search(r"\w[.!?…。！？]$", name) is not None
    )
