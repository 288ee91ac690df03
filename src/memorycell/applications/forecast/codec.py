"""Series codec: from a table of readings to the inputs of a step, in a batch and live, and from
forecasts back to units.

A table becomes a `Series`: one row a step, all series of the file one after another, gaps filled
with empty steps. A gap longer than `max_gap` steps is not filled: a new segment begins there and
the state starts afresh, in training as live.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from memorycell.errors import DataError
from memorycell.tables import clock as clocks
from memorycell.tables.clock import Clock
from memorycell.tables.table import (
    are_dates,
    is_missing,
    mean_std,
    read_number,
    read_numbers,
    read_time,
    read_times,
)

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
    kinds: np.ndarray | None = None
    """[groups, S] int64: of every series, its number in each of the codec's `static` columns; 0
    where it is not known.
    """

    def __len__(self) -> int:
        return len(self.time)

    @property
    def reset(self) -> np.ndarray:
        """[N] bool: a segment begins at this step."""
        return np.asarray(self.start == np.arange(len(self)))

    @property
    def first(self) -> np.ndarray:
        """[N] int64: the step at which each step's series begins."""
        sizes = np.bincount(self.group)
        return np.asarray(np.cumsum([0, *sizes[:-1]])[self.group])

    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the data, whatever the file's format."""
        digest = hashlib.sha256()
        for array in (self.time, self.values, self.start):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class SeriesCodec:
    """What it takes to read a row: columns, clock, scaling.

    mean, std, change   of each column over the training steps: for scaling values and their
                        step-to-step changes
    gappy               columns that had missing values in training; the model is told when they are
                        missing
    cycles              those of the clock's calendar that a step is told by; all where it is not
                        said
    each                columns of the table that are series of their own, all forecast by one
                        model: `targets` is then `VALUE`, and `group` is `SERIES`
    own                 series -> its own mean, std and change, where series are scaled one by one
    static              column -> the words in it that a series is told by; the column that names
                        the series may be one
    known               columns, among the inputs, of which the next `reach` values are known
                        beforehand
    returns             column of prices: the target is then `RETURN`, 100 log(price / price a step
                        before)
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
    cycles: tuple[str, ...] | None = None
    each: tuple[str, ...] = ()
    own: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    static: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    reach: int = 0
    returns: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was decided about the table on its own, for people to read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `Series.values`."""
        return self.targets + self.inputs

    @property
    def given(self) -> tuple[str, ...]:
        """The columns a row of a person's must have."""
        own = [
            self.returns if c == RETURN and self.returns else c
            for c in self.columns
            if c != VALUE or not self.each
        ]
        return (
            *self.each,
            *own,
            *(f"{c}+{k}" for c in self.known for k in range(1, self.reach + 1)),
        )

    @property
    def features(self) -> tuple[str, ...]:
        """The names of a step's inputs, in order; the first are the targets' own levels."""
        return (
            *self.columns,
            *(f"change of {c}" for c in self.columns),
            "observed",
            *(f"{c} missing" for c in self.gappy),
            *(
                f"{wave} of {name}"
                for name in self.calendar
                for wave in ("sin", "cos", "sin 2", "cos 2")
            ),
            *(f"{c} in {k}" for c in self.known for k in range(1, self.reach + 1)),
            *(f"{c} is {word}" for c, words in self.static.items() for word in words),
        )

    @property
    def calendar(self) -> dict[str, float]:
        """The cycles that a step is told by, and their periods in seconds."""
        return {
            n: p for n, p in self.clock.calendar.items() if self.cycles is None or n in self.cycles
        }

    @property
    def moving(self) -> int:
        """How many of the features come first and change from step to step."""
        return len(self.features) - sum(len(words) for words in self.static.values())

    # ---- from a table ----------------------------------------------------------------------------

    def read(self, frame: pl.DataFrame, where: str) -> Series:
        """The steps of a table. Raises `DataError` naming the row and the mend."""
        frame = self.table(frame, where)
        needed = (*self.columns, self.time, self.group, *self.static)
        missing = [c for c in needed if c is not None and c not in frame.columns]
        if missing:
            raise DataError(
                f"{where}: no column {missing[0]!r}; it has {', '.join(map(repr, frame.columns))}"
            )
        values = np.stack([read_numbers(frame[c], where) for c in self.columns], 1)
        moments = (
            np.arange(frame.height, dtype=np.int64)
            if self.time is None
            else read_times(frame[self.time], where, self.time_format)
        )
        if self.group is None:
            names, members = [""], [np.arange(frame.height)]
        else:
            labels = [str(v) for v in frame[self.group]]
            names = list(dict.fromkeys(labels))
            which = (
                np.array([names.index(label) for label in labels])
                if len(names) < 50
                else _indices(labels, names)
            )
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
            kinds=self._kinds({c: [frame[c][int(m[0])] for m in members] for c in self.static}),
        )

    def table(self, frame: pl.DataFrame, where: str) -> pl.DataFrame:
        """The table as it is read: series under one another, returns in place of prices."""
        if self.each:
            frame = long(frame, self.each, where)
        return (
            frame if self.returns is None else with_returns(frame, self.returns, self.group, where)
        )

    def _kinds(self, words: Mapping[str, Sequence[Any]]) -> np.ndarray | None:
        if not self.static:
            return None
        return np.stack(
            [[_place(known, str(w)) for w in words[c]] for c, known in self.static.items()], 1
        )

    def _grid(
        self, moments: np.ndarray, values: np.ndarray, rows: np.ndarray, where: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """One series on its steps: (time, values, row, start, rows left out)."""
        kept, steps = clocks.assign_steps(self.clock, moments, rows, where)
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
        return (
            grid_time,
            grid_values,
            grid_rows,
            np.maximum.accumulate(begins),
            len(moments) - len(kept),
        )

    # ---- inputs of a step ------------------------------------------------------------------------

    def fill(self, series: Series) -> np.ndarray:
        """[N, C] float64 in units: missing values replaced by the last one of the segment, or the
        training mean.
        """
        known = ~np.isnan(series.values)
        index = np.where(known, np.arange(len(series))[:, None], -1)
        np.maximum.accumulate(index, axis=0, out=index)
        inside = index >= series.start[:, None]
        filled = np.take_along_axis(series.values, np.maximum(index, 0), 0)
        return np.where(inside, filled, self.scaling(series)[0])

    def scaling(self, series: Series | Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(mean, std, change) [N, C] of every step, or [G, C] of series by their names."""
        names = series.groups if isinstance(series, Series) else series
        common = (self.mean, self.std, self.change)
        rows = [np.array([self.own.get(name, common)[k] for name in names]) for k in range(3)]
        mean, std, change = (
            (row[series.group] for row in rows) if isinstance(series, Series) else rows
        )
        return mean, std, change

    def encode(self, series: Series) -> np.ndarray:
        """[N, F] float32: the inputs of every step, in the order of `features`."""
        filled = self.fill(series)
        before = np.concatenate([filled[:1], filled[:-1]])
        before = np.where(series.reset[:, None], filled, before)
        scaling = self.scaling(series)
        further = [self._foreseen(series, (filled - scaling[0]) / scaling[1])] if self.known else []
        if self.static:
            assert series.kinds is not None
            further.append(self._hot(series.kinds)[series.group])
        return self._inputs(
            filled, before, series.row >= 0, np.isnan(series.values), series.time, scaling, further
        )

    def after(
        self, x: np.ndarray, y: np.ndarray, moments: np.ndarray, names: Sequence[str]
    ) -> np.ndarray:
        """Inputs [N, F] of the step that follows those of x, had the targets become y [N, targets],
        in scaled units, at moments [N] of series `names`: the other columns stay as they are, but
        those known beforehand.
        """
        count, targets = len(self.columns), len(self.targets)
        _, std, change = self.scaling(names)
        level = x[:, :count].astype(np.float64)
        level[:, :targets] = y
        known = 2 * count + 1 + len(self.gappy) + 4 * len(self.calendar)
        ahead = x[:, known : known + len(self.known) * self.reach].reshape(
            len(x), len(self.known), self.reach
        )
        for k, c in enumerate(self.known):
            level[:, self.columns.index(c)] = ahead[:, k, 0]
        result = x.copy()
        result[:, :count] = level
        result[:, count : 2 * count] = (level - x[:, :count]) * std / change
        result[:, 2 * count] = 1
        result[:, 2 * count + 1 : 2 * count + 1 + len(self.gappy)] = 0
        for place, wave in enumerate(self._waves(moments), 2 * count + 1 + len(self.gappy)):
            result[:, place] = wave
        later = np.concatenate([ahead[..., 1:], ahead[..., -1:]], -1)
        result[:, known : known + ahead[0].size] = later.reshape(len(x), -1)
        return result

    def _foreseen(self, series: Series, scaled: np.ndarray) -> np.ndarray:
        """[N, known · reach]: the next values of the known columns, the last one there is where the
        segment ends.
        """
        ends = np.append(np.flatnonzero(series.reset)[1:], len(series)) - 1
        end = np.repeat(ends, np.diff(np.append(np.flatnonzero(series.reset), len(series))))
        at = np.minimum(
            np.arange(len(series))[:, None] + np.arange(1, self.reach + 1), end[:, None]
        )
        return np.concatenate([scaled[:, self.columns.index(c)][at] for c in self.known], 1)

    def _hot(self, kinds: np.ndarray) -> np.ndarray:
        """[G, S] -> [G, features]: ones where a series has the word."""
        words = enumerate(self.static.values())
        return np.concatenate(
            [kinds[:, k, None] == np.arange(1, len(known) + 1) for k, known in words], 1
        )

    def scale(self, values: np.ndarray, series: Series) -> np.ndarray:
        """Values of the targets [N, targets] in standard deviations of the training steps."""
        mean, std, _ = self.scaling(series)
        n = len(self.targets)
        return np.asarray((values - mean[:, :n]) / std[:, :n])

    def unscale(self, values: np.ndarray, names: Sequence[str] | None = None) -> np.ndarray:
        """Quantiles [M, ..., targets, K] back in the table's units, of so many series by their
        names, or of any.
        """
        names = [""] * len(values) if names is None else names
        n, between = len(self.targets), (1,) * (values.ndim - 3)
        mean, std, _ = (
            part[:, :n].reshape(len(names), *between, n, 1) for part in self.scaling(names)
        )
        return np.asarray(values * std + mean)

    def ahead(self, moment: int, horizon: int) -> list[str | int]:
        """The times of the next steps as people write them; +1, +2, … where rows are the steps."""
        if self.clock.unit == "row":
            return [f"+{k}" for k in range(1, horizon + 1)]
        return [self.stamp(self.clock.after(moment, k)) for k in range(1, horizon + 1)]

    def stamp(self, moment: int) -> str | int:
        """A time as people write it; the row number where there is no clock."""
        return clocks.iso_time(moment) if self.time is not None else int(moment)

    def _inputs(
        self,
        filled: np.ndarray,
        before: np.ndarray,
        observed: np.ndarray,
        missing: np.ndarray,
        moments: np.ndarray,
        scaling: tuple[np.ndarray, np.ndarray, np.ndarray],
        further: Sequence[np.ndarray],
    ) -> np.ndarray:
        gappy = [self.columns.index(c) for c in self.gappy]
        mean, std, change = scaling
        parts = [
            (filled - mean) / std,
            (filled - before) / change,
            observed[:, None],
            missing[:, gappy],
            *(w[:, None] for w in self._waves(moments)),
            *further,
        ]
        whole = np.concatenate(parts, 1)
        return np.clip(whole, -1e30, 1e30).astype(
            np.float32
        )  # a reading far outside what was learnt stays a number

    def _waves(self, moments: np.ndarray) -> list[np.ndarray]:
        """The calendar: sine and cosine of every cycle, and of twice its pace, [N] each."""
        seconds, waves = moments / clocks.SECOND_US, []
        for period in self.calendar.values():
            angle = 2 * np.pi * np.remainder(seconds, period) / period
            waves += [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
        return waves

    # ---- live ------------------------------------------------------------------------------------

    def live(self, name: str = "") -> LiveSeries:
        """A reader of the rows of one series, one at a time, that gives the same inputs as `encode`
        on the whole table.
        """
        return LiveSeries(self, name)

    # ---- in a model file -------------------------------------------------------------------------

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"input_size": len(self.features), "targets": len(self.targets)}

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SeriesCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        lists["own"] = {name: tuple(map(tuple, rows)) for name, rows in data.get("own", {}).items()}
        lists["static"] = {name: tuple(words) for name, words in data.get("static", {}).items()}
        codec = cls(**{**lists, "clock": Clock(**data["clock"])})
        if codec.clock.unit not in ("second", "month", "row") or not codec.targets:
            raise ValueError("not a series codec")
        if not all(len(x) == len(codec.columns) for x in (codec.mean, codec.std, codec.change)):
            raise ValueError("the scaling does not fit the columns")
        if any(len(row) != len(codec.columns) for rows in codec.own.values() for row in rows):
            raise ValueError("a series' scaling does not fit the columns")
        if not set(codec.known) <= set(codec.inputs) or codec.reach < 0:
            raise ValueError("columns known beforehand are inputs")
        return codec


class LiveSeries:
    """Rows in, one by one; inputs of the step out. What it remembers is `memory`, a JSON value."""

    def __init__(self, codec: SeriesCodec, name: str = "") -> None:
        self.codec = codec
        mean, std, change = codec.scaling([name])
        self._mean, self._scaling = mean[0], (mean, std, change)
        self.memory: dict[str, Any] = {"time": None, "filled": mean[0].tolist()}

    def encode(self, row: Mapping[str, Any], where: str = "row") -> tuple[np.ndarray, bool]:
        """(inputs [n, F] float32, fresh) of the n steps the row completes: its own, and before it
        those of a gap.

        n is 0 for a row that shares a step with the row before it. `fresh` says that a new segment
        begins, for which the state must be zeroed first. Raises `DataError` for a row that cannot
        be read; memory is then unchanged.
        """
        codec, clock = self.codec, self.codec.clock
        price = math.nan
        if codec.returns is not None:
            price = read_number(row, codec.returns, where)
            if price <= 0:
                raise DataError(
                    f"{where}, column {codec.returns!r}: {price:g} is not a price; returns need"
                    " prices above 0"
                )
            row = {**row, RETURN: _return(float(self.memory.get("price") or math.nan), price)}
        values = np.array([read_number(row, c, where) for c in codec.columns])
        last = self.memory["time"]
        now = 0 if last is None else last + 1
        if codec.time is not None:
            now = read_time(row, codec.time, codec.time_format, where)
        ahead = 1 if last is None or clock.unit == "row" else self._ahead(last, now, where)
        fresh = last is None or ahead > codec.max_gap
        if ahead == 0:
            return np.zeros((0, len(codec.features)), np.float32), False
        before = np.array(self.memory["filled"])
        known = ~np.isnan(values)
        filled = np.where(known, values, self._mean if fresh else before)
        steps = 1 if fresh else ahead
        level = np.repeat((filled if fresh else before)[None], steps, 0)
        previous = level.copy()
        level[-1] = filled
        moments = np.array([clock.after(last, k) for k in range(1, steps)] + [now], np.int64)
        empty = np.arange(steps) < steps - 1
        further = self._further(row, steps, where)
        self.memory = {"time": int(now), "filled": filled.tolist()}
        if codec.returns is not None:
            self.memory["price"] = self.memory.get("price") if math.isnan(price) else price
        missing = np.where(empty[:, None], True, ~known)
        return (
            codec._inputs(level, previous, ~empty, missing, moments, self._scaling, further),
            fresh,
        )

    def _further(self, row: Mapping[str, Any], steps: int, where: str) -> list[np.ndarray]:
        """What is known beforehand, as `column+1`, `column+2`, … in the row, and what the series
        is.
        """
        codec, found = self.codec, []
        for c in codec.known:
            at = codec.columns.index(c)
            ahead = np.array([read_number(row, f"{c}+{k}", where) for k in range(1, codec.reach + 1)])
            if np.isnan(ahead).any():
                raise DataError(
                    f"{where}: column '{c}+{int(np.isnan(ahead).argmax()) + 1}' is missing; it is"
                    " known beforehand"
                )
            found.append(
                np.tile((ahead - self._scaling[0][0, at]) / self._scaling[1][0, at], (steps, 1))
            )
        if codec.static:
            for c in codec.static:
                if c not in row:
                    raise DataError(f"{where}: no column {c!r}; it has {', '.join(map(repr, row))}")
            kinds = codec._kinds({c: [row[c]] for c in codec.static})
            assert kinds is not None
            found.append(np.repeat(codec._hot(kinds), steps, 0))
        return found

    def _ahead(self, last: int, now: int, where: str) -> int:
        clock = self.codec.clock
        if now < last:
            raise DataError(
                f"{where}: the time goes back ({clocks.iso_time(now)} after {clocks.iso_time(last)})"
            )
        if clock.snap:
            return clocks.rounded_steps(clock, last, now)
        steps = clock.elapsed(last, now)
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-3:
            raise DataError(
                f"{where}: {clocks.iso_time(now)} is not a whole number of steps ({clock}) after"
                f" {clocks.iso_time(last)}"
            )
        return round(steps)


# ---- deciding what a table is --------------------------------------------------------------------


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
    """A codec without scaling: the columns as named, or found. Its `notes` say what was found and
    what was left out.
    """
    notes: list[str] = []
    for name in (*target, *(inputs or ()), time, group):
        if name is not None and name not in frame.columns:
            raise DataError(
                f"{where}: no column {name!r}; it has {', '.join(map(repr, frame.columns))}"
            )
    time = time or _find_time(frame, time_format)
    spare = [c for c in frame.columns if c not in (time, group)]
    numeric = {c: _is_numeric(frame[c]) for c in spare}
    if not target:
        candidates = [c for c in spare if numeric[c] and not _is_constant(read_numbers(frame[c], where))]
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
            elif _is_constant(read_numbers(frame[c], where)):
                notes.append(f"column {c!r} left out: always the same")
            else:
                inputs.append(c)
    for c in (*target, *inputs):
        values = read_numbers(frame[c], where)
        if np.isnan(values).all():
            raise DataError(f"{where}: column {c!r} has no values at all; choose another")
        if _is_constant(values):
            raise DataError(
                f"{where}: column {c!r} is constant ({values[~np.isnan(values)][0]:g}); choose"
                " another"
            )
    clock = _find_clock(frame, where, time, time_format, group, every)
    return SeriesCodec(
        targets=tuple(target),
        inputs=tuple(c for c in inputs if c not in target),
        clock=clock,
        max_gap=1,
        time=time,
        time_format=time_format,
        group=group,
        notes=tuple(notes),
    )


VALUE, SERIES, RETURN = "value", "series", "return"


def with_returns(frame: pl.DataFrame, prices: str, group: str | None, where: str) -> pl.DataFrame:
    """The table with a column `RETURN`: 100 log(price / price of the row before), of each series;
    none in its first row.
    """
    import polars as pl

    if prices not in frame.columns:
        raise DataError(
            f"{where}: no column {prices!r}; it has {', '.join(map(repr, frame.columns))}"
        )
    if RETURN in frame.columns:
        raise DataError(
            f"{where}: with returns={prices} no column may be called {RETURN!r}; rename it"
        )
    values = read_numbers(frame[prices], where)
    if (values <= 0).any():
        row = int((values <= 0).argmax())
        raise DataError(
            f"{where}: row {row + 1}, column {prices!r}: {values[row]:g} is not a price; returns"
            " need prices above 0"
        )
    last: dict[Any, float] = {}
    found = np.full(len(values), math.nan)
    for row, name in enumerate(frame[group] if group is not None else [None] * len(values)):
        found[row] = _return(last.get(name, math.nan), values[row])
        last[name] = values[row] if not math.isnan(values[row]) else last.get(name, math.nan)
    return frame.with_columns(pl.Series(RETURN, found))


def _return(before: float, now: float) -> float:
    return 100 * math.log(now / before) if before > 0 and now > 0 else math.nan


def long(frame: pl.DataFrame, each: Sequence[str], where: str) -> pl.DataFrame:
    """A table in which every one of some columns is a series of its own: one after another, as
    `VALUE`, named by `SERIES`.
    """
    missing = [c for c in each if c not in frame.columns]
    if missing:
        raise DataError(
            f"{where}: no column {missing[0]!r}; it has {', '.join(map(repr, frame.columns))}"
        )
    taken = [c for c in (VALUE, SERIES) if c in frame.columns]
    if taken:
        raise DataError(f"{where}: with each=yes no column may be called {taken[0]!r}; rename it")
    for c in each:
        read_numbers(frame[c], where)  # complains with the rows as they stand in the file
    others = [c for c in frame.columns if c not in each]
    return frame.unpivot(on=list(each), index=others, variable_name=SERIES, value_name=VALUE)


def fit_scaling(
    codec: SeriesCodec, series: Series, train: np.ndarray, *, one_by_one: bool = False
) -> SeriesCodec:
    """The codec with scaling from the steps where `train` [N] bool holds; of every series for
    itself, if `one_by_one`.
    """
    from dataclasses import replace

    values = series.values[train]
    mean, std = mean_std(values)
    inside = train[1:] & train[:-1] & ~series.reset[1:]
    _, change = mean_std(np.diff(series.values, axis=0)[inside])
    for k, column in enumerate(codec.columns):
        if not std[k] > 0:
            raise DataError(
                f"column {column!r} is constant or empty in the training part; choose another"
            )
    change = np.where(change > 0, change, std)
    own = {}
    if one_by_one:
        for k, name in enumerate(series.groups):
            here = train & (series.group == k)
            mine, spread = mean_std(series.values[here])
            _, quick = mean_std(
                np.diff(series.values, axis=0)[here[1:] & here[:-1] & ~series.reset[1:]]
            )
            spread = np.where(spread > 0, spread, std)
            if here.any():
                own[name] = tuple(
                    tuple(v.tolist()) for v in (mine, spread, np.where(quick > 0, quick, spread))
                )
    rows = series.row[train] >= 0
    gappy = tuple(c for k, c in enumerate(codec.columns) if np.isnan(values[rows, k]).any())
    return replace(
        codec,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        change=tuple(change.tolist()),
        gappy=gappy,
        own=own,
    )


def _find_time(frame: pl.DataFrame, time_format: str | None) -> str | None:
    for c in sorted(frame.columns, key=lambda c: c.lower() not in TIME_NAMES):
        if frame[c].dtype.is_temporal():
            return c
        sample = [v for v in frame[c].head(20) if not is_missing(v)][:5]
        if are_dates(sample):
            return c
    return None


def _find_clock(
    frame: pl.DataFrame,
    where: str,
    time: str | None,
    time_format: str | None,
    group: str | None,
    every: str | None,
) -> Clock:
    if every is not None:
        clock = clocks.parse_every(every)
        if clock.unit != "row" and time is None:
            raise DataError(
                f"{where}: every={every} needs a column of times; name it with --set time=COLUMN"
            )
        return clock
    if time is None:
        return Clock("row")
    moments = read_times(frame[time], where, time_format)
    if group is None:
        differences = np.diff(moments)
    else:
        labels = np.array([str(v) for v in frame[group]])
        differences = np.concatenate(
            [np.diff(moments[labels == g]) for g in dict.fromkeys(labels.tolist())]
        )
    if (differences <= 0).mean() > 0.2:
        row = int((differences <= 0).argmax()) + 2
        raise DataError(
            f"{where}: row {row}: times repeat or go back throughout; are there several series in"
            " the file? Name the column that tells them apart: --set group=COLUMN; else sort by"
            " time"
        )
    return clocks.infer_clock(differences[differences > 0], where)


def _is_numeric(column: pl.Series) -> bool:
    import polars as pl

    if column.dtype == pl.String:
        present = column.filter(
            ~column.str.strip_chars().str.to_lowercase().is_in(["", "na", "nan", "null", "nil"])
        )
        present = present.drop_nulls()
        return len(present) > 0 and 2 * present.cast(pl.Float64, strict=False).count() > len(
            present
        )
    return bool(
        column.dtype.is_numeric() or column.dtype == pl.Boolean
    ) and column.null_count() < len(column)


def _is_constant(values: np.ndarray) -> bool:
    present = values[~np.isnan(values)]
    return len(present) > 0 and bool((present == present[0]).all())


def _place(words: Sequence[str], word: str) -> int:
    """From 1; 0 for a word that is not among them."""
    return words.index(word) + 1 if word in words else 0


def _indices(labels: list[str], names: list[str]) -> np.ndarray:
    index = {name: k for k, name in enumerate(names)}
    return np.array([index[label] for label in labels])
