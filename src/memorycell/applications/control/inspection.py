"""Inspect a policy while it plays an episode, or reads a logged one."""

from __future__ import annotations

import numpy as np
import torch

from memorycell.application.inspecting import Called, inspect_steps
from memorycell.applications.control.predict import play_episode, read_observations
from memorycell.applications.control.prepare import PolicyFile, reopen
from memorycell.applications.control.settings import ControlSettings
from memorycell.inspection.inspect import Inspection


class _First(Called):
    def forward(self, x: torch.Tensor) -> None:
        self.model.features(self.model.scaling(x), None, None)  # type: ignore[operator]


def inspect(file: PolicyFile, source: str | None) -> Inspection:
    """See `Application`; by default the first test episode."""
    codec = file.codec
    if source is not None:
        values = max(read_observations(file, source), key=lambda one: len(one.values)).values
        where = source
    elif codec.environment:
        record = play_episode(file, 0)
        trace = record["trace"]
        values = np.array([step["observation"] for step in trace], np.float32)  # type: ignore[union-attr,call-overload,index]
        where = f"{codec.environment}, an episode with return {record['return']}"
    else:
        return _inspect(file, reopen(None, file).sample(1000), file.data, None)
    settings = file.typed_settings(ControlSettings)
    bptt = settings.rollout if codec.environment == file.data else None
    return _inspect(file, codec.inputs(values), where, bptt)


def _inspect(
    file: PolicyFile, inputs: np.ndarray, where: str, trained_on: int | None
) -> Inspection:
    found = inspect_steps(
        file, _First(file.model), torch.from_numpy(inputs), where=where, trained_on=trained_on
    )
    if file.model.config.members > 1:
        found.notes.append(f"the first of {file.model.config.members} members")
    return found
