"""Writes episodes in memory as the arrays of D4RL, see `applications.control.trajectories`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.errors import UserError, counted, quote
from memorycell.face.values import check_ragged


def write_episodes(episodes: Sequence[Any], folder: Path) -> Path:
    """(observations [T], [T, V] or [T + 1, V], actions [T] or [T, A]) as one .npz file. Where there
    is one observation more than actions, it is the one after the last action and is left out. A
    third part, rewards, is not read.
    """
    return _write([_acted(one, f"episode {k}") for k, one in enumerate(episodes, 1)], folder)


def write_observed_episodes(episodes: Any, folder: Path) -> Path:
    """One array of observations [T, V], or a list of such arrays, also as tuples with actions."""
    one = isinstance(episodes, np.ndarray) and episodes.ndim == 2
    parts = []
    for k, own in enumerate([episodes] if one else episodes, 1):
        where = f"episode {k}"
        observed = own[0] if isinstance(own, tuple) else own
        parts.append((_numbers(observed, where, "observations"), np.zeros((len(observed), 0))))
    return _write(parts, folder)


def _acted(one: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(one, (tuple, list)) or len(one) not in (2, 3):
        raise ValueError(f"{where} is {quote(one)}")
    observed = _numbers(one[0], where, "observations")
    actions = _numbers(one[1], where, "actions")
    if len(observed) == len(actions) + 1:
        observed = observed[:-1]
    if len(observed) != len(actions):
        raise UserError(
            f"{where} has {counted(len(observed), 'observations')} and"
            f" {counted(len(actions), 'actions')}; give an action"
            " for each observation, or one observation more, the last"
        )
    return observed, actions


def _numbers(values: Any, where: str, what: str) -> np.ndarray:
    """[T, N] of an array [T] or [T, N]. Raises ValueError."""
    if not isinstance(values, np.ndarray) and not any(isinstance(v, str) for v in values):
        check_ragged(values, f"{where}, {what}", "step")
    array = np.asarray(values)
    if array.dtype.kind in "USO" and what == "actions":
        raise UserError(
            f"{where}: the actions are texts or objects; give a data frame with the columns"
            " episode, obs… and action"
        )
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub" or not array.size:
        raise ValueError(f"{where}, {what}: {array.dtype} {list(array.shape)}")
    array = array.reshape(len(array), -1)
    if not np.isfinite(array).all():
        step = int(np.isfinite(array).all(1).argmin()) + 1
        raise UserError(f"{where}, step {step}: one of the {what} is NaN or infinite")
    return array


def _write(parts: Sequence[tuple[np.ndarray, np.ndarray]], folder: Path) -> Path:
    for what, own in zip(("observations", "actions"), zip(*parts, strict=True), strict=True):
        for k, array in enumerate(own, 1):
            if array.shape[1] != own[0].shape[1]:
                raise UserError(
                    f"episode {k} has {counted(array.shape[1], 'values')} per step in its {what},"
                    f" episode 1 has {own[0].shape[1]}"
                )
            if (array.dtype.kind == "f") != (own[0].dtype.kind == "f"):
                raise UserError(
                    f"episode {k} has {what} of type {array.dtype}, episode 1 of {own[0].dtype};"
                    " whole numbers are choices, floats are amounts: give one kind"
                )
    observations, actions = (np.concatenate(own) for own in zip(*parts, strict=True))
    ends = np.cumsum([len(own) for own, _ in parts]) - 1
    terminals = np.zeros(len(observations), bool)
    terminals[ends] = True
    path = folder / "episodes.npz"
    np.savez(path, observations=observations, actions=actions, terminals=terminals)
    return path
