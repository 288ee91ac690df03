"""From the spaces of a gymnasium environment to rows of values and back to actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from memorycell.errors import UserError

MAX_VALUES = 100_000


@dataclass(frozen=True)
class ObservationSpace:
    """How an observation becomes a row of values.

    names    of the values
    counts   per value: 0 for a number, n for one of n categories 0 … n-1
    flatten  observation -> its values
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    flatten: Callable[[Any], Any]


@dataclass(frozen=True)
class ActionSpace:
    """How an action of the model becomes one of the environment.

    choices    number of choices of each discrete action; empty for numbers
    low, high  bounds of each number
    decode     an action, [A] int64 or float32 -> the environment's
    """

    choices: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    decode: Callable[[np.ndarray], Any]


def observation_space(space: spaces.Space[Any], name: str) -> ObservationSpace:
    """Raises `UserError` for a space that cannot be a row of values."""
    found = _observation(space, name, "")
    if found is None or not found.names:
        raise UserError(f"{name}: its observations, {space}, are no numbers")
    if len(found.names) > MAX_VALUES:
        raise UserError(f"{name}: {len(found.names):,} values, more than {MAX_VALUES:,}")
    return found


def _observation(space: spaces.Space[Any], name: str, path: str) -> ObservationSpace | None:
    """None for texts, which are left out."""
    if isinstance(space, spaces.Text) or (space.dtype is not None and space.dtype.kind == "U"):
        return None  # the second are texts of a package's own kind, such as MiniGrid's missions
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return ObservationSpace((path or "value",), (int(space.n),), lambda x: [int(x) - start])
    if isinstance(space, spaces.MultiDiscrete):
        counts = tuple(map(int, space.nvec.ravel()))
        return ObservationSpace(_numbered(path, len(counts)), counts, np.ravel)
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        size = int(np.prod(space.shape))
        return ObservationSpace(_numbered(path, size), (0,) * size, np.ravel)
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        named: Mapping[Any, spaces.Space[Any]] = (
            space.spaces if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
        )
        parts = [(k, _observation(own, name, f"{path}{k}")) for k, own in named.items()]
        kept = [(k, part) for k, part in parts if part is not None]
        return ObservationSpace(
            tuple(n for _, part in kept for n in part.names),
            tuple(c for _, part in kept for c in part.counts),
            lambda x: np.concatenate([part.flatten(x[k]) for k, part in kept]),
        )
    raise UserError(f"{name}: observations of the kind {type(space).__name__} are not supported")


def _numbered(path: str, size: int) -> tuple[str, ...]:
    return tuple(f"{path or 'value'}[{k}]" for k in range(size))


def action_space(space: spaces.Space[Any], name: str) -> ActionSpace:
    """Raises `UserError` for a space whose actions the model cannot give."""
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return ActionSpace((int(space.n),), (), (), lambda a: int(a[0]) + start)
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        counts = np.full(space.shape, 2) if isinstance(space, spaces.MultiBinary) else space.nvec
        sizes = tuple(map(int, counts.ravel()))
        shape, dtype = space.shape, space.dtype
        return ActionSpace(sizes, (), (), lambda a: a.reshape(shape).astype(dtype))
    if isinstance(space, spaces.Box):
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise UserError(
                f"{name}: its actions have no bounds; wrap it in gymnasium's RescaleAction"
            )
        low, high = (tuple(map(float, bound.ravel())) for bound in (space.low, space.high))
        shape, dtype = space.shape, space.dtype
        return ActionSpace((), low, high, lambda a: a.reshape(shape).astype(dtype))
    raise UserError(f"{name}: actions of the kind {type(space).__name__} are not supported")
