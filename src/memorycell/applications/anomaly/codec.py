"""From the rows of a recording to model inputs: z-scores of the numbers, one-hot categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from memorycell.applications.anomaly.columns import GAP, MAX_READING, Columns, Recording
from memorycell.applications.anomaly.source import MAX_CATEGORIES
from memorycell.setting_fields import from_json
from memorycell.tables.numbers import NumberFormat
from memorycell.tables.times import TimeColumns

if TYPE_CHECKING:
    import polars as pl

CYCLES: dict[Literal["day", "week"], float] = {"day": 86_400.0, "week": 604_800.0}
"""Name -> period in seconds."""
MAX_Z = 1e4
"""Z-scores are clipped to ± this value."""
MAX_INPUT_Z = 1e3
"""Larger z-scores are scored, but not read by the model, which sees the value before them: one
absurd reading has no effect on the rows that follow.
"""
MIN_STD = 1e-150
"""Lower bound of `ReadingsCodec.std`; a column that varies less is constant."""
MIN_CHANGE = 1e-9
"""Lower bound of `ReadingsCodec.change`, so that inputs are finite."""
MIN_STD_SHARE = 0.01
"""Lower bound of a recording's own standard deviation, relative to that of training."""
UNKNOWN_CATEGORY = 0
"""The id of categories that are missing, rare or not in the training rows."""
MAX_SETTLE_ROWS = 1_000_000
Mean = Annotated[float, msgspec.Meta(ge=-MAX_READING, le=MAX_READING)]
Scale = Annotated[float, msgspec.Meta(ge=MIN_STD, le=2 * MAX_READING)]


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
    times       the columns of times; None: there are none
    formats     of the numbers that are not written plainly
    encoding, sheet   see `read_table`
    settle      rows at the start of a recording that set its own level; 0: the level of training
    mean, std   [K] of training rows; with `settle` the typical standard deviation within a
                recording
    change      [K] standard deviation of the changes between rows, in z-scores
    longest     [K] longest run of equal values in training and validation, in rows
    gappy       numbers with missing values in training
    cycles      names of the `CYCLES` that encode the time of a row
    """

    kind: ClassVar[str] = "readings"
    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    times: TimeColumns | None
    group: str | None
    label: str | None
    settle: Annotated[int, msgspec.Meta(ge=0, le=MAX_SETTLE_ROWS)]
    mean: tuple[Mean, ...]
    std: tuple[Scale, ...]
    change: tuple[Scale, ...]
    longest: tuple[Annotated[int, msgspec.Meta(ge=0, le=2**53)], ...]
    gappy: tuple[str, ...]
    cycles: tuple[Literal["day", "week"], ...]
    formats: Mapping[str, NumberFormat] = field(default_factory=dict)
    encoding: str | None = None
    sheet: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the fields do not fit each other."""
        numbers, names = self.table_columns.table_numbers, [*self.columns, *self.categories]
        roles = [*(self.times.columns if self.times else ()), self.group, self.label]
        if len({*names, *roles} - {None}) != len(names) + len([r for r in roles if r]):
            raise ValueError("columns: one column has two roles")
        if not self.columns or (self.table_columns.gap and self.columns[-1] != GAP):
            raise ValueError("columns: expected one or more numbers, the gap last")
        if self.table_columns.gap and self.times is None:
            raise ValueError("columns: a gap without times")
        if any(len(x) != len(self.columns) for x in (self.mean, self.std, self.change)):
            raise ValueError("the scaling does not fit the columns")
        if len(self.longest) != len(self.columns):
            raise ValueError("longest: does not fit the columns")
        if any(scale < MIN_CHANGE for scale in self.change):
            raise ValueError(f"change: expected {MIN_CHANGE} or more")
        for known in self.categories.values():
            if len(set(known)) != len(known) or "" in known or len(known) > MAX_CATEGORIES:
                raise ValueError("categories: expected different ones")
        if len(set(self.gappy)) != len(self.gappy) or not set(self.gappy) <= set(numbers):
            raise ValueError("gappy: expected numbers of the table")
        if len(set(self.cycles)) != len(self.cycles) or (self.cycles and self.times is None):
            raise ValueError("cycles: expected different ones, of a table with times")
        if not set(self.formats) <= set(numbers):
            raise ValueError("formats: expected numbers of the table")

    @cached_property
    def table_columns(self) -> Columns:
        """The columns of the table, by role."""
        return Columns(
            self.columns,
            tuple(self.categories),
            self.times,
            self.group,
            self.label,
            self.formats,
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
        """See `Columns.format_time`."""
        return self.table_columns.format_time(time)

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
        filled = bounded(z)
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
            local = time if self.times is None else self.times.local(time)
            angle = 2 * np.pi * np.remainder(local / 1e6, CYCLES[name]) / CYCLES[name]
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
        """See `Codec`. Files of earlier versions have `time` and `time_format` instead of
        `times`.
        """
        values = dict(data)
        if "times" not in values:
            time, time_format = values.pop("time"), values.pop("time_format")
            values["times"] = time and {"columns": [time], "pattern": time_format}
        return from_json(cls, values)


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


def bounded(z: np.ndarray) -> np.ndarray:
    """What the model reads of z-scores [N, K]; see `forward_fill` and `MAX_INPUT_Z`."""
    return forward_fill(np.where(np.abs(z) <= MAX_INPUT_Z, z, np.nan))


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
