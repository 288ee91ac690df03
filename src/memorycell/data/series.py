"""Series codec: from a table of readings to the inputs of a step, in a batch and live, and from forecasts back to units.

A table becomes a `Series`: one row a step, all series of the file one after another, gaps filled with empty steps. A gap
longer than `max_gap` steps is not filled: a new segment begins there and the state starts afresh, in training as live.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from memorycell.data import clock as clocks
from memorycell.data.clock import Clock
from memorycell.data.tables import (
    is_missing,
    looks_like_time,
    mean_and_deviation,
    number_in,
    numbers,
    time_in,
    times,
)
from memorycell.errors import DataError

if TYPE_CHECKING:
    import polars as pl

TIME_NAMES = ("time", "datetime", "timestamp", "date", "ds", "date_time", "time_hour")


@dataclass
class Series:
    """All the steps of a table, one series after another.

    time      [N] int64, microseconds since 1970 (the row number where there is no clock)
    values    [N, C] float64 in the table's units, NaN where missing; the targets first
    row       [N] int64, the row of the table from 0, or -1 for a step that fills a gap
    start     [N] int64, the step at which the step's segment begins
    group     [N] int64, index into `groups`
    skipped   rows left out because they share a step with the row before
    """

    time: np.ndarray
    values: np.ndarray
    row: np.ndarray
    start: np.ndarray
    group: np.ndarray
    groups: list[str]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.time)

    @property
    def reset(self) -> np.ndarray:
        """[N] bool: a segment begins at this step."""
        return np.asarray(self.start == np.arange(len(self)))

    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the data, whatever the file's format."""
        digest = hashlib.sha256()
        for array in (self.time, self.values, self.start):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class SeriesCodec:
    """What it takes to read a row: columns, clock, scaling.

    mean, std, change   of each column over the training steps: for scaling values and their step-to-step changes
    gappy               columns that had missing values in training; the model is told when they are missing
    """

    kind: ClassVar[str] = "series"
    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    clock: Clock
    max_gap: int
    time: str | None = None
    time_format: str | None = None
    group: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    change: tuple[float, ...] = ()
    gappy: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was decided about the table on its own, for people to read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `Series.values`."""
        return self.targets + self.inputs

    @property
    def features(self) -> tuple[str, ...]:
        """The names of a step's inputs, in order; the first are the targets' own levels."""
        return (
            *self.columns,
            *(f"change of {c}" for c in self.columns),
            "observed",
            *(f"{c} missing" for c in self.gappy),
            *(f"{wave} of {name}" for name, _ in self.clock.calendar for wave in ("sin", "cos", "sin 2", "cos 2")),
        )

    # ---- from a table -----------------------------------------------------------------------------------------------

    def read(self, frame: pl.DataFrame, where: str) -> Series:
        """The steps of a table. Raises `DataError` naming the row and the mend."""
        missing = [c for c in (*self.columns, self.time, self.group) if c is not None and c not in frame.columns]
        if missing:
            raise DataError(f"{where}: no column {missing[0]!r}; it has {', '.join(map(repr, frame.columns))}")
        values = np.stack([numbers(frame[c], where) for c in self.columns], 1)
        moments = (
            np.arange(frame.height, dtype=np.int64)
            if self.time is None
            else times(frame[self.time], where, self.time_format)
        )
        if self.group is None:
            names, members = [""], [np.arange(frame.height)]
        else:
            labels = [str(v) for v in frame[self.group]]
            names = list(dict.fromkeys(labels))
            which = np.array([names.index(label) for label in labels]) if len(names) < 50 else _indices(labels, names)
            members = [np.flatnonzero(which == k) for k in range(len(names))]
        parts = [self._grid(moments[m], values[m], m, where) for m in members]
        offsets = np.cumsum([0, *(len(p[0]) for p in parts)])
        return Series(
            time=np.concatenate([p[0] for p in parts]),
            values=np.concatenate([p[1] for p in parts]),
            row=np.concatenate([p[2] for p in parts]),
            start=np.concatenate([p[3] + o for p, o in zip(parts, offsets, strict=False)]),
            group=np.concatenate([np.full(len(p[0]), k) for k, p in enumerate(parts)]),
            groups=names,
            skipped=sum(p[4] for p in parts),
        )

    def _grid(
        self, moments: np.ndarray, values: np.ndarray, rows: np.ndarray, where: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """One series on its steps: (time, values, row, start, rows left out)."""
        kept, steps = clocks.place(self.clock, moments, rows, where)
        gap = np.diff(steps, prepend=steps[0])
        fresh = gap > self.max_gap
        gap[fresh] = 1
        at = np.cumsum(gap)
        size = int(at[-1]) + 1
        grid_values = np.full((size, values.shape[1]), math.nan)
        grid_values[at] = values[kept]
        grid_rows = np.full(size, -1, np.int64)
        grid_rows[at] = rows[kept]
        last = np.maximum.accumulate(np.where(grid_rows >= 0, np.arange(size), 0))
        grid_time = np.zeros(size, np.int64)
        grid_time[at] = moments[kept]
        for step in np.flatnonzero(grid_rows < 0):
            grid_time[step] = self.clock.after(int(grid_time[last[step]]), int(step - last[step]))
        begins = np.zeros(size, np.int64)
        begins[at[fresh]] = at[fresh]
        return grid_time, grid_values, grid_rows, np.maximum.accumulate(begins), len(moments) - len(kept)

    # ---- inputs of a step -------------------------------------------------------------------------------------------

    def fill(self, series: Series) -> np.ndarray:
        """[N, C] float64 in units: missing values replaced by the last one of the segment, or the training mean."""
        known = ~np.isnan(series.values)
        index = np.where(known, np.arange(len(series))[:, None], -1)
        np.maximum.accumulate(index, axis=0, out=index)
        inside = index >= series.start[:, None]
        filled = np.take_along_axis(series.values, np.maximum(index, 0), 0)
        return np.where(inside, filled, np.array(self.mean))

    def encode(self, series: Series) -> np.ndarray:
        """[N, F] float32: the inputs of every step, in the order of `features`."""
        filled = self.fill(series)
        before = np.concatenate([filled[:1], filled[:-1]])
        before = np.where(series.reset[:, None], filled, before)
        return self._inputs(filled, before, series.row >= 0, np.isnan(series.values), series.time)

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Values of the targets [..., targets] in standard deviations of the training steps."""
        n = len(self.targets)
        return (values - np.array(self.mean[:n])) / np.array(self.std[:n])

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """Quantiles [..., targets, K] back in the table's units."""
        n = len(self.targets)
        return values * np.array(self.std[:n])[:, None] + np.array(self.mean[:n])[:, None]

    def ahead(self, moment: int, horizon: int) -> list[str | int]:
        """The times of the next steps as people write them; +1, +2, … where rows are the steps."""
        if self.clock.unit == "row":
            return [f"+{k}" for k in range(1, horizon + 1)]
        return [self.stamp(self.clock.after(moment, k)) for k in range(1, horizon + 1)]

    def stamp(self, moment: int) -> str | int:
        """A time as people write it; the row number where there is no clock."""
        return clocks.iso(moment) if self.time is not None else int(moment)

    def _inputs(
        self, filled: np.ndarray, before: np.ndarray, observed: np.ndarray, missing: np.ndarray, moments: np.ndarray
    ) -> np.ndarray:
        gappy = [self.columns.index(c) for c in self.gappy]
        seconds = moments / clocks.SECOND_US
        waves = []
        for _, period in self.clock.calendar:
            angle = 2 * np.pi * np.remainder(seconds, period) / period
            waves += [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
        parts = [
            (filled - np.array(self.mean)) / np.array(self.std),
            (filled - before) / np.array(self.change),
            observed[:, None],
            missing[:, gappy],
            *(w[:, None] for w in waves),
        ]
        whole = np.concatenate(parts, 1)
        return np.clip(whole, -1e30, 1e30).astype(np.float32)  # a reading far outside what was learnt stays a number

    # ---- live -------------------------------------------------------------------------------------------------------

    def live(self) -> LiveSeries:
        """A reader of rows, one at a time, that gives the same inputs as `encode` on the whole table."""
        return LiveSeries(self)

    # ---- in a model file --------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SeriesCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        codec = cls(**{**lists, "clock": Clock(**data["clock"])})
        if codec.clock.unit not in ("second", "month", "row") or not codec.targets:
            raise ValueError("not a series codec")
        if not all(len(x) == len(codec.columns) for x in (codec.mean, codec.std, codec.change)):
            raise ValueError("the scaling does not fit the columns")
        return codec


class LiveSeries:
    """Rows in, one by one; inputs of the step out. What it remembers is `memory`, a JSON value."""

    def __init__(self, codec: SeriesCodec) -> None:
        self.codec = codec
        self.memory: dict[str, Any] = {"time": None, "filled": list(codec.mean)}

    def encode(self, row: Mapping[str, Any], where: str = "row") -> tuple[np.ndarray, bool]:
        """(inputs [n, F] float32, fresh) of the n steps the row completes: its own, and before it those of a gap.

        n is 0 for a row that shares a step with the row before it. `fresh` says that a new segment begins, for which
        the state must be zeroed first. Raises `DataError` for a row that cannot be read; memory is then unchanged.
        """
        codec, clock = self.codec, self.codec.clock
        values = np.array([number_in(row, c, where) for c in codec.columns])
        last = self.memory["time"]
        now = 0 if last is None else last + 1
        if codec.time is not None:
            now = time_in(row, codec.time, codec.time_format, where)
        ahead = 1 if last is None or clock.unit == "row" else self._ahead(last, now, where)
        fresh = last is None or ahead > codec.max_gap
        if ahead == 0:
            return np.zeros((0, len(codec.features)), np.float32), False
        before = np.array(self.memory["filled"])
        known = ~np.isnan(values)
        filled = np.where(known, values, codec.mean if fresh else before)
        steps = 1 if fresh else ahead
        level = np.repeat((filled if fresh else before)[None], steps, 0)
        previous = level.copy()
        level[-1] = filled
        moments = np.array([clock.after(last, k) for k in range(1, steps)] + [now], np.int64)
        empty = np.arange(steps) < steps - 1
        self.memory = {"time": int(now), "filled": filled.tolist()}
        missing = np.where(empty[:, None], True, ~known)
        return codec._inputs(level, previous, ~empty, missing, moments), fresh

    def _ahead(self, last: int, now: int, where: str) -> int:
        clock = self.codec.clock
        if now < last:
            raise DataError(f"{where}: the time goes back ({clocks.iso(now)} after {clocks.iso(last)})")
        if clock.snap:
            return clocks.snapped(clock, last, now)
        steps = clock.elapsed(last, now)
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-3:
            raise DataError(
                f"{where}: {clocks.iso(now)} is not a whole number of steps ({clock}) after {clocks.iso(last)}"
            )
        return round(steps)


# ---- deciding what a table is ---------------------------------------------------------------------------------------


def detect(
    frame: pl.DataFrame,
    where: str,
    *,
    target: Sequence[str] = (),
    inputs: Sequence[str] | None = None,
    time: str | None = None,
    time_format: str | None = None,
    group: str | None = None,
    every: str | None = None,
) -> SeriesCodec:
    """A codec without scaling: the columns as named, or found. Its `notes` say what was found and what was left out."""
    notes: list[str] = []
    for name in (*target, *(inputs or ()), time, group):
        if name is not None and name not in frame.columns:
            raise DataError(f"{where}: no column {name!r}; it has {', '.join(map(repr, frame.columns))}")
    time = time or _find_time(frame, time_format)
    spare = [c for c in frame.columns if c not in (time, group)]
    numeric = {c: _is_numeric(frame[c]) for c in spare}
    if not target:
        candidates = [c for c in spare if numeric[c] and not _is_constant(numbers(frame[c], where))]
        if len(candidates) != 1:
            raise DataError(
                f"{where}: which column should be forecast? --set target=NAME; "
                f"columns of numbers: {', '.join(candidates) or 'none'}"
            )
        target = candidates
    if inputs is None:
        inputs = []
        for c in spare:
            if c in target:
                continue
            if not numeric[c]:
                notes.append(f"column {c!r} left out: text, or empty")
            elif _is_constant(numbers(frame[c], where)):
                notes.append(f"column {c!r} left out: always the same")
            else:
                inputs.append(c)
    for c in (*target, *inputs):
        values = numbers(frame[c], where)
        if np.isnan(values).all():
            raise DataError(f"{where}: column {c!r} has no values at all; choose another")
        if _is_constant(values):
            raise DataError(f"{where}: column {c!r} is constant ({values[~np.isnan(values)][0]:g}); choose another")
    clock = _find_clock(frame, where, time, time_format, group, every)
    return SeriesCodec(
        targets=tuple(target), inputs=tuple(c for c in inputs if c not in target), clock=clock, max_gap=1, time=time,
        time_format=time_format, group=group, notes=tuple(notes),
    )  # fmt: skip


def fit_scaling(codec: SeriesCodec, series: Series, train: np.ndarray) -> SeriesCodec:
    """The codec with scaling from the steps where `train` [N] bool holds."""
    from dataclasses import replace

    values = series.values[train]
    mean, std = mean_and_deviation(values)
    inside = train[1:] & train[:-1] & ~series.reset[1:]
    _, change = mean_and_deviation(np.diff(series.values, axis=0)[inside])
    for k, column in enumerate(codec.columns):
        if not std[k] > 0:
            raise DataError(f"column {column!r} is constant or empty in the training part; choose another")
    change = np.where(change > 0, change, std)
    rows = series.row[train] >= 0
    gappy = tuple(c for k, c in enumerate(codec.columns) if np.isnan(values[rows, k]).any())
    return replace(
        codec, mean=tuple(mean.tolist()), std=tuple(std.tolist()), change=tuple(change.tolist()), gappy=gappy
    )


def _find_time(frame: pl.DataFrame, time_format: str | None) -> str | None:
    for c in sorted(frame.columns, key=lambda c: c.lower() not in TIME_NAMES):
        if frame[c].dtype.is_temporal():
            return c
        sample = [v for v in frame[c].head(20) if not is_missing(v)][:5]
        if looks_like_time(sample):
            return c
    return None


def _find_clock(
    frame: pl.DataFrame, where: str, time: str | None, time_format: str | None, group: str | None, every: str | None
) -> Clock:
    if every is not None:
        clock = clocks.parse_every(every)
        if clock.unit != "row" and time is None:
            raise DataError(f"{where}: every={every} needs a column of times; name it with --set time=COLUMN")
        return clock
    if time is None:
        return Clock("row")
    moments = times(frame[time], where, time_format)
    if group is None:
        differences = np.diff(moments)
    else:
        labels = np.array([str(v) for v in frame[group]])
        differences = np.concatenate([np.diff(moments[labels == g]) for g in dict.fromkeys(labels.tolist())])
    if (differences <= 0).mean() > 0.2:
        row = int((differences <= 0).argmax()) + 2
        raise DataError(f"{where}: row {row}: times repeat or go back throughout; are there several series in the file? "
                        "Name the column that tells them apart: --set group=COLUMN; else sort by time")  # fmt: skip
    return clocks.infer(differences[differences > 0], where)


def _is_numeric(column: pl.Series) -> bool:
    import polars as pl

    if column.dtype == pl.String:
        present = column.filter(~column.str.strip_chars().str.to_lowercase().is_in(["", "na", "nan", "null", "nil"]))
        present = present.drop_nulls()
        return len(present) > 0 and 2 * present.cast(pl.Float64, strict=False).count() > len(present)
    return bool(column.dtype.is_numeric() or column.dtype == pl.Boolean) and column.null_count() < len(column)


def _is_constant(values: np.ndarray) -> bool:
    present = values[~np.isnan(values)]
    return len(present) > 0 and bool((present == present[0]).all())


def _indices(labels: list[str], names: list[str]) -> np.ndarray:
    index = {name: k for k, name in enumerate(names)}
    return np.array([index[label] for label in labels])
