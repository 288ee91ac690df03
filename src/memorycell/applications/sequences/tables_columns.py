"""Input columns of a table: numbers and categories."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.sequence_set import Channel
from memorycell.errors import DataError, quote
from memorycell.tables.cells import MISSING_WORDS
from memorycell.tables.index import unused_reason
from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import PLAIN, NumberFormat, read_numbers

if TYPE_CHECKING:
    import polars as pl

MAX_CATEGORIES = 64
"""Different words of a column, from which on they are names and no input."""
MIN_NUMBER_SHARE = 0.9
"""Of the values of a numeric column; other values in it are reported as errors with their row."""
MAX_MAGNITUDE = 1e150
"""Numbers are clipped to ± this value, so that their squares are finite."""


@dataclass
class InputColumns:
    """Columns of R cells: `values` float64 [R, F], NaN where missing, categories by number."""

    channels: list[Channel]
    values: np.ndarray
    formats: dict[str, NumberFormat] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


NumberReader = Callable[["pl.Series", NumberFormat], np.ndarray]
"""Reads a column as float64 [R]; raises `DataError` that names the row."""


def read_columns(
    frame: pl.DataFrame,
    where: str,
    candidates: Sequence[str],
    *,
    named: bool,
    reader: NumberReader | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
) -> InputColumns:
    """The columns that can be inputs, and notes on the others: counters of rows, names, and
    columns without values, or with one value unless they are `named`. Raises `DataError`.
    """
    notes, names = [], []
    for name in candidates:
        reason = None if named else unused_reason(frame[name])
        if reason is None and frame[name].null_count() == frame.height:
            reason = "it has no values"
        if reason is None:
            names.append(name)
        else:
            notes.append(f"column {quote(name)} left out: {reason}")
    formats, format_notes = find_number_formats(
        frame, names, where, decimal=decimal, thousands=thousands, min_share=MIN_NUMBER_SHARE
    )
    notes += format_notes
    channels: list[Channel] = []
    arrays: list[np.ndarray] = []
    for name in names:
        if name in formats:
            values, words = _numbers(frame[name], where, formats[name], reader), None
        else:
            words, values = _categories(frame[name], where)
            if len(words) > MAX_CATEGORIES and not named:
                notes.append(
                    f"column {quote(name)} left out: {len(words):,} different words are names, no"
                    " categories"
                )
                continue
        low, high = _range(values)
        if math.isnan(low) or (low == high and not named):
            problem = "has no values" if math.isnan(low) else "is always the same"
            notes.append(f"column {quote(name)} left out: it {problem}")
            continue
        channels.append(Channel(name, words))
        arrays.append(values)
    written = {c.name: formats[c.name] for c in channels if formats.get(c.name, PLAIN) != PLAIN}
    table = np.stack(arrays, 1) if arrays else np.zeros((frame.height, 0))
    return InputColumns(channels, table, written, notes)


def read_channels(
    frame: pl.DataFrame,
    where: str,
    channels: Sequence[Channel],
    *,
    reader: NumberReader | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
) -> InputColumns:
    """The columns of a model's channels, in their order. Raises `DataError` for one that is missing
    or holds something else.
    """
    missing = [c.name for c in channels if c.name not in frame.columns]
    if missing:
        has = quote(", ".join(frame.columns))[1:-1]
        raise DataError(
            f"{where}: no column {quote(missing[0])}, which the model reads; the table has {has}"
        )
    numeric = [c.name for c in channels if c.words is None]
    formats, notes = find_number_formats(
        frame, numeric, where, decimal=decimal, thousands=thousands, min_share=0.0
    )
    arrays, found = [], []
    for channel in channels:
        column = frame[channel.name]
        if channel.words is None:
            arrays.append(_numbers(column, where, formats.get(channel.name, PLAIN), reader))
            found.append(channel)
        else:
            words, values = _categories(column, where)
            arrays.append(values)
            found.append(Channel(channel.name, words))
    table = np.stack(arrays, 1) if arrays else np.zeros((frame.height, 0))
    written = {name: own for name, own in formats.items() if own != PLAIN}
    return InputColumns(found, table, written, notes)


def _numbers(
    column: pl.Series, where: str, number_format: NumberFormat, reader: NumberReader | None
) -> np.ndarray:
    values = (
        read_numbers(column, where, number_format)
        if reader is None
        else reader(column, number_format)
    )
    return np.clip(values, -MAX_MAGNITUDE, MAX_MAGNITUDE)


def _categories(column: pl.Series, where: str) -> tuple[tuple[str, ...], np.ndarray]:
    """(the different words in order, the place of each cell's word float64 [R], NaN: missing)."""
    import polars as pl

    try:
        words = column.cast(pl.String).str.strip_chars()
    except pl.exceptions.PolarsError:
        kind = quote(str(column.dtype))[1:-1]
        raise DataError(
            f"{where}: column {quote(column.name)} holds {kind}, expected numbers or words"
        ) from None
    words = words.set(words.str.to_lowercase().is_in(list(MISSING_WORDS)), None)
    names = words.drop_nulls().unique().sort()
    if len(names) == 0:
        return (), np.full(len(words), math.nan)
    places = pl.Series(range(len(names)), dtype=pl.Float64)
    found = words.replace_strict(names, places, default=None, return_dtype=pl.Float64)
    return tuple(names), found.fill_null(math.nan).to_numpy().astype(np.float64)


def _range(values: np.ndarray) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
