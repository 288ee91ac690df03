"""Tables with one row per sequence: its target, its group, its constant values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.table import read_table

if TYPE_CHECKING:
    import polars as pl

KEY_NAMES = ("file", "filename", "file_name", "path", "sequence", "recording", "name", "id")
"""Columns that name the sequence, in lower case, in order of preference."""


class SequenceTable:
    """A table with one row per sequence.

    frame   its columns
    key     the column that names the sequence
    rows    int64 [N]: the row of each sequence of the data, -1 where it has none
    """

    def __init__(self, frame: pl.DataFrame, where: str, key: str, names: Sequence[str]) -> None:
        """Raises `DataError` where a sequence has two rows, or none of the sequences has one."""
        import polars as pl

        self.frame, self.where, self.key = frame, where, key
        keys = [k.strip() for k in frame[key].cast(pl.String).fill_null("")]
        by_name = _places(keys, where, key)
        short = _short_places(keys)
        self.rows = np.array([_find(name, by_name, short) for name in names], np.int64)
        if (self.rows < 0).all():
            raise DataError(
                f"{where}: column {quote(key)} names none of the {len(names):,} sequences (it has"
                f" {quote(keys[0])}, the data have {quote(names[0])})"
            )
        used = np.bincount(self.rows[self.rows >= 0], minlength=len(keys))
        if (used > 1).any() and len(short) < len(by_name):
            row = int((used > 1).argmax())
            twice = [n for n, r in zip(names, self.rows, strict=True) if r == row][:2]
            raise DataError(
                f"{where}: row {row + 1}: {quote(keys[row])} is {quote(twice[0])} or"
                f" {quote(twice[1])}; write the folder too"
            )
        self.unused = int((used == 0).sum())

    def column(self, name: str) -> pl.Series:
        """A column by sequence, N cells, null for those without a row. Raises `DataError`."""
        import polars as pl

        if name not in self.frame.columns:
            names = quote(", ".join(self.frame.columns))[1:-1]
            raise DataError(f"{self.where}: no column {quote(name)}; it has {names}")
        taken = self.frame[name].gather(np.maximum(self.rows, 0))
        return taken.set(pl.Series(self.rows < 0), None) if (self.rows < 0).any() else taken

    @property
    def others(self) -> list[str]:
        """The columns besides the key."""
        return [c for c in self.frame.columns if c != self.key]


def read_sequence_table(
    path: Path, names: Sequence[str], sequence: str | None, encoding: str | None, notes: list[str]
) -> SequenceTable:
    """The table of a file, whose key is the column `sequence`, one of `KEY_NAMES`, or the first.

    Raises `DataError`.
    """
    frame = read_table(path, encoding=encoding, notes=notes)
    by_lower = {c.lower(): c for c in reversed(frame.columns)}
    known = [by_lower[n] for n in KEY_NAMES if n in by_lower]
    key = sequence if sequence in frame.columns else known[0] if known else frame.columns[0]
    assert key is not None
    return SequenceTable(frame, str(path), key, names)


def _places(keys: Sequence[str], where: str, key: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for row, name in enumerate(keys):
        if name.lower() in MISSING_WORDS:
            raise DataError(f"{where}: row {row + 1}, column {quote(key)}: the name is missing")
        if name in places:
            raise DataError(
                f"{where}: row {row + 1}: {quote(name)} is also in row {places[name] + 1}; remove"
                " one"
            )
        places[name] = row
    return places


def _short_places(keys: Sequence[str]) -> dict[str, int]:
    """The rows by the name without folder and suffix, where that is unique."""
    found: dict[str, int] = {}
    repeated = set()
    for row, name in enumerate(keys):
        short = _short(name)
        if short in found:
            repeated.add(short)
        found[short] = row
    return {name: row for name, row in found.items() if name not in repeated}


def _short(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name.rsplit(".", 1)[0]


def _find(name: str, places: dict[str, int], short: dict[str, int]) -> int:
    """The row of a sequence by its name, or by its name without folder and suffix; -1: none."""
    if name in places:
        return places[name]
    return short.get(_short(name), -1)
