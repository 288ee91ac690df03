"""Logged trajectories: tables with a row per step, and .npz files with the arrays of D4RL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.numbers import number_text, read_numbers
from memorycell.tables.table import read_table

if TYPE_CHECKING:
    import polars as pl

MAX_CHOICES = 64
"""Whole numbers from 0 below this are choices; others are numbers."""
PREFIXES = {"observations": "obs", "actions": "act"}
D4RL = ("observations", "actions", "terminals")
"""Arrays [N, V], [N, A] or [N], [N] bool (Fu et al. 2020, arXiv:2004.07219); also timeouts [N]."""


@dataclass(frozen=True)
class Columns:
    """How a table of trajectories is read; None: by their names."""

    episode: str
    step: str
    observations: str | None
    actions: str | None


@dataclass(frozen=True)
class Trajectory:
    """One episode: values [T, V] float32 and actions [T, A] float32; A is 0 where none are
    given.
    """

    name: str
    values: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Trajectories:
    """Of a file. `words` are the choices of each action; empty for numbers."""

    where: str
    names: tuple[str, ...]
    actions: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    episodes: list[Trajectory]

    @property
    def steps(self) -> int:
        """Of all episodes."""
        return sum(len(one.values) for one in self.episodes)


def read_trajectories(
    path: str, columns: Columns, *, names: Sequence[str] = (), with_actions: bool = True
) -> Trajectories:
    """The trajectories of a file.

    names          columns of the observations, which are read where the table has all of them
    with_actions   whether there must be actions

    Raises `DataError`, which names the row and the column.
    """
    if Path(path).suffix.lower() == ".npz":
        return _read_arrays(path, with_actions)
    frame = read_table(path)
    episode = columns.episode
    if episode not in frame.columns:
        raise DataError(
            f"{path}: no column {quote(episode)} that names the episode of a row; it has"
            f" {_shown(frame.columns)}; --set episode=…"
        )
    if names and set(names) <= set(frame.columns):
        seen = list(names)
    else:
        seen = _chosen(frame, path, columns.observations, "observations")
    acted = _chosen(frame, path, columns.actions, "actions") if with_actions else []
    values = np.column_stack([_numbers(frame[name], path) for name in seen])
    read = [_actions(frame[name], path) for name in acted]
    words = tuple(own for _, own in read if own)
    if words and len(words) < len(read):
        raise DataError(f"{path}: some actions are choices and others numbers; name one kind")
    actions = np.column_stack([column for column, _ in read] or [np.zeros((len(values), 0))])
    episodes = []
    keys = [str(key) for key in frame[episode].to_list()]
    order = _numbers(frame[columns.step], path) if columns.step in frame.columns else None
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    for key, own in rows.items():
        index = np.array(own)
        if order is not None:
            index = index[np.argsort(order[index], kind="stable")]
        episodes.append(_trajectory(key, values[index], actions[index]))
    return Trajectories(path, tuple(seen), tuple(acted), words, episodes)


def _trajectory(name: str, values: np.ndarray, actions: np.ndarray) -> Trajectory:
    return Trajectory(name, values.astype(np.float32), actions.astype(np.float32))


def _chosen(frame: pl.DataFrame, path: str, given: str | None, kind: str) -> list[str]:
    """The columns of a setting."""
    if given:
        chosen = [name.strip() for name in given.split(",")]
        missing = [name for name in chosen if name not in frame.columns]
        if missing:
            raise DataError(
                f"{path}: no column {quote(missing[0])}; it has {_shown(frame.columns)}"
            )
        return chosen
    chosen = [name for name in frame.columns if name.lower().startswith(PREFIXES[kind])]
    if not chosen:
        raise DataError(
            f"{path}: no column whose name begins with {PREFIXES[kind]}; it has"
            f" {_shown(frame.columns)}; --set {kind}=…"
        )
    return chosen


def _shown(names: Sequence[str]) -> str:
    return quote(", ".join(names))[1:-1]


def _numbers(column: pl.Series, path: str) -> np.ndarray:
    """[N] float64. Raises `DataError` for a missing number."""
    numbers = read_numbers(column, path)
    too_large = np.abs(numbers) > np.finfo(np.float32).max
    if np.isnan(numbers).any() or too_large.any():
        row = int((np.isnan(numbers) | too_large).argmax())
        what = "is beyond float32" if too_large[row] else "is missing"
        raise DataError(
            f"{path}: row {row + 1}, column {quote(column.name)} {what}; a step needs all of its"
            " numbers"
        )
    return numbers


def _actions(column: pl.Series, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(choices or numbers [N], the words of the choices or ())."""
    try:
        numbers = _numbers(column, path)
    except DataError:
        texts = column.to_list()
        words = tuple(sorted({str(text).strip() for text in texts if text is not None}))
        if None in texts or "" in words or len(words) > MAX_CHOICES:
            raise
        index = {word: k for k, word in enumerate(words)}
        return np.array([index[str(text).strip()] for text in texts], float), words
    largest = numbers.max()
    if (numbers == np.floor(numbers)).all() and numbers.min() >= 0 and largest < MAX_CHOICES:
        return numbers, tuple(number_text(k) for k in range(max(int(largest) + 1, 2)))
    return numbers, ()


