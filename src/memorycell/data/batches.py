"""Batches for training: long sequences cut into lanes that carry their state from one batch to the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """A piece of every lane.

    x        [B, T, F] float32
    target   [B, T, …] float32, NaN where there is nothing to learn from
    reset    [B, T] bool: a new sequence begins at that step
    carry    the state after the batch before it is the state before this one (truncated back-propagation)
    """

    x: Tensor
    target: Tensor
    reset: Tensor
    carry: bool


def lanes(
    x: np.ndarray, target: np.ndarray, reset: np.ndarray, *, count: int, bptt: int, shift: int
) -> Iterator[Batch]:
    """One pass over a sequence of N steps as `count` lanes side by side, `bptt` steps a batch.

    Lane k starts at step shift + k·N/count and runs to the start of the next lane, round the end of the sequence.
    Williams & Peng (1990): gradients flow back within a batch, the state flows on.
    """
    steps = len(x)
    count = min(count, steps)
    length = steps // count
    starts = (shift + np.arange(count) * length)[:, None]
    for begin in range(0, length, bptt):
        index = (starts + np.arange(begin, min(begin + bptt, length))) % steps
        yield Batch(
            torch.from_numpy(x[index]),
            torch.from_numpy(target[index]),
            torch.from_numpy(reset[index] | (index == 0)),
            carry=begin > 0,
        )
