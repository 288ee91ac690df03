"""The rows of a table by sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass
class Rows:
    """The R rows of N sequences, one sequence after another.

    where    file or folder, for messages
    names    of the sequences
    starts   int64 [N + 1]: the first row of each sequence, and R
    order    int64 [R]: the number of each row in the table, from 0
    files    of a folder: the name of each file and its first row in the table
    """

    where: str
    names: Sequence[str]
    starts: np.ndarray
    order: np.ndarray
    files: Sequence[tuple[str, int]] = ()

    @classmethod
    def one_each(cls, where: str, names: Sequence[str]) -> Rows:
        """One row per sequence, as in a table of labels."""
        count = len(names)
        return cls(where, names, np.arange(count + 1), np.arange(count))

    def __len__(self) -> int:
        return len(self.names)

    def place(self, row: int) -> str:
        """Where a row [R] is, for a message: file and number, from 1."""
        at = int(self.order[row])
        if not self.files:
            return f"{self.where}: row {at + 1}"
        firsts = [first for _, first in self.files]
        name, first = self.files[int(np.searchsorted(firsts, at, side="right")) - 1]
        return f"{self.where}/{name}: row {at - first + 1}"

    def sequence_of(self, row: int) -> int:
        """The number of the sequence of a row."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """N arrays [T_i, …] of values [R, …]."""
        return [values[a:b] for a, b in pairwise(self.starts.tolist())]

    def first_change(self, values: np.ndarray) -> int | None:
        """The first row whose value differs from an earlier one of its sequence; None if every
        sequence has one value. values float64 [R]; NaN is unknown.
        """
        low, high = self.bounds(values)
        changing = np.flatnonzero(low < high)
        if len(changing) == 0:
            return None
        start, end = self.starts[changing[0]], self.starts[changing[0] + 1]
        own = values[start:end]
        known = np.flatnonzero(~np.isnan(own))
        return int(start + known[(own[known] != own[known[0]]).argmax()])

    def changes(self, values: np.ndarray) -> int:
        """The number of sequences with more than one value."""
        low, high = self.bounds(values)
        return int((low < high).sum())

    def bounds(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest known value of each sequence [N]; NaN where none is known."""
        at = self.starts[:-1]
        return np.fmin.reduceat(values, at), np.fmax.reduceat(values, at)
