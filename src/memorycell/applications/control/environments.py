"""Environments by name: gymnasium's, those of packages that register some there, and the T-maze."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from memorycell.applications.control.spaces import (
    ActionSpace,
    ObservationSpace,
    action_space,
    observation_space,
)
from memorycell.applications.control.t_maze import NAME as T_MAZE
from memorycell.applications.control.t_maze import TMaze
from memorycell.errors import DataError, UserError, quote
from memorycell.setting_fields import suggestion

PACKAGES = {"popgym-": "popgym", "MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
"""The start of a name -> the package that registers it with gymnasium."""
EXTRAS = {
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.mujoco": "mujoco",
    "gymnasium.envs.classic_control": "classic-control",
    "gymnasium.envs.toy_text": "toy-text",
}
"""The module of an environment -> gymnasium's extra."""
VELOCITIES = {
    "CartPole": (1, 3),
    "Pendulum": (2,),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
    "Acrobot": (4, 5),
    "LunarLander": (2, 3, 5),
    "LunarLanderContinuous": (2, 3, 5),
    "BipedalWalker": (1, 2, 3, 5, 7, 10, 12),
    "BipedalWalkerHardcore": (1, 2, 3, 5, 7, 10, 12),
    "InvertedPendulum": (2, 3),
    "InvertedDoublePendulum": (5, 6, 7),
    "Swimmer": (3, 4, 5, 6, 7),
    "Hopper": tuple(range(5, 11)),
    "Walker2d": tuple(range(8, 17)),
    "HalfCheetah": tuple(range(8, 17)),
}
"""Environment, without its version -> the values of its observation that are velocities."""


