"""Which rows of a table form a sequence, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.tables_rows import Rows
from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.column_lists import split_names
from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import read_numbers
from memorycell.tables.time_formats import find_times

if TYPE_CHECKING:
    import polars as pl

SEQUENCE_NAMES = (
    "sequence", "sequence_id", "sequenceid", "seq", "seq_id", "series", "series_id", "recording",
    "recording_id", "case", "case_id", "case:concept:name", "trial", "trial_id", "episode",
    "session", "session_id", "unit", "unit_number", "engine_id", "sample", "sample_id", "id",
)  # fmt: skip
"""Names of columns that name the sequence, in lower case, in order of preference."""
STEP_NAMES = (
    "step", "time", "t", "timestep", "time_step", "frame", "cycle", "cycles", "time_cycles",
    "index", "seconds", "ms",
)  # fmt: skip
"""Names of columns of numbers that may order the rows, in lower case."""


def column_names(text: str | None, frame: pl.DataFrame, where: str) -> tuple[str, ...]:
    """The columns of a setting: one whose name may hold commas, or several. Raises `DataError`."""
    if text is None:
        return ()
    names = (text,) if text in frame.columns else split_names(text)
    for name in names:
        if name not in frame.columns:
            has = quote(", ".join(frame.columns))[1:-1]
            raise DataError(f"{where}: no column {quote(name)}; it has {has}")
    return names


class TableOrder:
    """Finds the sequences of a table and the order of their rows.

    sequence   columns that name the sequence of a row
    times      columns that order them
    rows       the result
    notes      what was found
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        where: str,
        options: ReadOptions,
        *,
        files: Sequence[tuple[str, int]] = (),
        taken: Sequence[str] = (),
        group: str | None = None,
    ) -> None:
        """Raises `DataError`.

        files   the names of the files of a folder and their first rows: one sequence each
        taken   columns with another role
        group   a name of a sequence stands for another one in each group
        """
        self.notes: list[str] = []
        self.frame, self.where, self.files = frame, where, files
        self.sequence = self._sequence_columns(options, taken)
        codes, names = self._codes(group)
        self.times, order_by = self._time(options, codes, {*taken, *self.sequence})
        self.rows = self._ordered(codes, names, order_by, options.time is not None)

    def _sequence_columns(self, options: ReadOptions, taken: Sequence[str]) -> tuple[str, ...]:
        if options.sequence is not None:
            return column_names(options.sequence, self.frame, self.where)
        if self.files:
            return ()
        by_lower = {c.strip().lower(): c for c in reversed(self.frame.columns) if c not in taken}
        for name in SEQUENCE_NAMES:
            if name in by_lower and 1 < self.frame[by_lower[name]].n_unique() < self.frame.height:
                self.notes.append(f"column {quote(by_lower[name])} names the sequences")
                return (by_lower[name],)
        return ()

    def _codes(self, group: str | None) -> tuple[np.ndarray, list[str]]:
        """(the number of each row's sequence int64 [R], names)."""
        import polars as pl

        if not self.sequence:
            if not self.files:
                return np.zeros(self.frame.height, np.int64), ["1"]
            firsts = [first for _, first in self.files]
            sizes = np.diff([*firsts, self.frame.height])
            return np.repeat(np.arange(len(sizes)), sizes), [name for name, _ in self.files]
        key = self._key(self.sequence)
        codes, names = codes_of(key)
        if group is not None and group not in self.sequence:
            groups, _ = codes_of(self.frame[group].cast(pl.String).fill_null(""))
            rows = _grouped(codes, len(names))
            if rows.first_change(groups[rows.order].astype(np.float64)) is not None:
                self.notes.append(
                    f"names of sequences repeat in different groups: sequences are named by"
                    f" {quote(group)} and {quote(', '.join(self.sequence))}"
                )
                self.sequence = (group, *self.sequence)
                codes, names = codes_of(self._key(self.sequence))
        return codes, names

    def _key(self, columns: Sequence[str]) -> pl.Series:
        import polars as pl

        parts = []
        for name in columns:
            part = self.frame[name].cast(pl.String).str.strip_chars()
            missing = part.is_null() | part.str.to_lowercase().is_in(list(MISSING_WORDS))
            if missing.any():
                row = int(missing.arg_true()[0])
                raise DataError(
                    f"{self.where}: row {row + 1}, column {quote(name)}: the name of the sequence"
                    " is missing; remove the row or name it"
                )
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        return pl.select(pl.concat_str(parts, separator="/")).to_series()

    def _time(
        self, options: ReadOptions, codes: np.ndarray, taken: set[str]
    ) -> tuple[tuple[str, ...], np.ndarray | None]:
        """(columns, what orders the rows [R]); (), None: the order of the rows counts."""
        free = self.frame.drop([c for c in taken if c in self.frame.columns])
        name = options.time
        if name is not None:
            numbers = self._step_numbers(name) if options.time_format is None else None
            if numbers is not None:
                return (name,), numbers
        else:
            by_lower = {c.strip().lower(): c for c in reversed(free.columns)}
            for lower in (n for n in STEP_NAMES if n in by_lower):
                numbers = self._step_numbers(by_lower[lower])
                if numbers is not None and _increases(numbers, codes):
                    self.notes.append(f"column {quote(by_lower[lower])} numbers the steps")
                    return (by_lower[lower],), numbers
        searched = free if name is None else self.frame
        times, notes = find_times(
            searched,
            self.where,
            time=name,
            time_format=options.time_format,
            zone=options.zone,
        )
        if times is None:
            return (), None
        self.notes += notes
        group = self.sequence[0] if len(self.sequence) == 1 else None
        return times.columns, times.read(self.frame, self.where, group)

    def _step_numbers(self, name: str) -> np.ndarray | None:
        """A column of numbers without missing ones as float64 [R]; None for another."""
        if name not in self.frame.columns:
            return None
        column = self.frame[name]
        try:
            found, _ = find_number_formats(column.to_frame(), [name], self.where, min_share=0.999)
            if name not in found or found[name].words or found[name].unit:
                return None
            numbers = read_numbers(column, self.where, found[name])
        except DataError:
            return None
        return None if np.isnan(numbers).any() else numbers

    def _ordered(
        self, codes: np.ndarray, names: list[str], time: np.ndarray | None, time_named: bool
    ) -> Rows:
        together = bool((np.diff(codes) >= 0).all())
        rows = _grouped(codes, len(names))
        rows = Rows(self.where, names, rows.starts, rows.order, self.files)
        if time is None:
            if not together:
                back = int(np.flatnonzero(np.diff(codes) < 0)[0]) + 1
                self.notes.append(
                    f"the rows of sequences are not together (first: {quote(names[codes[back]])},"
                    f" row {back + 1}): joined in the order of the table; if different sequences"
                    " have the same name, name more columns: --set sequence=A,B"
                )
            return rows
        inside = np.ones(len(codes), bool)
        inside[rows.starts[:-1]] = False
        ordered = time[rows.order]
        steps = np.diff(ordered, prepend=ordered[:1])
        late = inside & (steps < 0)
        if not late.any():
            equal = int((inside & (steps == 0)).sum())
            if equal:
                self.notes.append(f"{equal:,} rows have the same time as the row before")
            return rows
        order = np.lexsort((time, codes))
        again = np.diff(time[order], prepend=0) == 0
        again[rows.starts[:-1]] = False
        if again.any():
            at = int(again.argmax())
            one, two = sorted(int(order[k]) for k in (at - 1, at))
            self.times_collide(rows, one, two, names[codes[two]])
        self.notes.append(f"{int(late.sum()):,} rows were not in order of time: sorted")
        return Rows(self.where, names, rows.starts, order, self.files)

    def times_collide(self, rows: Rows, one: int, two: int, name: str) -> None:
        """Raises `DataError`: two rows of the table have the same time and sequence."""
        of = f" of sequence {quote(name)}" if len(rows) > 1 else ""
        raise DataError(
            f"{self.where}: row {two + 1}{of} has the same time as row {one + 1}, and rows are not"
            " in order; if different sequences have the same name, name more columns: --set"
            " sequence=A,B"
        )


def codes_of(key: pl.Series) -> tuple[np.ndarray, list[str]]:
    """(the number of each cell's word int64 [R], the words in order of appearance)."""
    import polars as pl

    runs = key.rle()
    values = runs.struct.field("value")
    names = values.unique(maintain_order=True)
    places = np.arange(len(values), dtype=np.int64)
    if len(names) < len(values):
        numbers = pl.Series(np.arange(len(names), dtype=np.int64))
        places = values.replace_strict(names, numbers, return_dtype=pl.Int64).to_numpy()
    return np.repeat(places, runs.struct.field("len").to_numpy()), names.to_list()


def _grouped(codes: np.ndarray, count: int) -> Rows:
    """The rows by sequence in the order of the table."""
    in_order = bool((np.diff(codes) >= 0).all())
    order = np.arange(len(codes)) if in_order else np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))])
    return Rows("", [""] * count, starts, order)


def _increases(time: np.ndarray, codes: np.ndarray) -> bool:
    """Whether the times increase from row to row of each sequence."""
    order = np.argsort(codes, kind="stable")
    same = np.diff(codes[order]) == 0
    return bool(same.any() and (np.diff(time[order])[same] > 0).all())
