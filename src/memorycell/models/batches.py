"""Batches for training: long sequences in lanes whose state is carried from one batch to the next,
or short sequences of similar length, padded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor


class Batch(Protocol):
    """What the training loop asks of a batch, a named tuple or a dataclass; a model's `loss` knows
    the rest.
    """

    @property
    def carry(self) -> bool:
        """Whether the state after the previous batch is the state before this one."""

    @property
    def steps(self) -> int:
        """Steps to learn from, padding not counted."""


B = TypeVar("B", bound=Batch)


def on_device(batch: B, device: torch.device) -> B:
    """The batch with its tensors on a device; the same object for the CPU, where it was made."""
    if device.type == "cpu":
        return batch
    kind: Any = type(batch)
    values = _fields(batch)
    moved: B = kind(**{n: v.to(device) if isinstance(v, Tensor) else v for n, v in values.items()})
    return moved


def rows_of(batch: Batch) -> int:
    """Sequences in a batch: the length of its tensors' first axis."""
    return next(len(v) for v in _fields(batch).values() if isinstance(v, Tensor))


def take_rows(batch: B, rows: slice) -> B:
    """The batch of some of its sequences: those rows of every tensor."""
    kind: Any = type(batch)
    values = _fields(batch)
    taken: B = kind(
        **{n: v[rows].contiguous() if isinstance(v, Tensor) else v for n, v in values.items()}
    )
    return taken


def known_targets(target: Tensor) -> int:
    """The targets that are known: not NaN; of class and token ids, not negative (`IGNORE`)."""
    known = ~target.isnan() if target.is_floating_point() else target >= 0
    return int(known.sum())


def _fields(batch: Batch) -> dict[str, Any]:
    kind: Any = type(batch)
    names = kind._fields if isinstance(batch, tuple) else [f.name for f in dataclasses.fields(kind)]
    return {name: getattr(batch, name) for name in names}


class LaneBatch(NamedTuple):
    """The next steps of every lane.

    x        [B, T, F] float32, or tokens [B, T] int64
    target   [B, T, …] float32, NaN where it is unknown; or tokens [B, T] int64
    reset    [B, T] bool: a new sequence begins at that step
    carry    truncated back-propagation: the state after the previous batch is the state before
             this one
    """

    x: Tensor
    target: Tensor
    reset: Tensor
    carry: bool

    @property
    def steps(self) -> int:
        """Steps to learn from."""
        return self.target.shape[0] * self.target.shape[1]


def lanes(
    x: np.ndarray,
    target: np.ndarray,
    reset: np.ndarray,
    *,
    count: int,
    bptt: int,
    shift: int,
    rows: slice = slice(None),
) -> Iterator[LaneBatch]:
    """One epoch over a sequence of N steps as `count` parallel lanes, `bptt` steps per batch; of
    them the lanes `rows`.

    Lane k starts at step shift + k·N/count and ends where the next lane starts, modulo N. Truncated
    back-propagation (Williams & Peng 1990): gradients flow within a batch, the state is carried on.
    """
    steps = len(x)
    count = min(count, steps)
    length = steps // count
    starts = (shift + np.arange(count)[rows] * length)[:, None]
    for begin in range(0, length, bptt):
        index = (starts + np.arange(begin, min(begin + bptt, length))) % steps
        yield LaneBatch(
            torch.from_numpy(x[index]),
            torch.from_numpy(target[index]),
            torch.from_numpy(reset[index] | (index == 0)),
            carry=begin > 0,
        )


class PaddedBatch(NamedTuple):
    """Complete sequences, padded with zeros.

    x         [B, T] int64 tokens, or [B, T, F] float32
    lengths   [B] int64
    target    one per sequence, in the form that the model expects
    carry     False: no state is carried
    """

    x: Tensor
    lengths: Tensor
    target: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Steps read, padding not counted."""
        return int(self.lengths.sum())


def by_length(lengths: np.ndarray, budget: int, seed: int) -> list[np.ndarray]:
    """Batches of sequences of similar length, as indices into lengths [N].

    A batch holds at most `budget` steps with its padding (at least one sequence). The order of the
    batches, and of sequences of equal length, is random.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
    batches: list[np.ndarray] = []
    begin, longest = 0, 0
    for k, which in enumerate(order):
        longest = max(longest, int(lengths[which]))
        if k > begin and longest * (k + 1 - begin) > budget:
            batches.append(order[begin:k])
            begin, longest = k, int(lengths[which])
    batches.append(order[begin:])
    return [batches[k] for k in rng.permutation(len(batches))]


def padded(rows: Sequence[np.ndarray], fill: int | float = 0) -> tuple[Tensor, Tensor]:
    """Rows [T_k, …] as one tensor [B, T, …], padded at the end, and their lengths [B]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    out = np.full(
        (len(rows), max(1, int(lengths.max(initial=0))), *rows[0].shape[1:]), fill, rows[0].dtype
    )
    for k, row in enumerate(rows):
        out[k, : len(row)] = row
    return torch.from_numpy(out), torch.from_numpy(lengths)
