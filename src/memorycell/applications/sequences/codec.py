"""Sequence codec: from the rows of a sequence to the inputs of each step, and from outputs back to
classes and numbers.

A missing value repeats the last one known (before the first, the mean), and a flag marks it where
training had missing values in that column. Rows are joined into patches (Nie et al. 2023,
arXiv:2211.14730): one step of the recurrent part reads `patch` rows, the last patch filled up with
its last row. Values that are constant in a sequence are inputs of every step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from memorycell.applications.sequences.many_rows import fill_forward_each, rows_of_many
from memorycell.applications.sequences.own_scale import running_moments
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet, Target, TargetKind
from memorycell.errors import DataError, quote
from memorycell.setting_fields import from_json
from memorycell.tables.numbers import NumberFormat

MAX_COLUMNS, MAX_NAMES = 10_000, 10_000
MAX_SCALED = 1e4
"""Scaled values are clipped to ± this, so that an absurd reading stays finite in float32."""


@dataclass(frozen=True)
class Column:
    """An input column.

    words      its categories; empty: it is numeric
    mean, std  of its training values, after asinh if `unit` is not 0
    unit       above 0: values are read as asinh(value / unit)
    change     standard deviation of the changes from row to row in scaled units, which are inputs
               too; 0: they are not
    floor      above 0: two more inputs are the value relative to the mean and the deviation of the
               sequence so far, and the logarithm of that deviation, at least `floor`
    log_mean, log_std   of that logarithm in training
    gappy      training had missing values: an input flags them
    """

    name: str
    words: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    unit: float = 0.0
    change: float = 0.0
    floor: float = 0.0
    log_mean: float = 0.0
    log_std: float = 1.0
    gappy: bool = False

    @property
    def size(self) -> int:
        """Inputs that it becomes."""
        return (len(self.words) or 1) + self.numbers_after_first + self.gappy

    @property
    def numbers_after_first(self) -> int:
        """Numeric inputs besides the value."""
        return (self.change > 0) + 2 * (self.floor > 0)

    @property
    def channel(self) -> Channel:
        """As readers know it."""
        return Channel(self.name, self.words or None)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Numbers [...] in scaled units, not clipped."""
        if self.unit:
            values = np.arcsinh(values / self.unit)
        return (values - self.mean) / self.std


