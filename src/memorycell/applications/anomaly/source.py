"""The tables of a file or a folder, and the roles of their columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from memorycell.applications.anomaly.columns import GAP, Columns, names_of
from memorycell.errors import DataError, quote
from memorycell.tables.cells import is_missing
from memorycell.tables.index import unused_reason
from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import PLAIN
from memorycell.tables.table import TABLE_SUFFIXES, read_table
from memorycell.tables.time_formats import find_times

if TYPE_CHECKING:
    import polars as pl

MAX_CATEGORIES = 64
"""Categories of a column; rarer ones share one id."""
MAX_TEXT_SHARE = 0.1
"""Of the values of a numeric column; such values are reported as errors with their row."""


class Table(NamedTuple):
    """A table and its names.

    name    in its folder; "" for a single file
    where   for error messages
    """

    name: str
    where: str
    frame: pl.DataFrame


def read_tables(
    path: Path,
    where: str,
    label: str | None,
    *,
    encoding: str | None = None,
    sheet: str | None = None,
) -> tuple[list[Table], list[str]]:
    """(the table in a file, or those in a folder and its subfolders; notes).

    label   tables of a folder without this column are left out

    Raises `DataError` where no table is left.
    """
    notes: list[str] = []
    if not path.is_dir():
        frame = read_table(path, encoding=encoding, sheet=sheet, notes=notes)
        return [Table("", where, frame)], notes
    files = sorted(
        f
        for f in path.rglob("*")
        if f.name.lower().endswith(TABLE_SUFFIXES) and not f.name.startswith(".")
    )
    if not files:
        raise DataError(f"{where}: a folder without tables ({', '.join(TABLE_SUFFIXES)})")
    tables = []
    for file in files:
        name, own_notes = file.relative_to(path).as_posix(), list[str]()
        frame = read_table(file, encoding=encoding, sheet=sheet, notes=own_notes)
        tables.append(Table(name, f"{where}/{name}", frame))
        notes += [f"{name}: {note}" for note in own_notes]
    if label is None:
        return tables, notes
    labelled = [table for table in tables if label in table.frame.columns]
    if not labelled:
        raise DataError(f"{where}: no table in it has the column {quote(label)}")
    skipped = [table.name for table in tables if label not in table.frame.columns]
    if skipped:
        names = names_of(skipped)[1:-1]
        notes.append(
            f"left out: {len(skipped)} of {len(tables)} tables, without the column {quote(label)}:"
            f" {names}"
        )
    return labelled, notes


def joined(tables: Sequence[Table]) -> pl.DataFrame:
    """The rows of all tables, with the columns that all of them have. Raises `DataError` where
    their types differ.
    """
    import polars as pl

    if len(tables) == 1:
        return tables[0].frame
    common = [c for c in tables[0].frame.columns if all(c in t.frame.columns for t in tables)]
    try:
        return pl.concat([t.frame.select(common) for t in tables], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        reason = quote((str(error).splitlines() or [""])[0])
        raise DataError(
            f"{tables[0].where}: its columns differ from other tables' ({reason})"
        ) from None


def infer_columns(
    frame: pl.DataFrame,
    where: str,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    time_format: str | None = None,
    zone: str | None = None,
    group: str | None = None,
    label: str | None = None,
    gap: bool | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
) -> tuple[Columns, list[str]]:
    """(the columns of a table as named or inferred, notes). Raises `DataError`.

    gap   add `GAP` to the numbers; by default if there are categories
    """
    for name in (*(columns or ()), group, label):
        if name is not None and name not in frame.columns:
            raise DataError(f"{where}: no column {quote(name)}; it has {names_of(frame.columns)}")
    if GAP in frame.columns:
        raise DataError(f"{where}: column {quote(GAP)}: the name has a meaning here; rename it")
    searched = frame if time is not None else frame.drop(columns or ())
    times, notes = find_times(searched, where, time=time, time_format=time_format, zone=zone)
    roles = {group, label, *(times.columns if times else ())}
    for name in columns or ():
        if name in roles or (columns or ()).count(name) > 1:
            raise DataError(
                f"{where}: column {quote(name)} is named twice: in columns, and there again or as"
                " the time, group or label"
            )
    candidates, index_notes = _candidates(frame, roles, columns)
    varying, constant_notes = _varying(frame, where, candidates, named=columns is not None)
    formats, format_notes = find_number_formats(
        frame,
        varying,
        where,
        decimal=decimal,
        thousands=thousands,
        min_share=1 - MAX_TEXT_SHARE,
    )
    numbers = [name for name in varying if name in formats]
    categories, text_notes = _categories(frame, varying, formats, named=columns is not None)
    notes = [*notes, *index_notes, *constant_notes, *format_notes, *text_notes]
    if not numbers and not categories:
        raise DataError(
            f"{where}: no numeric or categorical column is left; name some with --set columns=A,B"
        )
    if times is not None and (bool(categories) if gap is None else gap):
        numbers.append(GAP)
    written = {name: own for name, own in formats.items() if own != PLAIN}
    return Columns(tuple(numbers), tuple(categories), times, group, label, written), notes


def _candidates(
    frame: pl.DataFrame, roles: set[str | None], columns: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """(the columns that may be monitored, notes on indexes and counters)."""
    if columns is not None:
        return list(columns), []
    names, notes = [], []
    for name in frame.columns:
        if name in roles:
            continue
        reason = unused_reason(frame[name])
        if reason is None:
            names.append(name)
        else:
            notes.append(f"column {quote(name)} left out: {reason}")
    return names, notes


def _varying(
    frame: pl.DataFrame, where: str, columns: Sequence[str], *, named: bool
) -> tuple[list[str], list[str]]:
    """(the columns with more than one value, notes on the others)."""
    names, notes = [], []
    for name in columns:
        distinct = {str(v) for v in frame[name].unique().to_list() if not is_missing(v)}
        if len(distinct) > 1:
            names.append(name)
            continue
        problem = "is always the same" if distinct else "has no values"
        if named:
            raise DataError(f"{where}: column {quote(name)} {problem}; choose another")
        notes.append(f"column {quote(name)} left out: it {problem}")
    return names, notes


def _categories(
    frame: pl.DataFrame, columns: Sequence[str], numbers: Collection[str], *, named: bool
) -> tuple[list[str], list[str]]:
    """(the columns of categories, notes on columns of names)."""
    categories, notes = [], []
    for name in columns:
        if name in numbers:
            continue
        known = [v for v in frame[name].to_list() if not is_missing(v)]
        distinct = len({str(v) for v in known})
        if named or distinct <= max(MAX_CATEGORIES, len(known) // 20):
            categories.append(name)
        else:
            notes.append(
                f"column {quote(name)} left out: {distinct:,} different texts are names, not"
                " categories"
            )
    return categories, notes
