"""Sequences from a table with one row per step, or from a folder of such tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.reading_targets import ReadTarget, read_target
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet
from memorycell.applications.sequences.splits import PART_WORDS
from memorycell.applications.sequences.tables_columns import (
    InputColumns,
    read_channels,
    read_columns,
)
from memorycell.applications.sequences.tables_order import TableOrder, column_names
from memorycell.applications.sequences.tables_per_sequence import (
    SequenceTable,
    read_sequence_table,
)
from memorycell.applications.sequences.tables_rows import Rows
from memorycell.applications.sequences.tables_static import (
    read_static,
    resolve_path,
    static_table_path,
)
from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.column_lists import split_names, unused_note
from memorycell.tables.numbers import NumberFormat, read_numbers

if TYPE_CHECKING:
    import polars as pl

TARGET_NAMES = ("target", "label", "class", "labels", "y", "activity", "rul", "category", "outcome")
"""Names of columns with the target in lower case, in order of preference."""
GROUP_NAMES = ("group", "subject", "subject_id", "patient", "patient_id", "participant", "user")
"""Names of columns of a table of labels with the group."""
PART_NAMES = ("part", "split", "set")
"""Names of columns of a table of labels with the official part."""


@dataclass
class TableSource:
    """A table as a reader found it.

    frame    rows, one per step
    where    file or folder, for messages
    base     the folder in which other tables are looked for
    files    of a folder: the name and the first row of each file, a sequence each
    labels   the table of labels
    parts    the official part of each row, int8 [R], where it comes from the file's name
    folders  the target is the name of the folder of each file
    notes    what the reader found
    """

    frame: pl.DataFrame
    where: str
    base: Path
    files: list[tuple[str, int]] = field(default_factory=list)
    labels: Path | None = None
    parts: np.ndarray | None = None
    folders: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def sequences_of_table(
    source: TableSource,
    options: ReadOptions,
    *,
    labelled: bool = True,
    channels: Sequence[Channel] | None = None,
    static_channels: Sequence[Channel] | None = None,
) -> SequenceSet:
    """The labelled sequences in a table; see `reading.read_sequences`. Raises `DataError`."""
    return _TableReader(source, options, labelled, channels, static_channels).read()


class _TableReader:
    def __init__(
        self,
        source: TableSource,
        options: ReadOptions,
        labelled: bool,
        channels: Sequence[Channel] | None,
        static_channels: Sequence[Channel] | None,
    ) -> None:
        self.source, self.frame, self.where = source, source.frame, source.where
        self.options, self.labelled = options, labelled
        self.channels, self.static_channels = channels, static_channels
        self.notes = list(source.notes)
        self.found: dict[str, str] = {}

    def read(self) -> SequenceSet:
        options, frame = self.options, self.frame
        own = {c for c in (options.group, options.part) if c in frame.columns}
        targets = self._target_columns()
        static_table = static_table_path(options, frame, self.source.base)
        statics = () if static_table else column_names(options.static, frame, self.where)
        ordered = TableOrder(
            frame,
            self.where,
            self._order_options(),
            files=self.source.files,
            taken=[*own, *targets, *statics],
            group=options.group if options.group in frame.columns else None,
        )
        self.notes += ordered.notes
        rows = ordered.rows
        self._remember(sequence=ordered.sequence, time=ordered.times, target=targets)
        labels = self._labels(rows.names)
        target = self._target(targets, labels, rows) if self.labelled else None
        inputs = self._inputs([*own, *targets, *statics, *ordered.sequence, *ordered.times])
        self._note_constant(inputs, rows)
        static = read_static(
            statics, static_table, frame, rows, options, self.static_channels, self.notes
        )
        data = SequenceSet(
            where=self.where,
            names=list(rows.names),
            channels=inputs.channels,
            values=rows.split(inputs.values[rows.order]),
            target=None if target is None else target.target,
            static_channels=static.channels,
            static=static.values if static.channels else None,
            groups=self._per_sequence(options.group, GROUP_NAMES, labels, rows),
            split=self._parts(labels, rows),
            notes=self.notes,
            formats=inputs.formats,
            found=self.found,
        )
        if target is not None and not target.labelled.all():
            data = data.select(target.labelled)
        return data

    def _order_options(self) -> ReadOptions:
        """The options by which rows are ordered. A table for `predict` may lack the column that
        names the sequence: it is one sequence; and that of the time: its rows are in order.
        """
        options = self.options
        if self.labelled:
            return options
        for role, meaning in (("sequence", "the table is one sequence"), ("time", "rows in order")):
            name = getattr(options, role)
            names = (name,) if name in self.frame.columns else split_names(name)
            if any(n not in self.frame.columns for n in names):
                self.notes.append(f"no column {quote(name)}: {meaning}")
                options = replace(options, **{role: None})
        return options

    def _remember(self, **found: Sequence[str]) -> None:
        for name, columns in found.items():
            if columns and getattr(self.options, name) is None:
                self.found[name] = ",".join(columns)

    # ---- target ----------------------------------------------------------------------------------

    def _target_columns(self) -> tuple[str, ...]:
        """Columns of the table that hold the target, in the table itself."""
        options, frame = self.options, self.frame
        if options.target is not None:
            if not self.labelled or self._labels_path() is not None:
                names = [n.strip() for n in options.target.split(",")]
                present = [n for n in (options.target, *names) if n in frame.columns]
                return tuple(dict.fromkeys(present))
            return column_names(options.target, frame, self.where)
        if self._labels_path() is not None or self.source.folders is not None:
            return ()
        by_lower = {c.strip().lower(): c for c in reversed(frame.columns)}
        for name in TARGET_NAMES:
            if name in by_lower:
                if self.labelled:
                    self.notes.append(f"column {quote(by_lower[name])} is the target")
                return (by_lower[name],)
        if self.labelled:
            has = quote(", ".join(frame.columns))[1:-1]
            raise DataError(
                f"{self.where}: name the column to predict: --set target=COLUMN; it has {has}"
            )
        return ()

    def _target(
        self, columns: Sequence[str], labels: SequenceTable | None, rows: Rows
    ) -> ReadTarget:
        import polars as pl

        options = self.options
        if columns:
            cells, own = [self.frame[c] for c in columns], rows
        else:
            own = Rows.one_each(self.where, rows.names)
            if labels is not None:
                names = self._label_columns(labels)
                self._remember(target=names)
                cells = [labels.column(name) for name in names]
                own = Rows(labels.where, own.names, own.starts, own.order)
            else:
                assert self.source.folders is not None
                cells = [pl.Series("folder", self.source.folders)]
                self.notes.append("the folders of the files are the classes")
        read = read_target(
            cells,
            own,
            options.kind,
            decimal=options.decimal,
            thousands=options.thousands,
            min_classes=2 if self.channels is None else 1,
        )
        self._remember(kind=(read.target.kind,))
        self.notes += read.notes
        if read.target.kind == "class" and len(rows) == 1 and self.channels is None:
            raise DataError(
                f"{self.where}: the table is one sequence with one class; name the column that"
                " tells sequences apart: --set sequence=COLUMN"
            )
        return read

    def _label_columns(self, labels: SequenceTable) -> tuple[str, ...]:
        options = self.options
        if options.target is not None:
            return column_names(options.target, labels.frame, labels.where)
        apart = {options.group, options.part, *GROUP_NAMES, *PART_NAMES}
        others = [c for c in labels.others if c not in apart and c.lower() not in apart]
        named = [c for n in TARGET_NAMES for c in others if c.lower() == n]
        chosen = named[:1] or others
        if len(chosen) != 1:
            names = quote(", ".join(labels.frame.columns))[1:-1]
            raise DataError(
                f"{labels.where}: name the column to predict: --set target=COLUMN; it has {names}"
            )
        self.notes.append(f"target {quote(chosen[0])} from {labels.where}")
        return (chosen[0],)

    def _labels_path(self) -> Path | None:
        if self.options.labels is not None:
            return resolve_path(self.source.base, self.options.labels)
        return self.source.labels

    def _labels(self, names: Sequence[str]) -> SequenceTable | None:
        path = self._labels_path()
        if path is None or (not self.labelled and not path.exists()):
            return None
        options = self.options
        table = read_sequence_table(path, names, options.sequence, options.encoding, self.notes)
        if table.unused:
            self.notes.append(
                f"{path.name}: {table.unused:,} of {table.frame.height:,} rows name no sequence of"
                " the data"
            )
        return table

    # ---- inputs ----------------------------------------------------------------------------------

    def _inputs(self, apart: Sequence[str]) -> InputColumns:
        options, frame = self.options, self.frame
        if self.channels is not None:
            known = {c.name for c in self.channels}
            extra = [c for c in frame.columns if c not in known and c not in apart]
            self.notes += unused_note(extra)
            return read_channels(
                frame,
                self.where,
                self.channels,
                reader=self._read_numbers,
                decimal=options.decimal,
                thousands=options.thousands,
            )
        named = options.inputs is not None
        candidates: Sequence[str] = column_names(options.inputs, frame, self.where)
        if not named:
            candidates = [c for c in frame.columns if c not in apart]
        elif wrong := [c for c in candidates if c in apart]:
            raise DataError(
                f"{self.where}: column {quote(wrong[0])} is an input and has another role as well;"
                " the target is never an input: leave it out of inputs"
            )
        read = read_columns(
            frame,
            self.where,
            candidates,
            named=named,
            reader=self._read_numbers,
            decimal=options.decimal,
            thousands=options.thousands,
        )
        self.notes += read.notes
        if not read.channels:
            raise DataError(
                f"{self.where}: no column of numbers or categories is left as input; name some:"
                " --set inputs=A,B"
            )
        return read

    def _read_numbers(self, column: pl.Series, number_format: NumberFormat) -> np.ndarray:
        """As `read_numbers`; in a folder, an error names the file and its own row."""
        try:
            return read_numbers(column, self.where, number_format)
        except DataError:
            ends = [first for _, first in self.source.files[1:]] + [len(column)]
            for (name, first), end in zip(self.source.files, ends, strict=False):
                read_numbers(column[first:end], f"{self.where}/{name}", number_format)
            raise

    def _note_constant(self, inputs: InputColumns, rows: Rows) -> None:
        """A note on inputs that may be groups: words that are constant within every sequence."""
        if self.channels is not None or self.options.inputs is not None or len(rows) < 2:
            return
        for k, channel in enumerate(inputs.channels):
            if channel.words is None and channel.name.lower() not in GROUP_NAMES:
                continue
            if rows.changes(inputs.values[rows.order, k]) == 0:
                self.notes.append(
                    f"input {quote(channel.name)} is constant within each sequence; if new data"
                    f" have other values, such as other persons: --set group={channel.name}"
                )

    # ---- values per sequence ---------------------------------------------------------------------

    def _per_sequence(
        self, name: str | None, usual: Sequence[str], labels: SequenceTable | None, rows: Rows
    ) -> list[str] | None:
        """The words of a column by sequence, from the table or that of labels; None: there is no
        such column.
        """
        import polars as pl

        if name is not None and name in self.frame.columns:
            first = rows.order[rows.starts[:-1]]
            column = self.frame[name].gather(first)
        elif labels is not None:
            by_lower = {c.lower(): c for c in labels.frame.columns}
            known = [by_lower[n] for n in usual if n in by_lower]
            chosen = name if name is not None else known[0] if known else None
            if chosen is None:
                return None
            column = labels.column(chosen)
        elif name is None or not self.labelled:
            return None
        else:
            column_names(name, self.frame, self.where)  # raises
            return None
        words = column.cast(pl.String).str.strip_chars()
        missing = words.is_null() | words.str.to_lowercase().is_in(list(MISSING_WORDS))
        names = pl.Series(rows.names)
        return words.zip_with(~missing, names).to_list()  # without one: a group of its own

    def _parts(self, labels: SequenceTable | None, rows: Rows) -> np.ndarray | None:
        if not self.labelled:
            return None
        if self.source.parts is not None:
            return self.source.parts[rows.order[rows.starts[:-1]]]
        words = self._per_sequence(self.options.part, PART_NAMES, labels, rows)
        if words is None:
            return None
        codes = [PART_WORDS.get(word.lower()) for word in words]
        if None in codes:
            word = words[codes.index(None)]
            if self.options.part is None:
                return None
            raise DataError(
                f"{self.where}: column {quote(self.options.part)} is {quote(word)}; expected train,"
                " valid or test"
            )
        return np.array(codes, np.int8)
