"""Splits mapped steps by time, and fits a codec to those to train on, a block at a time: the same
numbers as `split.split_series` and `scaling.fit_codec`, but for rounding where there is more than
one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from memorycell.application.array_folder import ArrayWriter
from memorycell.applications.forecast.codec import MAX_INPUT, SeriesCodec
from memorycell.applications.forecast.encoding import Scaling, largest_inputs
from memorycell.applications.forecast.mapped_steps import MappedSteps
from memorycell.applications.forecast.scaling import (
    BOUND_FACTOR,
    MAX_STATIC_VALUES,
    MIN_BOUND,
    late_note,
    scaling_per_series,
)
from memorycell.applications.forecast.series import Series
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.split import TRAIN_SHARE, UNUSED
from memorycell.errors import DataError

MAX_SORTED = 1 << 20
"""Numbers that are sorted at once."""
SAMPLE_SHARE, BRACKET_SHARE = 16, 64
"""One number in this many is sampled to find an order statistic, and one in this many of the sample
is the distance to the bracket around it."""


def write_split(
    writer: ArrayWriter, steps: MappedSteps, settings: ForecastSettings, *, has_clock: bool
) -> np.ndarray:
    """[N] int8: the split of every step, as `split_series` gives it."""
    split = writer.create("split", [len(steps)], np.int8)
    rows = settings.split_rows()
    begin, end = settings.test_period()
    cuts: list[float] = []
    if rows is None:
        for share in (TRAIN_SHARE * begin, begin, end):
            at = int(share * len(steps))
            if share < 1 and len(steps.groups) == 1:  # in order of time
                cuts.append(_time(steps, slice(at, at + 1), has_clock)[0])
            elif share < 1:
                cuts.append(
                    order_statistic(
                        lambda: (_time(steps, part, has_clock) for part in steps.blocks()), at
                    )
                )
    for part in steps.blocks():
        if rows is None:
            own = np.searchsorted(cuts, _time(steps, part, has_clock), side="right")
        else:
            own = np.digitize(_step_in_series(steps, part), np.cumsum(rows))
        split[part] = np.where(own > 2, UNUSED, own)
    return split


def _step_in_series(steps: MappedSteps, part: slice) -> np.ndarray:
    """[n] int64: the steps since the first one of the series."""
    return np.asarray(np.arange(part.start, part.stop) - steps.offsets[steps.group[part]])


def _time(steps: MappedSteps, part: slice, has_clock: bool) -> np.ndarray:
    if has_clock:
        return np.array(steps.time[part])
    return np.asarray(_step_in_series(steps, part) / np.diff(steps.offsets)[steps.group[part]])


def order_statistic(blocks: Callable[[], Iterator[np.ndarray]], at: int) -> float:
    """The number at place `at` of all blocks' numbers in ascending order. Samples give two numbers
    around it, which come closer until what is between them can be sorted.
    """
    low, high, before = -np.inf, np.inf, 0
    while True:  # the number is between `low` and `high`, and `before` numbers are at most `low`
        sampled = [own[(own > low) & (own < high)][::SAMPLE_SHARE] for own in blocks()]
        sample = np.sort(np.concatenate(sampled))
        count = sum(int(((own > low) & (own < high)).sum()) for own in blocks())
        if count <= MAX_SORTED:
            inside = [own[(own > low) & (own < high)] for own in blocks()]
            return float(np.sort(np.concatenate(inside))[at - before])
        place, width = (at - before) * len(sample) // count, len(sample) // BRACKET_SHARE + 1
        a = sample[max(place - width, 0)] if place >= width else low
        b = sample[place + width] if place + width < len(sample) else high
        below, up_to_a, below_b, up_to_b = (
            sum(int(compared(own, limit).sum()) for own in blocks())
            for compared, limit in (
                (np.less, a),
                (np.less_equal, a),
                (np.less, b),
                (np.less_equal, b),
            )
        )
        if below <= at < up_to_a:
            return float(a)
        if below_b <= at < up_to_b:
            return float(b)
        if at < below:
            high = a
        elif at >= up_to_b:
            low, before = b, up_to_b
        else:
            low, high, before = a, b, up_to_a


class _Moments:
    """Sums over the known values [n, C] of blocks: first for the mean, then around it."""

    def __init__(self, columns: int) -> None:
        self.count, self.sum, self.squares = np.zeros((3, columns))

    @property
    def mean(self) -> np.ndarray:
        """[C]; zero for a column without values."""
        return np.asarray(self.sum / np.maximum(self.count, 1))

    @property
    def std(self) -> np.ndarray:
        """[C]; zero for a column without values."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))

    def add(self, values: np.ndarray, *, around_mean: bool) -> None:
        """The values of a block."""
        mean = self.mean
        for k, column in enumerate(values.T):
            known = column[~np.isnan(column)]
            if around_mean:
                self.squares[k] += ((known - mean[k]) ** 2).sum()
            else:
                self.count[k] += len(known)
                self.sum[k] += known.sum()


