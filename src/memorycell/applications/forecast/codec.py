"""Series codec: from a table of readings to the inputs of each step, and from forecasts back to the
table's units.

Missing values and the empty steps of a gap repeat the last known values, and flags mark them. A gap
longer than `max_gap` steps starts a new segment with a zero state, in training and live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import numpy as np

from memorycell.applications.forecast.codec_checks import check_codec
from memorycell.applications.forecast.encoding import Scaling, encode_series
from memorycell.applications.forecast.series import (
    RETURN,
    VALUE,
    Series,
    concatenate_series,
    long_table,
    require_columns,
    resample,
    rows_by_series,
)
from memorycell.applications.forecast.words import read_words, word_labels
from memorycell.errors import DataError, quote
from memorycell.setting_fields import from_json
from memorycell.tables.clock import SECOND_US, Clock
from memorycell.tables.numbers import NumberFormat, read_numbers
from memorycell.tables.table import read_table
from memorycell.tables.times import TimeColumns

if TYPE_CHECKING:
    import polars as pl

MAX_INPUT = 1e30
"""Inputs are clipped to ± this, so that an extreme reading stays finite in float32."""


MAX_COUNT = 1_000_000
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]


@dataclass(frozen=True)
class SeriesCodec:
    """The columns, clock and scaling of a table. The field names are the keys in a model file.

    targets, inputs     the columns that are forecast, and the other columns
    clock, max_gap      the step, and the longest gap in steps that is filled
    times               the column of time stamps and how they are written; None: no clock
    numbers             column -> how its numbers are written, unless plain
    encoding, sheet     of the table's file; see `read_table`
    group               column that names the series of a row
    mean, std, change   of each column over the training steps; see `Scaling`
    bounds              of each column: scaled values, then changes, are clipped to ± these; empty
                        in earlier versions
    gappy               columns with missing values in training: an input flags them
    cycles              the calendar cycles that are inputs; None: all of the clock's
    each                columns stacked as series: `targets` is then `VALUE`, `group` is `SERIES`
    own                 series -> its mean, std and change, if series are scaled separately
    static              static column -> its values, one-hot inputs; it may be the `group` column
    known, reach        inputs whose next `reach` values are known in advance
    words               column of words -> its words, an input each
    returns             column of prices: the target is then `RETURN`, in percent
    positive            forecasts are clipped at 0
    """

    kind: ClassVar[str] = "series"
    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    clock: Clock
    max_gap: Count
    times: TimeColumns | None = None
    numbers: Mapping[str, NumberFormat] = field(default_factory=dict)
    encoding: str | None = None
    sheet: str | None = None
    group: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    change: tuple[float, ...] = ()
    bounds: tuple[Annotated[float, msgspec.Meta(gt=0, le=MAX_INPUT)], ...] = ()
    gappy: tuple[str, ...] = ()
    cycles: tuple[str, ...] | None = None
    each: tuple[str, ...] = ()
    own: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    static: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    reach: Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] = 0
    returns: str | None = None
    positive: bool = False
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was inferred from the table, for people."""

    @property
    def time(self) -> str | None:
        """The name of the column of time stamps."""
        return None if self.times is None else self.times.label

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `Series.values`."""
        return self.targets + self.inputs

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The columns of numbers and words that a live row must have."""
        own = [
            self.returns if c == RETURN and self.returns else c
            for c in self.columns
            if c != VALUE or not self.each
        ]
        known = (name for c in self.known for name in self.ahead_columns(c))
        return (*self.each, *own, *self.words, *known)

    def ahead_columns(self, column: str) -> list[str]:
        """The columns of a live row that hold the next values of one known in advance."""
        return [f"{column}+{k}" for k in range(1, self.reach + 1)]

    @property
    def known_numbers(self) -> tuple[str, ...]:
        """The inputs known in advance that are numbers."""
        return tuple(c for c in self.known if c not in self.words)

    @property
    def known_words(self) -> tuple[str, ...]:
        """The inputs known in advance that are words."""
        return tuple(c for c in self.known if c in self.words)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of a step's inputs, in order; the targets come first."""
        waves = ("sin", "cos", "sin 2", "cos 2")
        return (
            *self.columns,
            *(f"change of {c}" for c in self.columns),
            "observed",
            *(f"{c} missing" for c in self.gappy),
            *(f"{wave} of {name}" for name in self.calendar for wave in waves),
            *(f"{c} in {k}" for c in self.known_numbers for k in range(1, self.reach + 1)),
            *(f"{c} {label}" for c, words in self.words.items() for label in word_labels(words)),
            *(
                f"{c} in {k} {label}"
                for c in self.known_words
                for k in range(1, self.reach + 1)
                for label in word_labels(self.words[c])
            ),
            *(f"{c} is {word}" for c, words in self.static.items() for word in words),
        )

    @property
    def calendar(self) -> dict[str, float]:
        """The calendar cycles that are inputs, and their periods in seconds."""
        periods = self.clock.calendar.items()
        return {n: p for n, p in periods if self.cycles is None or n in self.cycles}

    @property
    def dynamic_size(self) -> int:
        """The number of inputs that change over time; they precede the static ones."""
        return len(self.features) - sum(len(words) for words in self.static.values())

    @property
    def words_at(self) -> int:
        """The first input that is a word."""
        return self.dynamic_size - sum(self.word_widths)

    @property
    def word_widths(self) -> list[int]:
        """The number of inputs of every word of a step: now, then those known in advance."""
        now = [len(words) + 1 for words in self.words.values()]
        return now + [len(self.words[c]) + 1 for c in self.known_words for _ in range(self.reach)]

    # ---- from a table ----------------------------------------------------------------------------

    def read_file(self, path: str | Path) -> pl.DataFrame:
        """The table in a file, written as the one in training."""
        return read_table(path, encoding=self.encoding, sheet=self.sheet)

    def read(self, frame: pl.DataFrame, where: str) -> Series:
        """The series of a table. Raises `DataError` that names the row and the fix."""
        table = long_table(
            frame,
            where,
            each=self.each,
            returns=self.returns,
            group=self.group,
            numbers=self.numbers,
        )
        optional = (c for c in (self.group, *self.words, *self.static) if c is not None)
        require_columns(table.columns, [*self.columns, *optional], where)
        values = np.stack(
            [read_numbers(table[c], where, self.numbers.get(c)) for c in self.columns], 1
        )
        time = np.arange(table.height, dtype=np.int64)
        if self.times is not None:
            time = self.times.read(table, where, self.group)
        groups, rows = rows_by_series(table, self.group)
        words = {c: read_words(table[c]) for c in self.words}
        if self.group is None:
            parts = [resample(self.clock, self.max_gap, time, values, words, rows[0], where)]
        else:
            parts = [
                resample(
                    self.clock,
                    self.max_gap,
                    time[r],
                    values[r],
                    {c: own[r] for c, own in words.items()},
                    r,
                    where,
                )
                for r in rows
            ]
        static = {c: [str(table[c][int(r[0])]) for r in rows] for c in self.static}
        return concatenate_series(parts, groups, static)

    # ---- inputs of a step ------------------------------------------------------------------------

    def encode(self, series: Series) -> np.ndarray:
        """[N, F] float32: the inputs of every step, in the order of `features`."""
        return encode_series(self, series)

    def assemble_inputs(
        self,
        filled: np.ndarray,
        before: np.ndarray,
        *,
        observed: np.ndarray,
        missing: np.ndarray,
        time: np.ndarray,
        scaling: Scaling,
        more: Sequence[np.ndarray],
    ) -> np.ndarray:
        """[N, F] float32: the inputs of N steps.

        filled, before   [N, C] values of the step and of the previous one, without NaN
        observed         [N] bool: a row was read; missing: [N, C] bool
        more             known inputs, words and static inputs, each [N, …]
        """
        gappy = [self.columns.index(c) for c in self.gappy]
        bounds, change_bounds = self.both_bounds
        parts = [
            np.clip((filled - scaling.mean) / scaling.std, -bounds, bounds),
            np.clip((filled - before) / scaling.change, -change_bounds, change_bounds),
            observed[:, None],
            missing[:, gappy],
            *(wave[:, None] for wave in self.calendar_waves(time)),
            *more,
        ]
        return np.clip(np.concatenate(parts, 1), -MAX_INPUT, MAX_INPUT).astype(np.float32)

    def is_clipped(self, values: np.ndarray, scaling: Scaling) -> np.ndarray:
        """[N, C] bool: which values [N, C] are beyond the bound."""
        return np.asarray(np.abs((values - scaling.mean) / scaling.std) > self.both_bounds[0])

    @property
    def both_bounds(self) -> np.ndarray:
        """[2, C]: of scaled values, and of scaled changes."""
        bounds = np.array(self.bounds) if self.bounds else np.full(2 * len(self.columns), MAX_INPUT)
        return bounds.reshape(2, -1)

    def fill(self, series: Series) -> np.ndarray:
        """[N, C] float64 in the table's units: missing values replaced by the last known one of the
        segment, or by the training mean. Without missing values, those of the series.
        """
        filled, mean = series.values, self.step_scaling(series).mean
        for k, values in enumerate(series.values.T):
            missing = np.isnan(values)
            if missing.any():
                filled = series.values.copy() if filled is series.values else filled
                index = np.where(missing, -1, np.arange(len(series)))
                np.maximum.accumulate(index, out=index)
                known = values[np.maximum(index, 0)]
                filled[:, k] = np.where(index >= series.start, known, mean[:, k])
        return filled

    def one_hot(self, static: Mapping[str, Sequence[str]]) -> np.ndarray:
        """[G, features] of the static columns of G series; zeros for an unknown value."""
        parts = [
            [[float(value == word) for word in words] for value in static[c]]
            for c, words in self.static.items()
        ]
        return np.concatenate([np.array(part) for part in parts], 1)

    def calendar_waves(self, time: np.ndarray) -> list[np.ndarray]:
        """Sine and cosine of every cycle and of its second harmonic, [N] each."""
        local = time if self.times is None else self.times.local(time)
        seconds, waves = local / SECOND_US, []
        for period in self.calendar.values():
            angle = 2 * np.pi * np.remainder(seconds, period) / period
            waves += [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
        return waves

    # ---- units -----------------------------------------------------------------------------------

    def scaling_of(self, names: Sequence[str]) -> Scaling:
        """The scaling [G, C] of G series. Raises `DataError` for a series without a scaling."""
        shared = (self.mean, self.std, self.change)
        if self.own and (new := next((name for name in names if name not in self.own), None)):
            raise DataError(
                f"series {quote(new)} was not in training, so that its scale is unknown;"
                " memorycell predict scales a new series by its own rows"
            )
        rows = [self.own.get(name, shared) for name in names]
        return Scaling(*(np.array([row[k] for row in rows]) for k in range(3)))

    def step_scaling(self, series: Series) -> Scaling:
        """The scaling [N, C] of every step."""
        scaling = self.scaling_of(series.groups)
        if len(series.groups) == 1:  # all steps share one row of memory
            shape = len(series), len(self.columns)
            return Scaling(*(np.broadcast_to(part[0], shape) for part in scaling))
        return Scaling(*(part[series.group] for part in scaling))

    def scale(self, values: np.ndarray, series: Series) -> np.ndarray:
        """Values of the targets [N, targets] in standard deviations of the training steps."""
        mean, std, _ = self.step_scaling(series)
        n = len(self.targets)
        return np.asarray((values - mean[:, :n]) / std[:, :n])

    def unscale(self, values: np.ndarray, names: Sequence[str] | None = None) -> np.ndarray:
        """Quantiles [M, ..., targets, K] in the table's units; names [M] of their series, which may
        be left out if all are scaled alike.
        """
        names = [""] * len(values) if names is None else names
        n, between = len(self.targets), (1,) * (values.ndim - 3)
        mean, std, _ = (
            part[:, :n].reshape(len(names), *between, n, 1) for part in self.scaling_of(names)
        )
        values = np.asarray(values * std + mean)
        return np.maximum(values, 0) if self.positive else values

    def stamp(self, time: int) -> str | int:
        """A time as text; the row number without a clock."""
        return self.times.text(time) if self.times is not None else int(time)

    def stamps_ahead(self, time: int, horizon: int) -> list[str | int]:
        """The times of the next steps; +1, +2, … where rows are the steps."""
        if self.clock.unit == "row":
            return [f"+{k}" for k in range(1, horizon + 1)]
        return [self.stamp(self.clock.after(time, k)) for k in range(1, horizon + 1)]

    # ---- in a model file -------------------------------------------------------------------------

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"input_size": len(self.features), "targets": len(self.targets)}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SeriesCodec:
        """See `Codec`. Earlier versions have `time` and `time_format` in place of `times`."""
        values = dict(data)
        column, pattern = values.pop("time", None), values.pop("time_format", None)
        if column is not None:
            values["times"] = {"columns": (column,), "pattern": pattern}
        codec = from_json(cls, values)
        check_codec(codec)
        return codec
