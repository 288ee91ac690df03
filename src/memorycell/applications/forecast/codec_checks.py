"""Checks of a series codec from a model file that its types do not make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memorycell.applications.forecast.series import RETURN, SERIES, VALUE

if TYPE_CHECKING:
    from memorycell.applications.forecast.codec import SeriesCodec

MAX_COLUMNS = 10_000
MAX_SCALE = 1e300


def check_codec(codec: SeriesCodec) -> None:
    """Raises ValueError where the fields of a codec do not fit each other."""
    columns = codec.columns
    if not codec.targets or len(columns) > MAX_COLUMNS:
        raise ValueError("targets: expected one or more")
    for name in ("targets", "inputs", "gappy", "each", "known"):
        _check_distinct(name, getattr(codec, name))
    _check_distinct("columns", columns)
    _check_scaling("the scaling", (codec.mean, codec.std, codec.change), len(columns))
    for rows in codec.own.values():
        _check_scaling("the scaling of a series", rows, len(columns))
    if codec.bounds and len(codec.bounds) != 2 * len(columns):
        raise ValueError("bounds: expected two of each column")
    if not set(codec.known) <= {*codec.inputs, *codec.words}:
        raise ValueError("known: a column known in advance is not an input")
    if bool(codec.known) != (codec.reach > 0):
        raise ValueError("reach: expected the steps ahead of the inputs known in advance")
    if not set(codec.gappy) <= set(columns):
        raise ValueError("gappy: not a column")
    if codec.cycles is not None:
        _check_distinct("cycles", codec.cycles)
        if not set(codec.cycles) <= set(codec.clock.calendar):
            raise ValueError("cycles: not of this clock")
    for name, values in codec.static.items():
        _check_distinct(f"static {name!r}", values)
    for name, values in codec.words.items():
        _check_distinct(f"words {name!r}", values)
        if name in columns or name in codec.static or name == codec.group:
            raise ValueError(f"words {name!r}: the column has another use")
    if codec.static and codec.group is None:
        raise ValueError("static: needs a group")
    if codec.each and (codec.targets != (VALUE,) or codec.group != SERIES):
        raise ValueError("each: its target and group have fixed names")
    if codec.returns is not None and (codec.targets != (RETURN,) or codec.each):
        raise ValueError("returns: its target has a fixed name")
    if codec.clock.unit != "row" and codec.times is None:
        raise ValueError("times: a clock needs a column of times")


def _check_distinct(name: str, values: Sequence[str]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: a name occurs twice")


def _check_scaling(name: str, rows: Sequence[Sequence[float]], columns: int) -> None:
    """Rows of mean, standard deviation and standard deviation of the changes."""
    if len(rows) != 3 or any(len(row) != columns for row in rows):
        raise ValueError(f"{name} does not fit the columns")
    if not all(math.isfinite(v) and abs(v) < MAX_SCALE for row in rows for v in row):
        raise ValueError(f"{name} is not finite")
    if not all(value > 0 for row in rows[1:] for value in row):
        raise ValueError(f"{name}: expected standard deviations above 0")