def fit_mapped(
    codec: SeriesCodec,
    steps: MappedSteps,
    split: np.ndarray,
    settings: ForecastSettings,
    where: str,
) -> SeriesCodec:
    """As `fit_codec`. Raises `DataError`."""
    columns = len(codec.columns)
    levels, changes = _Moments(columns), _Moments(columns)
    gappy = np.zeros(columns, bool)
    trained: set[int] = set()
    for around_mean in (False, True):
        for part in steps.blocks():
            before = min(part.start, 1)
            series = steps.series(slice(part.start - before, part.stop))
            train = np.asarray(split[part.start - before : part.stop] == 0)
            inside = train[1:] & train[:-1] & ~series.reset[1:]
            changes.add(np.diff(series.values, axis=0)[inside], around_mean=around_mean)
            own = series.values[before:][train[before:]]
            levels.add(own, around_mean=around_mean)
            read = train & (series.row >= 0)
            gappy |= np.isnan(series.values[read]).any(0)
            if not around_mean:
                trained.update(np.unique(steps.group[part][read[before:]]).tolist())
    shared = Scaling(levels.mean, levels.std, np.where(changes.std > 0, changes.std, levels.std))
    for column, std in zip(codec.columns, shared.std, strict=True):
        if not std > 0:
            raise DataError(
                f"{where}: column {column!r} is constant or empty in the training split; choose"
                " another"
            )
    own_scaling, late = _own_scaling(steps, split, shared, settings)
    codec = replace(
        codec,
        mean=tuple(shared.mean.tolist()),
        std=tuple(shared.std.tolist()),
        change=tuple(shared.change.tolist()),
        gappy=tuple(c for c, has_gaps in zip(codec.columns, gappy, strict=True) if has_gaps),
        own=own_scaling,
        notes=(*codec.notes, *(late_note(name) for name in late)),
        static={
            c: tuple(dict.fromkeys(steps.static[c][k] for k in sorted(trained)))[:MAX_STATIC_VALUES]
            for c in codec.static
        },
    )
    largest = np.zeros(2 * columns, np.float32)
    for part, first, series, _ in filled_blocks(codec, steps):
        train = np.zeros(len(series), bool)
        begin = part.start - first
        train[begin : begin + part.stop - part.start] = split[part] == 0
        largest = np.maximum(largest, largest_inputs(codec, series, train))
    bounds = np.clip(np.ceil(BOUND_FACTOR * largest.astype(np.float64)), MIN_BOUND, MAX_INPUT)
    return replace(codec, bounds=tuple(bounds.tolist()))


def _own_scaling(
    steps: MappedSteps, split: np.ndarray, shared: Scaling, settings: ForecastSettings
) -> tuple[dict[str, tuple[tuple[float, ...], ...]], list[str]]:
    """(series -> its scaling, series without steps to train on); a series is in memory at once."""
    if settings.scaling != "series":
        return {}, []
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    late = []
    for k, name in enumerate(steps.groups):
        part = slice(int(steps.offsets[k]), int(steps.offsets[k + 1]))
        series, train = steps.series(part), np.asarray(split[part] == 0)
        if not train.any():
            late.append(name)
            train[:] = True
        found |= scaling_per_series(series, train, shared)
    return found, late


def filled_blocks(
    codec: SeriesCodec, steps: MappedSteps
) -> Iterator[tuple[slice, int, Series, np.ndarray]]:
    """(block, its first step with context, those steps as a series, their values without missing
    ones): with the step before, whose missing values are filled in the series too, and with those
    that are known in advance.
    """
    last: np.ndarray | None = None
    for part in steps.blocks():
        first, end = max(part.start - 1, 0), min(part.stop + codec.reach, len(steps))
        series = steps.series(slice(first, end))
        if last is not None:
            series.values[0] = last
        filled = codec.fill(series)
        last = filled[part.stop - 1 - first].copy()
        yield part, first, series, filled
