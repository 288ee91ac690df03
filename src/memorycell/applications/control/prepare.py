"""From a name or a path to a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.application.datasets import with_dataset_settings
from memorycell.applications.control.cloning import TrajectoryDataset
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.dataset import EnvironmentDataset
from memorycell.applications.control.environments import (
    Environments,
    hidden_values,
    is_environment,
    of_file,
)
from memorycell.applications.control.model import Policy, has_gates
from memorycell.applications.control.public_data import DATASETS
from memorycell.applications.control.settings import ControlSettings
from memorycell.applications.control.trajectories import (
    Columns,
    Trajectories,
    Trajectory,
    check_bounds,
    read_trajectories,
)
from memorycell.errors import DataError, UserError, counted, quote

DEFAULT_DATASET = "t-maze"
MIN_EPISODES = 3
SHARES = (0.15, 0.15)
"""Of the episodes, to test and to validate."""

PolicyFile = ModelFile[Policy, ControlCodec]
ControlDataset = EnvironmentDataset | TrajectoryDataset


def prepare(data: str | None, settings: ControlSettings) -> ControlDataset:
    """See `Application`: an environment by its name, or a file of trajectories. Raises `UserError`
    for several members with an environment.
    """
    data = data or DEFAULT_DATASET
    if Path(data).exists():
        return _prepare_trajectories(data, settings)
    named = next((dataset for dataset in DATASETS if dataset.name == data), None)
    settings = with_dataset_settings(settings, named)
    if named is not None and settings.memory is None and has_gates(settings.cell):
        settings = dataclasses.replace(settings, memory=max(settings.gap, 2))
    if Path(data).suffix and not is_environment(data):
        raise DataError(f"{data}: no such file, and no environment of that name")
    codec = environment_codec(data, settings)
    if settings.members > 1:
        raise UserError(
            f"members={settings.members}: only for logged trajectories; in an environment"
            f" ({data}) one network is trained: members=1"
        )
    return EnvironmentDataset(data, codec, settings, _notes(data, codec, settings))


def environment_codec(name: str, settings: ControlSettings) -> ControlCodec:
    """The codec of an environment. Raises `UserError`."""
    made = Environments(name, 1, gap=settings.gap, max_steps=settings.max_steps)
    made.close()
    observation, action = made.observation, made.action
    size = len(action.choices) or len(action.low)
    return ControlCodec(
        environment=name,
        names=observation.names,
        counts=observation.counts,
        hidden=hidden_values(settings.hide, name, len(observation.names)),
        actions=("action",) if size == 1 else tuple(f"action[{k}]" for k in range(size)),
        choices=action.choices,
        low=action.low,
        high=action.high,
    )


def _notes(name: str, codec: ControlCodec, settings: ControlSettings) -> list[str]:
    kind = (
        f"{' × '.join(map(str, codec.choices))} choices"
        if codec.choices
        else counted(len(codec.low), "numbers")
    )
    notes = [
        f"{name}: {counted(len(codec.names), 'values')} in an observation, an action of {kind}"
    ]
    if codec.hidden:
        hidden = ", ".join(codec.names[k] for k in codec.hidden)
        notes.append(f"hidden from the policy and from all baselines: {hidden}")
    if settings.baseline_share:
        notes.append(
            "policies without memory are trained after the model, each for"
            f" {settings.baseline_share:.0%} of its time, which --minutes includes, or of its"
            " steps; less: --set baseline_share=0.1"
        )
    return notes


def _prepare_trajectories(data: str, settings: ControlSettings) -> TrajectoryDataset:
    found = read_trajectories(data, columns_of(settings))
    if len(found.episodes) < MIN_EPISODES:
        raise DataError(
            f"{data}: {counted(len(found.episodes), 'episodes')}; {MIN_EPISODES} or more are"
            " needed, to train, validate and test"
        )
    codec = _trajectory_codec(found, settings)
    splits = split_episodes(found.episodes, settings.split_seed)
    sizes = ", ".join(f"{len(own)} {split}" for split, own in splits.items())
    notes = [
        f"{len(found.episodes):,} episodes, {found.steps:,} steps: {sizes}",
        f"observations: {', '.join(codec.input_names)}; actions: {', '.join(codec.actions)}",
    ]
    return TrajectoryDataset(data, splits, codec, settings, notes)


def columns_of(settings: ControlSettings) -> Columns:
    """The columns that the settings name."""
    return Columns(settings.episode, settings.step, settings.observations, settings.actions)


def split_episodes(episodes: Sequence[Trajectory], seed: int) -> dict[str, list[Trajectory]]:
    """Split -> complete episodes, at random from a seed, at least one in each."""
    order = np.random.default_rng(seed).permutation(len(episodes))
    test, valid = (max(1, round(share * len(episodes))) for share in SHARES)
    parts = {
        "train": order[test + valid :],
        "valid": order[test : test + valid],
        "test": order[:test],
    }
    return {split: [episodes[k] for k in np.sort(rows)] for split, rows in parts.items()}


def _trajectory_codec(found: Trajectories, settings: ControlSettings) -> ControlCodec:
    hidden = hidden_values(settings.hide, settings.environment or "", len(found.names))
    if settings.environment:
        codec = environment_codec(settings.environment, settings)
        _check_fits(found, codec)
        return codec
    actions = np.concatenate([one.actions for one in found.episodes])
    low, high = actions.min(0).astype(float), actions.max(0).astype(float)
    high = np.where(high > low, high, low + 1.0)
    return ControlCodec(
        environment="",
        names=found.names,
        counts=(0,) * len(found.names),
        hidden=hidden,
        actions=found.actions,
        choices=tuple(map(len, found.words)),
        words=found.words,
        low=() if found.words else tuple(low.tolist()),
        high=() if found.words else tuple(high.tolist()),
    )


def _check_fits(found: Trajectories, codec: ControlCodec) -> None:
    """Raises `DataError` for trajectories that are not of the environment."""
    name = codec.environment
    if len(found.names) != len(codec.names):
        raise DataError(
            f"{found.where}: {len(found.names)} observation columns; {name} gives"
            f" {len(codec.names)} values"
        )
    if len(found.actions) != len(codec.actions):
        raise DataError(
            f"{found.where}: {len(found.actions)} action columns; {name} takes {len(codec.actions)}"
        )
    if codec.choices:
        check_bounds(found, (0.0,) * len(codec.choices), tuple(n - 1.0 for n in codec.choices))
    else:
        check_bounds(found, codec.low, codec.high)


def reopen(data: str | None, file: PolicyFile) -> ControlDataset:
    """See `Application`: the test episodes of the model's own data, all episodes of other ones, or
    another environment with the same observations and actions.
    """
    settings, codec = file.typed_settings(ControlSettings), file.codec
    own = data is None or data == file.data
    trained_in = codec.environment
    if trained_in and data is None:
        codec = dataclasses.replace(codec, environment=of_file(trained_in))
    data = data or (codec.environment if file.data == trained_in else file.data)
    if Path(data).exists():
        found = read_trajectories(data, columns_of(settings), names=codec.names)
        _check_known(found, codec)
        if own:
            splits = split_episodes(found.episodes, settings.split_seed)
            note = f"evaluated: the test split, {counted(len(splits['test']), 'episodes')}"
        else:
            splits = {"test": found.episodes}
            note = (
                f"evaluated: {counted(len(found.episodes), 'episodes')} of other data; no baselines"
            )
        fitted = file.arrays if own else {}
        return TrajectoryDataset(data, splits, codec, settings, [note], fitted=fitted)
    if not trained_in or (not own and not is_environment(data)):
        raise DataError(f"{data}: no such file, and no environment of that name")
    other = dataclasses.replace(
        environment_codec(data, settings), hidden=codec.hidden, actions=codec.actions
    )
    if dataclasses.replace(other, environment=codec.environment) != codec:
        raise DataError(
            f"{data}: its observations or actions are not those of {trained_in}, which the"
            " model was trained in"
        )
    note = f"evaluated: {counted(settings.episodes, 'episodes')} of {data}"
    fitted = file.arrays if own else {}
    return EnvironmentDataset(data, other, settings, [note], fitted=fitted)


def _check_known(found: Trajectories, codec: ControlCodec) -> None:
    """Raises `DataError` for trajectories that a model cannot be evaluated on."""
    if len(found.names) != len(codec.names) or len(found.actions) != len(codec.actions):
        raise DataError(
            f"{found.where}: {len(found.names)} observations and {len(found.actions)} actions; the"
            f" model has {len(codec.names)} and {len(codec.actions)}"
        )
    if bool(found.words) != bool(codec.choices):
        expected = "choices" if codec.choices else "numbers"
        raise DataError(f"{found.where}: {quote(found.actions[0])[1:-1]}: expected {expected}")
    if codec.choices:
        check_bounds(found, (0.0,) * len(codec.choices), tuple(n - 1.0 for n in codec.choices))
