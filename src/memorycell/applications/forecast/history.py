"""What is known at every step of a dataset, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np


class Future(Protocol):
    """The next values of the targets at every step, as an array [N, horizon, C] would give them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, horizon, C)"""

    @property
    def leads(self) -> np.ndarray:
        """[horizon]: how many steps ahead the values are."""

    def __getitem__(self, at: np.ndarray) -> np.ndarray:
        """The values [M, horizon, C] after the steps `at` [M], NaN where unknown."""


class FutureValues:
    """`Future` of a long table, which is too large to store: each value is in `horizon` futures.

    values    [N, C], NaN where unknown
    leads     [horizon]: how many steps ahead they are; by default 1, 2, …
    run       [N] int: steps of the same run follow each other; a future ends with its run
    """

    def __init__(
        self, values: np.ndarray, run: np.ndarray, horizon: int, leads: np.ndarray | None = None
    ) -> None:
        self.values, self.run = values, run
        self.leads = np.arange(1, horizon + 1) if leads is None else leads
        self.shape = (len(values), len(self.leads), values.shape[1])

    def __getitem__(self, at: np.ndarray) -> np.ndarray:
        """See `Future`; at may have any shape."""
        steps = at[..., None] + self.leads
        inside = steps < len(self.values)
        steps = np.minimum(steps, len(self.values) - 1)
        inside &= self.run[steps] == self.run[at][..., None]
        return np.where(inside[..., None], self.values[steps], np.nan)

    def at_leads(self, count: int) -> FutureValues:
        """At most `count` of the next values, evenly spaced."""
        leads = spaced(self.leads, count)
        return FutureValues(self.values, self.run, len(leads), leads)

    @cached_property
    def any_known(self) -> np.ndarray:
        """[N] bool: at least one of the next values is known."""
        size, horizon = len(self.values), int(self.leads[-1])
        known = ~np.isnan(self.values).all(1)
        following = np.where(known, np.arange(size), size)
        following = np.minimum.accumulate(following[::-1])[::-1]  # of each step, itself included
        following = np.append(following[1:], size)
        near = (following < size) & (following - np.arange(size) <= horizon)
        return np.asarray(near & (self.run[np.minimum(following, size - 1)] == self.run))


@dataclass
class History:
    """What is known at every step, and what follows.

    level    [N, C] the last known values of the targets
    inputs   [N, F] float32, the inputs of the step
    start    [N] int64, the first step of the step's segment: earlier steps are unknown
    future   the next values of the targets
    """

    level: np.ndarray
    inputs: np.ndarray
    start: np.ndarray
    future: Future


def spaced(at: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the steps `at` [M], evenly spaced."""
    if len(at) <= count:
        return at
    return at[np.linspace(0, len(at) - 1, count).round().astype(int)]
