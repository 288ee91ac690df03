"""A corridor with a sign at its start that says which way to turn at its end.

After Bakker (2001), Reinforcement learning with long short-term memory, and the passive T-maze of
Ni et al. (2023, arXiv:2307.03864): the agent moves on at every step, whatever it does, so that
nothing but memory is needed. An episode has gap + 1 steps. At the first, the observation is the
sign; at the last the junction is seen, and the action decides: 1 for the right turn, 0 for the
other. A policy without memory of the first step has a mean return of 0.5.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

NAME = "t-maze"


class TMaze(gymnasium.Env[np.ndarray, np.int64]):
    """Observation [3] float32: the sign (-1 or 1, at the first step, else 0), whether this is the
    corridor, whether this is the junction. Actions: 0 turns left, 1 right.

    gap   steps between the sign and the junction
    """

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, gap: int = 100) -> None:
        self.gap = gap
        self._side = self._place = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """See `gymnasium.Env`."""
        super().reset(seed=seed)
        self._side, self._place = int(self.np_random.integers(2)), 0
        return np.array([2 * self._side - 1, 0, 0], np.float32), {}

    def step(
        self, action: int | np.integer[Any]
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        if self._place == self.gap:
            return np.zeros(3, np.float32), float(action == self._side), True, False, {}
        self._place += 1
        at_junction = self._place == self.gap
        return np.array([0, not at_junction, at_junction], np.float32), 0.0, False, False, {}
