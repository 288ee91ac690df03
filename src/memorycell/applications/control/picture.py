"""The main picture of a policy: its returns, and an episode with observations and actions."""

from __future__ import annotations

from typing import Any

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.application.picture import MAX_POINTS, Picture, json_numbers
from memorycell.applications.control.cloning import TrajectoryDataset
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.dataset import OURS, RANDOM, EnvironmentDataset
from memorycell.applications.control.model import Policy
from memorycell.applications.control.predict import play_episode

NUM_LINES, MAX_STEPS = 4, 120
ControlDataset = EnvironmentDataset | TrajectoryDataset


def control_picture(dataset: ControlDataset, model: Policy, result: dict[str, Any]) -> Picture:
    """Of an environment: the return of every test episode, sorted, with that of random actions, and
    the beginning of the episode with the median return. Of logged trajectories: a test
    trajectory of median length, with the logged actions and those of the model.
    """
    if isinstance(dataset, TrajectoryDataset):
        return _trajectory(dataset, model)
    returns = {name: np.sort(dataset.returns[name]) for name in (RANDOM, OURS) if
               name in dataset.returns}  # fmt: skip
    ours = dataset.returns[OURS]
    middle = int(np.argsort(ours, kind="stable")[(len(ours) - 1) // 2])
    info = {"task": "control", **dataset.info()}
    played: Any = play_episode(ModelFile(model, dataset.codec, info), middle)
    trace = played["trace"][:MAX_STEPS]
    observations = np.array([step["observation"] for step in trace])
    actions = np.array([np.atleast_1d(step["action"]) for step in trace])
    return Picture(
        title=f"{dataset.name}: {len(ours):,} test episodes, and number {middle}, the median",
        parts=[
            _lines("return of every test episode, from the lowest", returns, "episode"),
            _observations(dataset, observations),
            _lines("action", _columns(dataset.codec.actions, actions), "step"),
        ],
    )


def _trajectory(dataset: TrajectoryDataset, model: Policy) -> Picture:
    trajectories = dataset.splits["test"]
    order = np.argsort([len(one.values) for one in trajectories], kind="stable")
    one = trajectories[int(order[(len(order) - 1) // 2])]
    codec, stepper = dataset.codec, model.eval().stepper()
    block = np.zeros((1, stepper.layout.width), np.float32)
    values = one.values[:MAX_STEPS]
    y, _ = stepper.step_one(block, 0, codec.inputs(values))
    actions = {"logged": one.actions[:MAX_STEPS, 0], OURS: codec.best_action(y)[:, 0]}
    return Picture(
        title=f"Test episode {one.name}",
        parts=[
            _observations(dataset, values),
            _lines(_action_title(codec), actions, "step"),
        ],
    )


def _action_title(codec: ControlCodec) -> str:
    """The name of the first action, and of its choices where they are words."""
    words = codec.words[0] if codec.words else ()
    listed = ", ".join(f"{k}: {word}" for k, word in enumerate(words))
    return f"{codec.actions[0]} ({listed})" if listed else codec.actions[0]


def _observations(dataset: ControlDataset, values: np.ndarray) -> Picture:
    """Those that the model sees, of which the most changing."""
    seen = dataset.codec.seen
    names = [dataset.codec.names[k] for k in seen]
    values = values[:, seen]
    changing = np.sort(np.argsort(-values.std(0), kind="stable")[:NUM_LINES])
    shown = {names[k]: values[:, k] for k in changing}
    more = f", {len(changing)} of {len(names)}" if len(changing) < len(names) else ""
    return _lines(f"observations{more}", shown, "step")


def _columns(names: Any, values: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(list(names)[:NUM_LINES], values.T, strict=False))


def _lines(title: str, lines: dict[str, np.ndarray], x_name: str) -> Picture:
    """Lines over positions numbered from 1, the first of them where there are many."""
    count = min(len(next(iter(lines.values()))), MAX_POINTS)
    return Picture(
        title=title,
        x=[str(1 + k) for k in range(count)],
        x_name=x_name,
        lines={name: json_numbers(np.asarray(v[:count], float)) for name, v in lines.items()},
    )