@dataclass(frozen=True)
class SequenceCodec:
    """The columns of a sequence, the target and their scaling. The field names are the keys in a
    model file.

    target            what is predicted
    names             classes, labels, or columns of numbers
    channels, static  inputs per row, and per sequence
    patch             rows per step of the recurrent part
    target_mean, target_std   of each number
    sequence          column that names the sequence of a row
    unknown_below     probability below which the class is "unknown"; 0: it never is
    formats           column -> how its numbers are written, unless plain
    """

    target: TargetKind
    names: tuple[str, ...]
    channels: tuple[Column, ...]
    static: tuple[Column, ...] = ()
    patch: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    sequence: str | None = None
    unknown_below: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    formats: Mapping[str, NumberFormat] = field(default_factory=dict)

    kind: ClassVar[str] = "sequences"

    # ---- sizes -----------------------------------------------------------------------------------

    @property
    def numeric(self) -> bool:
        """Whether numbers are predicted."""
        return self.target in ("number", "step_number")

    @property
    def every_step(self) -> bool:
        """Whether there is a target at every step."""
        return self.target in ("step_class", "step_number")

    @cached_property
    def row_size(self) -> int:
        """Inputs per row."""
        return sum(column.size for column in self.channels)

    @cached_property
    def static_size(self) -> int:
        """Inputs per sequence."""
        return sum(column.size for column in self.static)

    @property
    def input_size(self) -> int:
        """Inputs per step of the recurrent part."""
        return self.patch * self.row_size + self.static_size

    @cached_property
    def number_inputs(self) -> np.ndarray:
        """Which inputs of a row are scaled numbers, bool [R]."""
        return np.concatenate(
            [
                [not c.words]
                + [True] * c.numbers_after_first
                + [False] * (c.size - 1 - c.numbers_after_first)
                for c in self.channels
            ]
        ).astype(bool)

    # ---- inputs ----------------------------------------------------------------------------------

    def rows(
        self,
        values: np.ndarray,
        before: np.ndarray | None = None,
        moments: np.ndarray | None = None,
    ) -> np.ndarray:
        """Inputs [T, R] float32 of the rows [T, F] float64 of a sequence, NaN where missing.

        before   the last known values [F] of the rows before, NaN where there are none
        moments  [4, F] of the rows before, see `moments_after`
        """
        filled = fill_forward(values, before)
        first = np.full((1, values.shape[1]), np.nan) if before is None else before[None]
        own = running_moments(values, moments)[:2] if self.has_own_scale else None
        return self._columns(self.channels, filled, np.isnan(values), first, own)

    def joined_rows(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """`rows` of several sequences at once, [T, F] one after another, which begin at `starts`
        [n]. Not for columns that are read relative to their own sequence.
        """
        filled, first = fill_forward_each(values, starts), np.full((1, values.shape[1]), np.nan)
        return self._columns(self.channels, filled, np.isnan(values), first, starts=starts)

    @cached_property
    def has_own_scale(self) -> bool:
        """Whether columns are also read relative to their own sequence."""
        return any(column.floor for column in self.channels)

    def moments_after(self, values: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """The moments [4, F] after rows [T, F]; see `own_scale.no_moments`."""
        return running_moments(values, moments)[2] if self.has_own_scale else moments

    def static_inputs(self, static: np.ndarray | None) -> np.ndarray:
        """Inputs [S] float32 of the values that are constant in a sequence."""
        if not self.static:
            return np.zeros(0, np.float32)
        assert static is not None
        values = np.asarray(static, np.float64)[None]
        return np.asarray(self._columns(self.static, values, np.isnan(values), values)[0])

    def steps(self, rows: np.ndarray, static: np.ndarray) -> np.ndarray:
        """Inputs of the recurrent part [ceil(T / patch), input_size] of rows [T, R]."""
        if self.patch > 1:
            count = -(-len(rows) // self.patch)
            missing = count * self.patch - len(rows)
            rows = np.concatenate([rows, np.repeat(rows[-1:], missing, 0)])
            rows = rows.reshape(count, -1)
        if not len(static):
            return np.ascontiguousarray(rows)
        return np.concatenate([rows, np.repeat(static[None], len(rows), 0)], 1)

    def encode(self, data: SequenceSet) -> list[np.ndarray]:
        """The inputs [n_i, input_size] of each sequence."""
        return [
            self.steps(rows, self.static_inputs(static))
            for rows, static in zip(rows_of_many(self, data.values), static_rows(data), strict=True)
        ]

    @staticmethod
    def _columns(
        columns: Sequence[Column],
        filled: np.ndarray,
        missing: np.ndarray,
        first: np.ndarray,
        own: tuple[np.ndarray, np.ndarray] | None = None,
        starts: np.ndarray | None = None,
    ) -> np.ndarray:
        """Inputs of rows without gaps; `first` [1, F] is the row before them, `own` the mean and
        the deviation [T, F] of the sequence so far; `starts` [n] are the rows at which sequences
        begin, where there are several.
        """
        parts: list[np.ndarray] = []
        for k, column in enumerate(columns):
            values = filled[:, k]
            if column.words:
                known = ~np.isnan(values)
                one_hot = np.zeros((len(values), len(column.words)), np.float32)
                index = np.where(known, values, 0).astype(np.int64)
                known &= (index >= 0) & (index < len(column.words))
                one_hot[np.flatnonzero(known), index[known]] = 1
                parts.append(one_hot)
            else:
                scaled = _bounded(column.scaled(values))
                parts.append(scaled[:, None])
                if column.change:
                    start = first[:, k]
                    before = np.concatenate([_bounded(column.scaled(start)), scaled[:-1]])
                    known = ~np.isnan(np.concatenate([start, values[:-1]]))
                    if starts is not None:
                        known[starts] = False
                    change = np.where(known, (scaled - before) / column.change, 0.0)
                    parts.append(_bounded(change)[:, None])
                if column.floor and own is not None:
                    std = np.maximum(own[1][:, k], column.floor)
                    parts.append(_bounded((values - own[0][:, k]) / std)[:, None])
                    parts.append(((np.log(std) - column.log_mean) / column.log_std)[:, None])
            if column.gappy:
                parts.append(missing[:, k : k + 1])
        return np.concatenate(parts, 1, dtype=np.float32)

    # ---- targets ---------------------------------------------------------------------------------

    def matched(self, target: Target, where: str) -> Target:
        """A target with this codec's names in its order; classes that the model does not know are
        -1. Raises `DataError` for another kind of target, and missing columns or labels.
        """
        if target.kind != self.target:
            raise DataError(
                f"{where}: the target is a {target.kind}, the model predicts a {self.target}"
            )
        if target.names == self.names:
            return target
        position = {name: k for k, name in enumerate(self.names)}
        if target.is_class:
            table = np.array([*(position.get(name, -1) for name in target.names), -1])
            if isinstance(target.values, np.ndarray):
                return Target(target.kind, self.names, table[target.values])
            return Target(target.kind, self.names, [table[values] for values in target.values])
        absent = [name for name in self.names if name not in target.names]
        if absent:
            raise DataError(f"{where}: no target {quote(absent[0])}, which the model predicts")
        order = [target.names.index(name) for name in self.names]
        if isinstance(target.values, np.ndarray):
            return Target(target.kind, self.names, target.values[:, order])
        return Target(target.kind, self.names, [values[:, order] for values in target.values])

    def scaled_target(self, target: Target) -> np.ndarray | list[np.ndarray]:
        """What the model learns, of a target with this codec's names."""
        values = target.values
        if not self.numeric:
            return values
        mean, std = np.array(self.target_mean), np.array(self.target_std)
        if isinstance(values, np.ndarray):
            return ((values - mean) / std).astype(np.float32)
        return [((v - mean) / std).astype(np.float32) for v in values]

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs of the model [...] as probabilities [..., C], or quantiles [..., K, Q] in the
        units of the table; float64.
        """
        outputs = outputs.astype(np.float64)
        if self.numeric:
            scale, offset = np.array(self.target_std), np.array(self.target_mean)
            return np.asarray(outputs * scale[:, None] + offset[:, None])
        if self.target == "labels":
            return np.asarray(1 / (1 + np.exp(-outputs)))
        powers = np.exp(outputs - outputs.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True))

    # ---- in a model file -------------------------------------------------------------------------

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {
            "input_size": self.input_size,
            "outputs": len(self.names),
            "target": self.target,
        }

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SequenceCodec:
        """See `Codec`."""
        codec = from_json(cls, data)
        _check(codec)
        return codec


def static_rows(data: SequenceSet) -> Sequence[np.ndarray | None]:
    """The static values of each sequence."""
    return [None] * len(data) if data.static is None else list(data.static)


def fill_forward(values: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """Values [T, F] with each NaN replaced by the last known value of its column, `before` [F] if
    there is none yet.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    steps = np.where(missing, -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(steps, 0)
    filled = np.take_along_axis(values, np.maximum(last, 0), 0)
    first = np.full(values.shape[1], np.nan) if before is None else before
    return np.where(last < 0, first, filled)


def _bounded(scaled: np.ndarray) -> np.ndarray:
    """Scaled values within ± `MAX_SCALED`; 0, the mean, where there is none yet."""
    return np.clip(np.where(np.isnan(scaled), 0.0, scaled), -MAX_SCALED, MAX_SCALED)


def _check(codec: SequenceCodec) -> None:
    """Raises ValueError where the fields do not fit each other."""
    columns = (*codec.channels, *codec.static)
    if not codec.channels or len(columns) > MAX_COLUMNS:
        raise ValueError("channels: expected one or more")
    if not codec.names or len(codec.names) > MAX_NAMES:
        raise ValueError("names: expected one or more")
    for title, names in (
        ("names", codec.names),
        ("channels", [column.name for column in columns]),
        *((f"words of {column.name}", column.words) for column in columns),
    ):
        if len(set(names)) < len(names):
            raise ValueError(f"{title}: a name occurs twice")
    for column in columns:
        if not (math.isfinite(column.mean) and 0 < column.std < math.inf):
            raise ValueError("channels: expected a finite mean and a standard deviation above 0")
        if not all(0 <= v < math.inf for v in (column.unit, column.change, column.floor)):
            raise ValueError("channels: expected a finite unit, change and floor")
        if not (math.isfinite(column.log_mean) and 0 < column.log_std < math.inf):
            raise ValueError("channels: expected a finite log_mean and a log_std above 0")
    numbers = len(codec.names) if codec.numeric else 0
    if len(codec.target_mean) != numbers or len(codec.target_std) != numbers:
        raise ValueError("target_mean: expected one of each number")
    if not all(map(math.isfinite, codec.target_mean)):
        raise ValueError("target_mean: not finite")
    if not all(0 < s < math.inf for s in codec.target_std):
        raise ValueError("target_std: expected standard deviations above 0")
    if any(column.floor for column in codec.static):
        raise ValueError("static: one value has no deviation")
    if codec.every_step and codec.patch > 1:
        raise ValueError("patch: expected 1 for a target at every step")
