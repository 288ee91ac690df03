"""Plays complete episodes and measures their returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from memorycell.application.contract import Metrics
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.environments import Environments
from memorycell.streaming.stepping import Stepper

FIRST_SEEDS = {"train": 1 << 30, "valid": 5 << 28, "test": 6 << 28}
"""Of the episodes of a split; those of rollouts are below all of them."""


class Actor(Protocol):
    """Acts in several episodes at once."""

    def begin(self, count: int) -> None:
        """New episodes begin, numbered from 0."""

    def act(self, episodes: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Actions [n, A] for the inputs [n, I] of some episodes [n] int64."""


class ModelActor:
    """Takes the most likely action of a model."""

    def __init__(self, stepper: Stepper, codec: ControlCodec) -> None:
        self._stepper, self._codec = stepper, codec

    def begin(self, count: int) -> None:
        """See `Actor`."""
        self._block = np.zeros((count, self._stepper.layout.width), np.float32)

    def act(self, episodes: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """See `Actor`."""
        return self._codec.best_action(self._stepper.step_many(self._block, episodes, inputs))


class RandomActor:
    """Takes actions at random, all equally likely."""

    def __init__(self, codec: ControlCodec, seed: int) -> None:
        self._codec, self._rng = codec, np.random.default_rng(seed)

    def begin(self, count: int) -> None:
        """See `Actor`."""

    def act(self, episodes: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """See `Actor`."""
        codec, count = self._codec, len(inputs)
        if codec.choices:
            return self._rng.integers(0, codec.choices, (count, len(codec.choices)))
        low, high = np.array(codec.low), np.array(codec.high)
        return self._rng.uniform(low, high, (count, len(low))).astype(np.float32)


@dataclass(frozen=True)
class Played:
    """Episodes: their returns [E] and steps [E]."""

    returns: np.ndarray
    steps: np.ndarray

    def metrics(self) -> Metrics:
        """`return`: the mean, with its 95% interval `return_low` … `return_high` (mean ± 1.96
        standard errors), `steps` per episode, and `cost`, the negative mean.
        """
        mean = float(self.returns.mean())
        half = 1.96 * float(self.returns.std(ddof=1)) / float(np.sqrt(len(self.returns)))
        return {
            "return": mean,
            "return_low": mean - half,
            "return_high": mean + half,
            "steps": float(self.steps.mean()),
            "cost": -mean,
        }


def play(
    environments: Environments, codec: ControlCodec, actor: Actor, seeds: Sequence[int]
) -> Played:
    """Play an episode of each seed, as many at a time as there are environments."""
    returns, steps = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    for first in range(0, len(seeds), len(environments)):
        own = seeds[first : first + len(environments)]
        inputs = codec.inputs(environments.reset(own))
        actor.begin(len(own))
        open_ones = np.arange(len(own))
        while len(open_ones):
            actions = actor.act(open_ones, inputs)
            stepped = environments.step(actions, open_ones.tolist(), restart=False)
            returns[first + open_ones] += stepped.rewards
            steps[first + open_ones] += 1
            continues = ~(stepped.terminated | stepped.truncated)
            open_ones = open_ones[continues]
            inputs = codec.inputs(stepped.observations[continues])
    return Played(returns, steps)
