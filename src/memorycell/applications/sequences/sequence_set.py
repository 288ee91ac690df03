"""Labelled sequences as readers give them and data sets take them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from memorycell.tables.numbers import NumberFormat

TargetKind: TypeAlias = Literal["class", "labels", "number", "step_class", "step_number"]
"""What is predicted: one class, several labels at once or numbers of a sequence; a class or
numbers at every step.
"""
TARGET_KINDS: tuple[TargetKind, ...] = ("class", "labels", "number", "step_class", "step_number")


@dataclass(frozen=True)
class Channel:
    """An input column. `words` are the categories that its values number; None: it is numeric."""

    name: str
    words: tuple[str, ...] | None = None


@dataclass
class Target:
    """What is predicted, for N sequences of T_i steps.

    kind     names     values
    class         C classes   int64 [N]
    labels        C labels    float32 [N, C], 0 or 1
    number        K columns   float64 [N, K]
    step_class    C classes   N arrays int64 [T_i]; -1: not labelled
    step_number   K columns   N arrays float64 [T_i, K]; NaN: not measured
    """

    kind: TargetKind
    names: tuple[str, ...]
    values: np.ndarray | list[np.ndarray]

    @property
    def every_step(self) -> bool:
        """Whether it is predicted at every step."""
        return self.kind in ("step_class", "step_number")

    @property
    def is_class(self) -> bool:
        """Whether one of several classes is predicted, of a sequence or at every step."""
        return self.kind in ("class", "step_class")

    @property
    def array(self) -> np.ndarray:
        """The values of all sequences: [N, …], or [ΣT_i, …] of a target at every step."""
        return self.values if isinstance(self.values, np.ndarray) else np.concatenate(self.values)

    def select(self, index: np.ndarray) -> Target:
        """The target of the sequences `index` [n] int64."""
        if isinstance(self.values, np.ndarray):
            return replace(self, values=self.values[index])
        return replace(self, values=[self.values[k] for k in index])


@dataclass
class SequenceSet:
    """N sequences of F channels.

    where      the file or name of the data, for messages
    names      of the sequences, unique
    channels   F input columns
    values     N arrays float64 [T_i, F]; NaN: missing; categories by number
    target     None where the data are not labelled (inputs of `predict`)
    static     N rows float64 [N, S] of values that are constant in a sequence, `static_channels`
               long in words and numbers as `channels`
    groups     name of the group of each sequence that must not be split, or None
    split      official parts, int8 [N]: 0 training, 1 validation, 2 test; None: not given
    fingerprint  of the data
    notes      what was found, left out or mended, one line each
    formats    how the numbers of columns are written, of those that are not plain
    found      the reading options that were inferred, by name
    """

    where: str
    names: list[str]
    channels: list[Channel]
    values: list[np.ndarray]
    target: Target | None
    static_channels: list[Channel] = field(default_factory=list)
    static: np.ndarray | None = None
    groups: list[str] | None = None
    split: np.ndarray | None = None
    fingerprint: str = ""
    notes: list[str] = field(default_factory=list)
    formats: Mapping[str, NumberFormat] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each sequence, int64 [N]."""
        return np.fromiter((len(v) for v in self.values), np.int64, len(self.values))

    def select(self, index: np.ndarray) -> SequenceSet:
        """The sequences `index`: their numbers [n] int64, or a mask [N] bool."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        return replace(
            self,
            names=[self.names[k] for k in index],
            values=[self.values[k] for k in index],
            target=None if self.target is None else self.target.select(index),
            static=None if self.static is None else self.static[index],
            groups=None if self.groups is None else [self.groups[k] for k in index],
            split=None if self.split is None else self.split[index],
        )


def fingerprint(data: SequenceSet) -> str:
    """16 hexadecimal digits of a hash of the values, lengths and targets."""
    digest = hashlib.sha256(data.lengths.tobytes())
    for value in data.values:
        digest.update(np.ascontiguousarray(value).tobytes())
    if data.target is not None:
        digest.update("\0".join((data.target.kind, *data.target.names)).encode())
        digest.update(np.ascontiguousarray(data.target.array).tobytes())
    return digest.hexdigest()[:16]
