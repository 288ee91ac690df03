"""What is predicted: its kind and values, from the cells of one column or of several."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from memorycell.applications.sequences.sequence_set import Target, TargetKind
from memorycell.applications.sequences.tables_rows import Rows
from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import number_text, read_numbers

if TYPE_CHECKING:
    import polars as pl

MAX_NUMBERED_CLASSES = 30
"""Up to as many different whole numbers are read as classes."""
MIN_OF_A_CLASS = 2
"""Mean number of sequences (or steps) per whole number, below which they are not classes."""
MAX_CLASSES = 10_000
MIN_NUMBER_SHARE = 0.999
"""Of the cells of a column of numbers that are classes; others are reported with their row."""
LABEL_SEPARATORS = re.compile(r"\s*[;|]\s*")
"""Between the labels of a cell; a comma too where no cell has these."""


class TargetColumn(NamedTuple):
    """A target column: numbers float64 [R], NaN where missing, which are the places of `words`
    where the cells are classes.
    """

    name: str
    numbers: np.ndarray
    words: tuple[str, ...] | None
    whole: bool


@dataclass
class ReadTarget:
    """A target, which of the N sequences have one (bool [N]), and notes."""

    target: Target
    labelled: np.ndarray
    notes: list[str]


def read_target(
    columns: Sequence[pl.Series],
    rows: Rows,
    kind: str | None,
    *,
    decimal: str | None = None,
    thousands: str | None = None,
    classes: bool | None = None,
    min_classes: int = 2,
) -> ReadTarget:
    """The target in columns of R cells, in the order of the table.

    kind      None: `class` for words and for few different whole numbers, else `number`; at every
              step where it varies within a sequence; `labels` for several columns of 0 and 1, and
              for cells such as a;b
    classes   what is known of the numbers of one column from elsewhere: whether they are classes

    Raises `DataError` where the cells are not of the kind, with the row.
    """
    given = kind
    lists = kind == "labels" or (kind is None and _has_several(columns[0]))
    if lists and len(columns) == 1 and _is_text(columns[0]):
        return _read_label_lists(columns[0], rows)
    as_class = classes if kind is None else kind in ("class", "step_class")
    if kind is None and len(columns) > 1:
        as_class = False
    read = [_parse(c, rows, as_class, decimal, thousands) for c in columns]
    ordered = [c._replace(numbers=c.numbers[rows.order]) for c in read]
    for column in ordered:
        if np.isnan(column.numbers).all():
            raise DataError(f"{rows.where}: column {quote(column.name)}: no target is known")
    change = _first_change(ordered, rows)
    notes = []
    if kind is None:
        kind, note = _infer_kind(ordered, rows, classes, change is not None)
        notes = [note] if note else []
    if change is not None and not kind.startswith("step"):
        raise _varies(ordered, rows, kind, change)
    if kind in ("class", "step_class"):
        if len(ordered) > 1:
            names = ", ".join(quote(c.name) for c in ordered)
            raise DataError(
                f"{rows.where}: target={names}: kind={kind} takes one column; several columns of 0"
                " and 1 are kind=labels"
            )
        target, labelled = _classes(ordered[0], rows, kind == "step_class", min_classes)
    else:
        target, labelled = _numbers(ordered, rows, kind)
    if given is None and change is not None:
        notes += _rare_change_note(ordered, rows, kind, change)
    notes += _left_out(labelled, rows)
    return ReadTarget(target, labelled, notes)


def _infer_kind(
    columns: Sequence[TargetColumn], rows: Rows, classes: bool | None, varies: bool
) -> tuple[TargetKind, str]:
    """(kind, note)."""
    if len(columns) > 1:
        binary = all(np.isin(c.numbers[~np.isnan(c.numbers)], (0, 1)).all() for c in columns)
        if binary and not varies:
            return "labels", ""
        return ("step_number" if varies else "number"), ""
    column = columns[0]
    name = quote(column.name)
    if column.words is not None:
        return ("step_class" if varies else "class"), ""
    known = column.numbers[~np.isnan(column.numbers)]
    if not varies:
        known = rows.bounds(column.numbers)[0]
        known = known[~np.isnan(known)]
    different = len(np.unique(known))
    few = (
        column.whole
        and different <= MAX_NUMBERED_CLASSES
        and different * MIN_OF_A_CLASS <= len(known)
    )
    if few if classes is None else classes:
        kind: TargetKind = "step_class" if varies else "class"
        other = "step_number" if varies else "number"
        note = f"target {name}: {different} different whole numbers are classes"
        return kind, "" if classes else f"{note}; else --set kind={other}"
    kind, other = ("step_number", "step_class") if varies else ("number", "class")
    whole = f", whole ones; else --set kind={other}" if column.whole and classes is None else ""
    return kind, f"target {name}: {different:,} different numbers{whole}" if whole else ""


def _parse(
    column: pl.Series,
    rows: Rows,
    as_class: bool | None,
    decimal: str | None,
    thousands: str | None,
) -> TargetColumn:
    """A column in the order of the table."""
    import polars as pl

    name = column.name
    if column.dtype in (pl.Categorical, pl.Enum) or column.dtype == pl.Boolean:
        column = column.cast(pl.String)
    if not (column.dtype == pl.String or column.dtype.is_numeric() or column.dtype == pl.Null):
        kind = quote(str(column.dtype))[1:-1]
        raise DataError(f"{rows.where}: column {quote(name)} holds {kind}, expected the target")
    share = 0.0 if as_class is False else MIN_NUMBER_SHARE
    formats, _ = find_number_formats(
        column.to_frame(),
        [name],
        rows.where,
        decimal=decimal,
        thousands=thousands,
        min_share=share,
    )
    found = formats.get(name)
    as_words = found is None or (as_class is not False and bool(found.words or found.unit))
    if column.dtype == pl.String and as_words:
        if as_class is False:
            read_numbers(column, rows.where)  # raises for the first cell that is not a number
        words = column.str.strip_chars()
        words = words.set(words.str.to_lowercase().is_in(list(MISSING_WORDS)), None)
        names = words.drop_nulls().unique().sort()
        if len(names) > MAX_CLASSES:
            raise DataError(
                f"{rows.where}: column {quote(name)}: {len(names):,} different words are no"
                " classes; name another target"
            )
        codes = _codes(words, names)
        return TargetColumn(name, codes, tuple(names.to_list()), False)
    numbers = read_numbers(column, rows.where, found)
    known = numbers[~np.isnan(numbers)]
    whole = bool((known == np.floor(known)).all())
    if as_class:
        values = np.unique(known)
        if len(values) > MAX_CLASSES:
            raise DataError(
                f"{rows.where}: column {quote(name)}: {len(values):,} different numbers are no"
                " classes; --set kind=number"
            )
        codes = np.searchsorted(values, numbers).astype(np.float64)
        codes[np.isnan(numbers)] = math.nan
        return TargetColumn(name, codes, tuple(number_text(v) for v in values), whole)
    return TargetColumn(name, numbers, None, whole)


def _codes(words: pl.Series, names: pl.Series) -> np.ndarray:
    """The place of each word in `names`, float64 [R], NaN where missing."""
    import polars as pl

    if len(names) == 0:
        return np.full(len(words), math.nan)
    places = pl.Series(range(len(names)), dtype=pl.Float64)
    found = words.replace_strict(names, places, default=None, return_dtype=pl.Float64)
    return found.fill_null(math.nan).to_numpy().astype(np.float64)


def _first_change(columns: Sequence[TargetColumn], rows: Rows) -> tuple[int, int] | None:
    """(number of the column, row) of the first value that differs within a sequence."""
    changes = [(rows.first_change(c.numbers), k) for k, c in enumerate(columns)]
    found = [(row, k) for row, k in changes if row is not None]
    return (min(found)[1], min(found)[0]) if found else None


def _text(column: TargetColumn, value: float) -> str:
    return number_text(value) if column.words is None else column.words[int(value)]


def _varies(
    columns: Sequence[TargetColumn], rows: Rows, kind: str, change: tuple[int, int]
) -> DataError:
    column, row = columns[change[0]], change[1]
    sequence = rows.sequence_of(row)
    own = column.numbers[rows.starts[sequence] : row]
    before = own[~np.isnan(own)][0]
    step = "step_class" if kind == "class" else "step_number"
    return DataError(
        f"{rows.place(row)}: column {quote(column.name)} is"
        f" {quote(_text(column, column.numbers[row]))}, but {quote(_text(column, before))} before"
        f" in sequence {quote(rows.names[sequence])}; kind={kind} has one value per sequence:"
        f" correct it, or predict it at every step: --set kind={step}"
    )


def _rare_change_note(
    columns: Sequence[TargetColumn], rows: Rows, kind: str, change: tuple[int, int]
) -> list[str]:
    column = columns[change[0]]
    count = rows.changes(column.numbers)
    if count == len(rows):
        return []
    name = quote(rows.names[rows.sequence_of(change[1])])
    place = rows.place(change[1]).removeprefix(f"{rows.where}: ")
    return [
        f"target {quote(column.name)} varies in {count:,} of {len(rows):,} sequences (first:"
        f" {name}, {place}): predicted at every step (kind={kind})"
    ]


def _classes(
    column: TargetColumn, rows: Rows, step: bool, min_classes: int
) -> tuple[Target, np.ndarray]:
    if column.words is None:  # numbers that were inferred to be classes
        known = np.unique(column.numbers[~np.isnan(column.numbers)])
        codes = np.searchsorted(known, column.numbers).astype(np.float64)
        codes[np.isnan(column.numbers)] = math.nan
        column = column._replace(numbers=codes, words=tuple(number_text(v) for v in known))
    assert column.words is not None
    if len(column.words) < min_classes:
        raise DataError(
            f"{rows.where}: column {quote(column.name)} is always {quote(column.words[0])}; to"
            " predict a class takes two or more"
        )
    value = rows.bounds(column.numbers)[0]
    labelled = ~np.isnan(value)
    if step:
        codes = np.where(np.isnan(column.numbers), -1, column.numbers).astype(np.int64)
        return Target("step_class", column.words, rows.split(codes)), labelled
    return Target("class", column.words, np.where(labelled, value, 0).astype(np.int64)), labelled


def _numbers(columns: Sequence[TargetColumn], rows: Rows, kind: str) -> tuple[Target, np.ndarray]:
    names = tuple(c.name for c in columns)
    if kind == "step_number":
        values = np.stack([c.numbers for c in columns], 1)
        known = rows.bounds(values.max(1))[0]  # NaN where one of the columns is missing
        return Target("step_number", names, rows.split(values)), ~np.isnan(known)
    table = np.stack([rows.bounds(c.numbers)[0] for c in columns], 1)
    labelled = ~np.isnan(table).any(1)
    if kind == "labels":
        wrong = ~np.isin(table, (0, 1)) & ~np.isnan(table)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise DataError(
                f"{rows.place(int(rows.starts[row]))}: column {quote(names[column])} is"
                f" {table[row, column]:g}; kind=labels takes 0 and 1"
            )
        return Target("labels", names, table.astype(np.float32)), labelled
    return Target("number", names, table), labelled


def _is_text(column: pl.Series) -> bool:
    import polars as pl

    return column.dtype in (pl.String, pl.Categorical, pl.Enum)


def _has_several(column: pl.Series) -> bool:
    """Whether cells list labels with ; between them."""
    import polars as pl

    return column.dtype == pl.String and bool(column.str.contains(r"\S[;|]\s*\S").any())


def _read_label_lists(column: pl.Series, rows: Rows) -> ReadTarget:
    """Labels in cells such as a;b, one cell per sequence or the same in all of its rows."""
    import polars as pl

    words = column.cast(pl.String).str.strip_chars()
    words = words.set(words.str.to_lowercase().is_in(list(MISSING_WORDS)), None)
    cells = words.drop_nulls().unique().sort()
    read = TargetColumn(column.name, _codes(words, cells)[rows.order], tuple(cells), False)
    change = rows.first_change(read.numbers)
    if change is not None:
        raise _varies([read], rows, "labels", (0, change))
    comma = not any(LABEL_SEPARATORS.search(cell) for cell in cells)
    lists = [
        [p.strip() for p in (cell.split(",") if comma else LABEL_SEPARATORS.split(cell))]
        for cell in cells
    ]
    names = tuple(sorted({label for labels in lists for label in labels if label}))
    if not names:
        raise DataError(f"{rows.where}: column {quote(column.name)}: no target is known")
    table = np.array([[name in labels for name in names] for labels in lists], np.float32)
    code = rows.bounds(read.numbers)[0]
    labelled = ~np.isnan(code)
    values = table[np.where(labelled, code, 0).astype(np.int64)]
    notes = [f"target {quote(column.name)}: {len(names)} labels, several per sequence"]
    return ReadTarget(Target("labels", names, values), labelled, notes + _left_out(labelled, rows))


def _left_out(labelled: np.ndarray, rows: Rows) -> list[str]:
    count = int((~labelled).sum())
    if not count:
        return []
    first = rows.names[int((~labelled).argmax())]
    return [
        f"{count:,} of {len(rows):,} sequences left out: their target is missing (first:"
        f" {quote(first)})"
    ]