class Stepped(NamedTuple):
    """What environments gave after a step.

    observations   [n, V] float32, of a new episode where one ended
    rewards        [n] float64
    terminated     [n] bool: the episode ended
    truncated      [n] bool: the episode was cut off
    last           [n, V] float32: the observations before a new episode began
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last: np.ndarray


def make(name: str, gap: int, **options: Any) -> gymnasium.Env[Any, Any]:
    """The environment of a name. Raises `UserError` for an unknown one and a missing package."""
    if name == T_MAZE:
        return TMaze(gap)
    package = next((p for start, p in PACKAGES.items() if name.startswith(start)), None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if package is not None:
                importlib.import_module(package)
            return gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(_missing(name, str(error.__cause__ or error))) from None
    except ModuleNotFoundError as error:
        if package is not None and error.name == package:
            raise UserError(f"{name} needs {package}: pip install {package}") from None
        module, colon, _ = name.partition(":")
        if colon and (error.name or module) == module:  # gymnasium's error has no name
            raise UserError(
                f"{quote(name)[1:-1]}: there is no Python module {quote(module)[1:-1]}; install the"
                " package that brings it"
            ) from None
        raise UserError(_missing(name, str(error.name))) from None
    except gymnasium.error.Error as error:
        first = str(error).split("\n")[0].rstrip(".")
        near = suggestion(name, [*gymnasium.registry, T_MAZE])
        raise DataError(
            f"{quote(name)[1:-1]}: no such file, and no environment of gymnasium"
            f" ({first[:120]}); {near}for example CartPole-v1, Pendulum-v1, {T_MAZE}"
        ) from None


def _missing(name: str, reason: str) -> str:
    spec = gymnasium.registry.get(name.split(":")[-1])
    module = str(spec.entry_point) if spec else ""
    extra = next((extra for start, extra in EXTRAS.items() if module.startswith(start)), None)
    what = f"'gymnasium[{extra}]'" if extra else "its package"
    missing = reason.split("\n")[0][:120].rstrip(".")
    return f"{name} needs a package that is not installed ({missing}): pip install {what}"


def of_file(name: str) -> str:
    """The name of an environment in a model file, without a module to import: what a file says is
    never imported. Raises `UserError` where the module is not imported yet.
    """
    module, _, rest = name.rpartition(":")
    if module and rest not in gymnasium.registry:
        raise UserError(
            f"{name}: the model's environment; a model file does not import {module}: import it in"
            " Python first, or name the environment (evaluate FILE NAME, predict --set"
            " environment=NAME)"
        )
    return rest


def is_environment(name: str) -> bool:
    """Whether a name is one of an environment, installed or not."""
    start = name.split(":")[-1]
    known = name == T_MAZE or name in gymnasium.registry or ":" in name
    return known or any(start.startswith(prefix) for prefix in PACKAGES)


def hidden_values(hide: str | None, name: str, count: int) -> tuple[int, ...]:
    """The indices of a setting `hide`: "velocity", or "2,3". Raises `UserError`."""
    if not hide:
        return ()
    if hide == "velocity":
        base = name.split("/")[-1].rsplit("-v", 1)[0]
        if base not in VELOCITIES:
            raise UserError(
                f"--set hide=velocity: not known which values of {name} are velocities; name them"
                f" by number, as in hide=2,3 (there are {count})"
            )
        return tuple(k for k in VELOCITIES[base] if k < count)
    try:
        indices = tuple(sorted({int(part) for part in hide.split(",")}))
    except ValueError:
        indices = (-1,)
    if not all(0 <= k < count for k in indices) or len(indices) >= count:
        raise UserError(
            f"--set hide={quote(hide)[1:-1]}: expected velocity, or numbers below {count} and not"
            f" all of them: {name} has {count} values"
        )
    return indices


class Environments:
    """Several copies of an environment, stepped one after the other in one process.

    name        as for `make`
    max_steps   number of steps after which an episode is cut off

    Raises `UserError` as `make`.
    """

    def __init__(self, name: str, count: int, *, gap: int, max_steps: int, **options: Any) -> None:
        self.name, self.max_steps = name, max_steps
        self._made = [make(name, gap, **options) for _ in range(count)]
        first = self._made[0]
        self.observation: ObservationSpace = observation_space(first.observation_space, name)
        self.action: ActionSpace = action_space(first.action_space, name)
        self._flat = (
            isinstance(first.observation_space, spaces.Box)
            and len(first.observation_space.shape) == 1
        )
        self._steps = np.zeros(count, np.int64)
        self.cut_off = 0
        """Episodes that reached `max_steps`."""

    def __len__(self) -> int:
        return len(self._made)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Begin an episode in each of the first len(seeds); observations [n, V]."""
        self._steps[:] = 0
        rows = [
            self._values(env.reset(seed=int(seed))[0])
            for env, seed in zip(self._made, seeds, strict=False)
        ]
        return self._checked(rows)

    def step(
        self, actions: np.ndarray, which: Sequence[int] | None = None, *, restart: bool = True
    ) -> Stepped:
        """Step all environments, or those of some indices, with actions [n, A].

        restart   begin a new episode where one ended

        Raises `DataError` where an environment gives NaN or another shape of observation.
        """
        indices = range(len(self._made)) if which is None else which
        count, decode = len(indices), self.action.decode
        rewards = np.empty(count)
        terminated, truncated = np.zeros(count, bool), np.zeros(count, bool)
        rows = []
        self._steps[list(indices) if which is not None else slice(None)] += 1
        for k, (index, action) in enumerate(zip(indices, actions, strict=True)):
            seen, rewards[k], terminated[k], truncated[k], _ = self._made[index].step(
                decode(action)
            )
            rows.append(self._values(seen))
            if self._steps[index] >= self.max_steps and not (terminated[k] or truncated[k]):
                truncated[k] = True
                self.cut_off += 1
        if not np.isfinite(rewards).all():
            bad = int(np.argmin(np.isfinite(rewards)))
            raise DataError(
                f"{self.name}: gave the reward {rewards[bad]} at step"
                f" {self._steps[list(indices)[bad]]:,} of an episode, not a finite number"
            )
        last = observations = self._checked(rows)
        ended = terminated | truncated
        if restart and ended.any():
            observations = last.copy()
            for k in np.flatnonzero(ended).tolist():
                index = indices[k]
                self._steps[index] = 0
                observations[k] = self._checked([self._values(self._made[index].reset()[0])])[0]
        return Stepped(observations, rewards, terminated, truncated, last)

    def render(self) -> np.ndarray | None:
        """The picture [H, W, 3] uint8 of the first environment, where it has one."""
        picture = self._made[0].render() if self._made[0].render_mode == "rgb_array" else None
        return picture if isinstance(picture, np.ndarray) else None

    def close(self) -> None:
        """Free what the environments hold."""
        for env in self._made:
            env.close()

    def _values(self, observation: Any) -> Any:
        return observation if self._flat else self.observation.flatten(observation)

    def _checked(self, rows: Sequence[Any]) -> np.ndarray:
        width = len(self.observation.names)
        try:
            values = np.asarray(rows, np.float32)
        except ValueError:
            values = np.zeros((0, 0), np.float32)
        if values.shape != (len(rows), width):
            sizes = sorted({np.size(row) for row in rows} - {width})
            raise DataError(
                f"{self.name}: gave an observation of {sizes[0] if sizes else 'no'} values; its"
                f" observation space has {width}"
            )
        if not np.isfinite(values).all():
            bad = int(np.argmax(~np.isfinite(values).all(0)))
            raise DataError(
                f"{self.name}: gave {values[~np.isfinite(values)][0]} as"
                f" {self.observation.names[bad]} of an observation"
            )
        return values
