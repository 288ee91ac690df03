"""How labelled sequences are read: which columns are what, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.applications.sequences.sequence_set import TARGET_KINDS
from memorycell.setting_fields import check_choices
from memorycell.tables.number_formats import check_separators


@dataclass(frozen=True)
class ReadOptions:
    """How data are read. Columns that are not named are inferred.

    sequence   column that names the sequence of a row, or several columns, with commas
    time       column of times or step numbers by which the rows of a sequence are ordered
    target     column (or columns, with commas) to predict
    kind       class, labels, number, step_class or step_number; by default from the target
    group      column, such as the subject, whose sequences stay in one part of the data
    static     columns that are constant within a sequence, with commas, or a table (file) with
               one row per sequence
    inputs     input columns, with commas; by default all that are not named otherwise
    labels     a table with one row per sequence: its name or file, its target, its group; by
               default labels.csv in a folder of files
    part       column of the official part: train, valid or test, or 0, 1 or 2
    layout     order of the axes of arrays: ntf (sequences, steps, channels) or nft
    encoding, sheet, time_format, zone, decimal, thousands   how tables are written
    """

    sequence: str | None = None
    time: str | None = None
    target: str | None = None
    kind: str | None = None
    group: str | None = None
    static: str | None = None
    inputs: str | None = None
    labels: str | None = None
    part: str | None = None
    layout: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    time_format: str | None = None
    zone: str | None = None
    decimal: str | None = None
    thousands: str | None = None

    def __post_init__(self) -> None:
        check_choices(self, kind=(None, *TARGET_KINDS), layout=(None, "ntf", "nft"))
        check_separators(self.decimal, self.thousands)