def _read_arrays(path: str, with_actions: bool) -> Trajectories:
    needed = D4RL if with_actions else ("observations", "terminals")
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in needed if name not in file]
            if missing:
                raise DataError(
                    f"{path}: no array {missing[0]}; expected {', '.join(needed)} (and timeouts)"
                )
            arrays: dict[str, Any] = {name: file[name] for name in file}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is no readable .npz of arrays ({quote(str(error))})") from None
    observations = np.asarray(arrays["observations"])
    actions = np.asarray(arrays["actions"] if with_actions else np.zeros((len(observations), 0)))
    actions = actions.reshape(len(actions), -1) if actions.ndim != 2 else actions
    for name, array in (("observations", observations), ("actions", actions)):
        if array.ndim != 2 or array.dtype.kind not in "iufb" or len(array) != len(observations):
            raise DataError(f"{path}: {name}: expected numbers [N, …], got {list(array.shape)}")
        if not np.isfinite(array.astype(np.float32)).all():
            row = int(np.argmin(np.isfinite(array.astype(np.float32)).all(1)))
            raise DataError(f"{path}: {name}, row {row}: NaN or infinity")
    ends = np.asarray(arrays["terminals"]).astype(bool).ravel()
    if "timeouts" in arrays:
        ends = ends | np.asarray(arrays["timeouts"]).astype(bool).ravel()
    if len(ends) != len(observations) or not len(ends):
        raise DataError(f"{path}: terminals: expected one for each of {len(observations)} rows")
    whole = actions.dtype.kind in "iub" and actions.size and 0 <= actions.min() <= actions.max()
    words: tuple[tuple[str, ...], ...] = ()
    if whole and actions.max() < MAX_CHOICES:
        words = tuple(
            tuple(number_text(k) for k in range(max(int(column.max()) + 1, 2)))
            for column in actions.T
        )
    cuts = np.flatnonzero(ends[:-1]) + 1
    parts = zip(np.split(observations, cuts), np.split(actions, cuts), strict=True)
    episodes = [_trajectory(str(k), values, acted) for k, (values, acted) in enumerate(parts)]
    names = tuple(f"observation[{k}]" for k in range(observations.shape[1]))
    acted_names = tuple(f"action[{k}]" for k in range(actions.shape[1]))
    return Trajectories(path, names, acted_names, words, episodes)


def check_bounds(found: Trajectories, low: Sequence[float], high: Sequence[float]) -> None:
    """Raises `DataError` for an action outside bounds, one for each action."""
    for one in found.episodes:
        slack = 1e-5 * (np.array(high) - np.array(low))
        outside = (one.actions < low - slack) | (one.actions > high + slack)
        if outside.any():
            step, k = (int(axis[0]) for axis in np.nonzero(outside))
            value = one.actions[step, k]
            number = number_text(round(float(value), 6)) if math.isfinite(value) else str(value)
            raise DataError(
                f"{found.where}: episode {quote(one.name)[1:-1]}, step {step + 1}:"
                f" {found.actions[k]} is {number}, outside {low[k]:g} to {high[k]:g}"
            )
