"""Inspect a policy while it plays an episode, or reads a logged one."""

from __future__ import annotations

import numpy as np
import torch

from memorycell.application.inspecting import Called, inspect_steps
from memorycell.applications.control.predict import play_episode, read_observations
from memorycell.applications.control.prepare import PolicyFile, reopen
from memorycell.applications.control.settings import ControlSettings
from memorycell.inspection.inspect import Inspection


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
        dataset = reopen(None, file)
        return inspect_steps(
            file, Called(file.model), torch.from_numpy(dataset.sample(1000)), where=file.data
        )
    settings = file.typed_settings(ControlSettings)
    inputs = torch.from_numpy(codec.inputs(values))
    bptt = settings.rollout if codec.environment == file.data else None
    return inspect_steps(file, Called(file.model), inputs, where=where, trained_on=bptt)
