"""From the rows of a recording to model inputs: z-scores of the numbers, one-hot categories."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from memorycell.applications.anomaly.columns import GAP, MAX_CATEGORIES, Columns, Recording
from memorycell.errors import DataError
from memorycell.tables.clock import iso_time
from memorycell.tables.table import mean_std

if TYPE_CHECKING:
    import polars as pl

CYCLES = {"day": 86_400.0, "week": 604_800.0}
"""Name -> period in seconds."""
MAX_Z = 1e4
"""Z-scores are clipped to ± this value."""
MIN_STD_SHARE = 0.01
"""Lower bound of a recording's own standard deviation, relative to that of training."""
MIN_TRAIN_ROWS = 10
UNKNOWN_CATEGORY = 0
"""The id of categories that are missing, rare or not in the training rows."""


class Encoded(NamedTuple):
    """A recording as arrays.

    x         [N, F] float32, model inputs
    z         [N, K] float64, z-scores of the numbers, NaN where missing
    choices   [N, C] int64, ids of the categories
    """

    x: np.ndarray
    z: np.ndarray
    choices: np.ndarray

    @property
    def filled(self) -> np.ndarray:
        """See `forward_fill`."""
        return forward_fill(self.z)


class Level(NamedTuple):
    """The mean [K] and standard deviation [K] of the numbers."""

    mean: np.ndarray
    std: np.ndarray

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Z-scores [N, K] of values [N, K]; NaN where missing."""
        return np.clip((values - self.mean) / self.std, -MAX_Z, MAX_Z)


@dataclass(frozen=True)
class ReadingsCodec:
    """Encodes recordings. Everything that is fitted comes from training rows.

    columns     the K numbers; `GAP` may be the last
    categories  column -> known categories, the most frequent first
    settle      rows at the start of a recording that set its own level; 0: the level of training
    mean, std   [K] of training rows; with `settle` the typical standard deviation within a
                recording
    change      [K] standard deviation of the changes between rows, in z-scores
    longest     [K] longest run of equal values in training, in rows
    gappy       numbers with missing values in training
    cycles      names of the `CYCLES` that encode the time of a row
    """

    kind: ClassVar[str] = "readings"
    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    time: str | None = None
    time_format: str | None = None
    group: str | None = None
    label: str | None = None
    settle: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    change: tuple[float, ...] = ()
    longest: tuple[int, ...] = ()
    gappy: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()

    @cached_property
    def table_columns(self) -> Columns:
        """The columns of the table, by role."""
        return Columns(
            self.columns,
            tuple(self.categories),
            self.time,
            self.time_format,
            self.group,
            self.label,
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of ids of each category column, with `UNKNOWN_CATEGORY`."""
        return tuple(len(known) + 1 for known in self.categories.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns: numbers, then categories."""
        return (*self.columns, *self.categories)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the F inputs of a step."""
        return (
            *self.columns,
            *(f"{c} change" for c in self.columns),
            *(f"{c} missing" for c in self.gappy),
            *(
                f"{c}={v}"
                for c, known in self.categories.items()
                for v in ("none of these", *known)
            ),
            *(f"{c} {part}" for c in self.cycles for part in ("sin", "cos", "sin2", "cos2")),
        )

    @cached_property
    def input_size(self) -> int:
        """F."""
        return len(self.features)

    def read(self, frame: pl.DataFrame, where: str, name: str = "") -> list[Recording]:
        """See `Columns.read`."""
        return self.table_columns.read(frame, where, name)

    def format_time(self, time: int) -> str | int:
        """A time as text; the row number without a time column."""
        return iso_time(time) if self.time is not None else int(time)

    def level(self, values: np.ndarray) -> Level:
        """The level of a recording, from its first rows [n, K]; without `settle`, of training."""
        level = Level(np.array(self.mean), np.array(self.std))
        return own_level(values, level) if self.settle else level

    def category_ids(self, words: np.ndarray) -> np.ndarray:
        """The ids [N, C] int64 of categories [N, C]."""
        ids = np.empty(words.shape, np.int64)
        for k, known in enumerate(self._category_ids):
            ids[:, k] = [known.get(word, UNKNOWN_CATEGORY) for word in words[:, k]]
        return ids

    def row_category_ids(self, words: Sequence[str]) -> np.ndarray:
        """The ids [C] int64 of the categories of one row."""
        ids = [
            known.get(word, UNKNOWN_CATEGORY)
            for known, word in zip(self._category_ids, words, strict=True)
        ]
        return np.array(ids, np.int64)

    @cached_property
    def _category_ids(self) -> list[dict[str, int]]:
        return [
            {word: k for k, word in enumerate(known, UNKNOWN_CATEGORY + 1)}
            for known in self.categories.values()
        ]

    def encode(self, recording: Recording) -> Encoded:
        """A complete recording as arrays."""
        choices = self.category_ids(recording.words)
        return self.encode_arrays(recording.values, choices, recording.time)

    def encode_arrays(self, values: np.ndarray, choices: np.ndarray, time: np.ndarray) -> Encoded:
        """See `encode`, for values [N, K], choices [N, C] and time [N]."""
        z = self.level(values[: self.settle]).standardize(values)
        filled = forward_fill(z)
        previous = np.concatenate([filled[:1], filled[:-1]])
        return Encoded(self.inputs(filled, previous, np.isnan(z), choices, time), z, choices)

    def inputs(
        self,
        filled: np.ndarray,
        previous: np.ndarray,
        missing: np.ndarray,
        choices: np.ndarray,
        time: np.ndarray,
    ) -> np.ndarray:
        """Inputs [N, F] float32, in the order of `features`, from z-scores [N, K] of rows and of
        the rows before them.
        """
        size = len(self.columns)
        x = np.empty((len(filled), self.input_size), np.float32)
        x[:, :size] = filled
        x[:, size : 2 * size] = (filled - previous) * self._inverse_change
        if self.input_size > 2 * size:
            x[:, 2 * size :] = self._other_features(missing, choices, time)
        return x

    def row_inputs(
        self,
        filled: np.ndarray,
        previous: np.ndarray,
        missing: np.ndarray,
        choices: np.ndarray,
        time: np.ndarray,
    ) -> np.ndarray:
        """`inputs` of a single row [F], with fewer numpy calls; time [1]."""
        x = np.empty(self.input_size, np.float32)
        size = len(filled)
        x[:size] = filled
        change = filled - previous
        change *= self._inverse_change
        x[size : 2 * size] = change
        if len(x) > 2 * size:
            x[2 * size :] = self._other_features(missing[None], choices[None], time)[0]
        return x

    def _other_features(
        self, missing: np.ndarray, choices: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        parts = [missing[:, [self.columns.index(c) for c in self.gappy]]]
        for k, size in enumerate(self.sizes):
            parts.append(np.arange(size) == choices[:, k, None])
        for name in self.cycles:
            angle = 2 * np.pi * np.remainder(time / 1e6, CYCLES[name]) / CYCLES[name]
            parts.append(
                np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], 1)
            )
        return np.concatenate(parts, 1)

    @cached_property
    def _inverse_change(self) -> np.ndarray:
        return 1 / np.array(self.change)

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {
            "input_size": len(self.features),
            "columns": len(self.columns),
            "sizes": self.sizes,
        }

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReadingsCodec:
        """See `Codec`."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        values["categories"] = {str(k): tuple(map(str, v)) for k, v in data["categories"].items()}
        codec = cls(**values)
        scaling = (codec.mean, codec.std, codec.change, codec.longest)
        if not codec.columns or not all(len(x) == len(codec.columns) for x in scaling):
            raise ValueError("the scaling does not fit the columns")
        if not all(math.isfinite(v) and v > 0 for v in (*codec.std, *codec.change)):
            raise ValueError("the scaling is not positive and finite")
        if codec.settle < 0:
            raise ValueError("settle is negative")
        if not set(codec.cycles) <= set(CYCLES) or not set(codec.gappy) <= set(codec.columns):
            raise ValueError("not a codec of readings")
        return codec


def fit_codec(
    columns: Columns, settle: int, train: Sequence[Recording], normal: Sequence[Recording]
) -> ReadingsCodec:
    """A codec with the categories of training rows and the scaling of normal rows.

    train    the training rows of each recording
    normal   its training and validation rows

    Raises `DataError` for too few rows, and for a column that is constant in them.
    """
    values = np.concatenate([r.values for r in normal])
    if len(values) < MIN_TRAIN_ROWS:
        raise DataError(
            f"only {len(values)} training rows; at least {MIN_TRAIN_ROWS} are needed, and hundreds"
            " are sensible"
        )
    level = _typical_level(values, [r.values for r in normal] if settle else [])
    for name, std in zip(columns.numbers, level.std, strict=True):
        if not std > 0:
            raise DataError(
                f"column {name!r} is constant or empty in the training rows; leave it out: --set"
                " columns=…"
            )
    levels = [own_level(r.values, level) if settle else level for r in normal]
    z = [forward_fill(own.standardize(r.values)) for own, r in zip(levels, normal, strict=True)]
    _, change = mean_std(np.concatenate([np.diff(own, axis=0) for own in z]))
    runs = [[longest_run(column) for column in r.values.T] for r in normal]
    seconds = max(float(r.time[-1] - r.time[0]) for r in normal) / 1e6 if columns.time else 0.0
    missing = np.isnan(values).any(0)
    return ReadingsCodec(
        columns=columns.numbers,
        categories=_known_categories(columns.categories, train),
        time=columns.time,
        time_format=columns.time_format,
        group=columns.group,
        label=columns.label,
        settle=settle,
        mean=tuple(level.mean.tolist()),
        std=tuple(level.std.tolist()),
        change=tuple(np.where(change > 0, change, 1.0).tolist()),
        longest=tuple(np.max(runs, 0).tolist()),
        gappy=tuple(c for c, gap in zip(columns.numbers, missing, strict=True) if gap and c != GAP),
        cycles=tuple(name for name, period in CYCLES.items() if seconds > 2 * period),
    )


def _typical_level(values: np.ndarray, recordings: Sequence[np.ndarray]) -> Level:
    """The level of all rows [N, K]. Given recordings with their own levels, the standard deviation
    is the median of theirs.
    """
    with np.errstate(all="ignore"):
        mean, std = mean_std(values)
        if recordings:
            own = np.stack([mean_std(r)[1] for r in recordings])
            std = np.where((own > 0).any(0), np.nanmedian(np.where(own > 0, own, np.nan), 0), std)
    return Level(mean, std)


def _known_categories(
    columns: Sequence[str], recordings: Sequence[Recording]
) -> dict[str, tuple[str, ...]]:
    """Column -> its most frequent categories."""
    known = {}
    for k, column in enumerate(columns):
        counts = Counter(word for r in recordings for word in r.words[:, k] if word)
        known[column] = tuple(word for word, _ in counts.most_common(MAX_CATEGORIES))
    return known


def own_level(values: np.ndarray, typical: Level) -> Level:
    """The level of a recording from its first rows [n, K]; `typical` where a column has none."""
    known = ~np.isnan(values)
    count = known.sum(0)
    mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
    with np.errstate(all="ignore"):
        variance = (np.where(known, values - mean, 0) ** 2).sum(0) / np.maximum(count, 1)
    return Level(
        np.where(count > 0, mean, typical.mean),
        np.maximum(np.sqrt(variance), MIN_STD_SHARE * typical.std),
    )


def forward_fill(z: np.ndarray) -> np.ndarray:
    """Z-scores [N, K] with the last known value in place of missing ones; 0 before the first."""
    known = ~np.isnan(z)
    index = np.maximum.accumulate(np.where(known, np.arange(len(z))[:, None], -1), 0)
    return np.where(index >= 0, np.take_along_axis(z, np.maximum(index, 0), 0), 0.0)


def longest_run(values: np.ndarray) -> int:
    """The length of the longest run of equal values [N]; missing values end a run."""
    runs = run_lengths(values)
    return int(runs.max()) if len(runs) else 0


def run_lengths(values: np.ndarray) -> np.ndarray:
    """[N]: the length of the run of equal values up to each; 0 where missing."""
    same = np.concatenate([[False], values[1:] == values[:-1]])
    index = np.arange(len(values))
    runs = index - np.maximum.accumulate(np.where(same, 0, index)) + 1
    return np.where(np.isnan(values), 0, runs)
