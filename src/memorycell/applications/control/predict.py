"""Play an episode and record it; or act on logged observations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import Record
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.environments import Environments, of_file
from memorycell.applications.control.episodes import FIRST_SEEDS, ModelActor
from memorycell.applications.control.model import RecurrentPolicy
from memorycell.applications.control.prepare import PolicyFile, columns_of
from memorycell.applications.control.settings import ControlSettings
from memorycell.applications.control.trajectories import Trajectory, read_trajectories
from memorycell.cells import CELLS
from memorycell.errors import DataError, UserError

SHOWN_STEPS = 12
MAX_EPISODE = 1_000_000


@dataclass(frozen=True)
class PredictOptions:
    """Settings for --set.

    episode        which of the test episodes to play, from 0
    observations   columns of a table of observations; by default those of training
    environment    to play in; by default the model's
    """

    episode: int = 0
    observations: str | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.episode <= MAX_EPISODE:
            raise ValueError(f"episode={self.episode}: expected 0 to {MAX_EPISODE:,}")


def predict(file: PolicyFile, source: str | None, options: PredictOptions) -> Record:
    """Without a source: an episode, `{"environment", "episode", "return", "steps", "ended",
    "trace": [{"observation", "action", "reward"}], "gates"}`, where gates holds the mean of each
    gate over the units of the first network at every step. With a table or .npz:
    `{"episodes": [{"episode", "actions"}]}`.
    """
    if source is None:
        return play_episode(file, options.episode, options.environment)
    codec = file.codec
    episodes = read_observations(file, source, options.observations)
    stepper = file.model.stepper()
    answers: list[Record] = []
    for one in episodes:
        block = np.zeros((1, stepper.layout.width), np.float32)
        y, _ = stepper.step_one(block, 0, codec.inputs(one.values))
        actions = [codec.action_json(action) for action in codec.best_action(y)]
        answers.append({"episode": one.name, "actions": actions})
    return {"source": source, "episodes": answers}


def read_observations(
    file: PolicyFile, source: str, observations: str | None = None
) -> list[Trajectory]:
    """The episodes of a file, with all values or those that the model sees."""
    codec = file.codec
    settings = file.typed_settings(ControlSettings)
    columns, names = columns_of(settings), codec.names
    if observations:
        columns, names = dataclasses.replace(columns, observations=observations), ()
    found = read_trajectories(source, columns, names=names, with_actions=False)
    width = len(codec.names)
    if len(found.names) != width:
        raise DataError(
            f"{source}: {len(found.names)} observation columns; the model reads {width}:"
            " --set observations=…"
        )
    for one in found.episodes:
        for k, count in enumerate(codec.counts):
            column = one.values[:, k]
            if count and not ((column >= 0) & (column < count) & (column % 1 == 0)).all():
                raise DataError(f"{source}: {found.names[k]}: expected 0 to {count - 1}")
    return found.episodes


def play_episode(file: PolicyFile, episode: int, environment: str | None = None) -> Record:
    """See `predict`."""
    codec, settings = file.codec, file.typed_settings(ControlSettings)
    if not (environment or codec.environment):
        raise UserError(
            "predict: the model was trained on trajectories without an environment; give a table"
            " of observations, or train with --set environment=…"
        )
    environments = open_environment(file, environment)
    actor = ModelActor(file.model.stepper(), codec)
    actor.begin(1)
    values = environments.reset([FIRST_SEEDS["test"] + episode])
    trace: list[Record] = []
    inputs, total, ended = [], 0.0, ""
    while not ended:
        x = codec.inputs(values)
        action = actor.act(np.zeros(1, np.int64), x)
        stepped = environments.step(action, restart=False)
        reward = float(stepped.rewards[0])
        trace.append(
            {
                "observation": [float(f"{v:.6g}") for v in values[0]],
                "action": codec.action_json(action[0]),
                "reward": float(f"{reward:.6g}"),
            }
        )
        inputs.append(x[0])
        total += reward
        values = stepped.observations
        ended = "terminated" if stepped.terminated[0] else "cut off" if stepped.truncated[0] else ""
    environments.close()
    gates = gate_trace(file, np.stack(inputs))
    return {
        "environment": environments.name,
        "episode": episode,
        "max_steps": settings.max_steps,
        "return": float(f"{total:.6g}"),
        "steps": len(trace),
        "ended": ended,
        "trace": trace,
        "gates": {name: np.round(g.mean(1), 4).tolist() for name, g in gates.items()},
    }


def open_environment(file: PolicyFile, name: str | None = None, **options: Any) -> Environments:
    """One copy of the environment of a name, by default that of the model. Raises `UserError` where
    its observations or actions are others.
    """
    codec, settings = file.codec, file.typed_settings(ControlSettings)
    name = name or of_file(codec.environment)
    made = Environments(name, 1, gap=settings.gap, max_steps=settings.max_steps, **options)
    if (made.observation.counts, made.action.choices) != (codec.counts, codec.choices) or len(
        made.action.low
    ) != len(codec.low):
        raise UserError(f"{name}: its observations or actions are not those of the model")
    return made


@torch.inference_mode()
def gate_trace(file: PolicyFile, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Gates and states of the first network's last layer, name -> [T, H], while it reads inputs
    [T, I].
    """
    policy = file.model.eval()
    assert isinstance(policy, RecurrentPolicy)
    x = policy.scaling(torch.from_numpy(inputs)[None])
    *_, traces = policy.recurrent(x, trace=True)
    cell = CELLS[policy.config.cell]
    shown = [n for n in traces[-1] if n in cell.blocks or n in cell.state]
    return {name: traces[-1][name][0].numpy() for name in shown}


def render(record: Record) -> str:
    """A prediction as text for people."""
    if "episodes" in record:
        episodes: Any = record["episodes"]
        return "\n".join(
            f"episode {one['episode']}: {' '.join(map(str, one['actions']))}" for one in episodes
        )
    trace: Any = record["trace"]
    lines = [
        f"{record['environment']}, test episode {record['episode']}: return {record['return']} in"
        f" {record['steps']} steps ({record['ended']})"
    ]
    for k, step in enumerate(trace[:SHOWN_STEPS], 1):
        seen = " ".join(f"{v:.4g}" for v in step["observation"][:8])
        lines.append(f"step {k}: {seen} -> {step['action']}  reward {step['reward']:.4g}")
    if len(trace) > SHOWN_STEPS:
        lines.append(f"… {len(trace) - SHOWN_STEPS} more (--json)")
    return "\n".join([*lines, "# to view: --out episode.gif"])


def action_columns(file: PolicyFile, record: Record) -> Mapping[str, Sequence[object]]:
    """A prediction as a data frame: a row per step."""
    codec: ControlCodec = file.codec
    if "episodes" in record:
        answers: Any = record["episodes"]
        rows = [(one["episode"], k + 1, a) for one in answers for k, a in enumerate(one["actions"])]
        names = ["episode", "step"]
    else:
        steps: Any = record["trace"]
        rows = [(k + 1, s["reward"], *s["observation"], s["action"]) for k, s in enumerate(steps)]
        names = ["step", "reward", *codec.names]
    columns: dict[str, list[object]] = {n: [r[k] for r in rows] for k, n in enumerate(names)}
    for k, name in enumerate(codec.actions):
        columns[name] = [r[-1][k] if isinstance(r[-1], list) else r[-1] for r in rows]
    return columns
