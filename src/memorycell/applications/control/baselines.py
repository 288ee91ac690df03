"""Policies without memory, trained as long as ours: of the last observation, and of the last few.

Four stacked frames are what Mnih et al. (2015) give a network without memory; where velocities are
hidden they are the baseline that counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memorycell.application.contract import AnyDataset
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.control.model import (
    FeedforwardPolicy,
    PolicyConfig,
    RecurrentPolicy,
    width_of_size,
)
from memorycell.training.events import Epoch, Step, ignore
from memorycell.training.run import Run

TRAINING = TrainSettings(lr=1e-3, weight_decay=0.0, clip=0.5, average=0.0)
"""Of ours by default, and of the baselines."""
NAMES = {1: "without memory"}


def name_of(frames: int) -> str:
    """The name of the baseline that reads the last observations."""
    return NAMES.get(frames, f"last {frames} observations")


def feedforward(config: PolicyConfig, frames: int) -> PolicyConfig:
    """The configuration of a feedforward policy with as many parameters as the recurrent one."""
    size = sum(p.numel() for p in RecurrentPolicy(config).recurrent.parameters())
    width = width_of_size(config, size, frames)
    return dataclasses.replace(config, frames=frames, hidden_size=width, num_layers=1)


def trained_baselines(
    variant: Callable[[int], AnyDataset],
    *,
    share: float,
    steps: float,
    steps_per_epoch: int,
    frames: Sequence[int],
    log: Callable[[str], None],
) -> dict[str, FeedforwardPolicy]:
    """Name -> policy, each the best on validation.

    variant   frames -> the dataset that trains that baseline
    share     of our `steps` that each is trained for; 0: none is trained
    """
    if not share or not steps:
        return {}
    epochs = max(1, math.ceil(share * steps / steps_per_epoch))
    fitted = {}
    for count in frames:
        fitted[name_of(count)] = _trained(variant(count), epochs, name_of(count), log)
    return fitted


def _trained(
    dataset: AnyDataset, epochs: int, name: str, log: Callable[[str], None]
) -> FeedforwardPolicy:
    settings = dataclasses.replace(TRAINING, epochs=epochs, patience=epochs)
    run = Run(dataset, settings, "cost", None, None)
    dataset.attach(run.model, ignore)
    log(f"trains the baseline {name}: {epochs} epochs")
    shown = 0.0

    def on_event(event: Step | Epoch) -> None:
        nonlocal shown
        if isinstance(event, Epoch) and (event.seconds - shown > 30 or event.epoch == epochs):
            shown = event.seconds
            log(f"baseline {name}: epoch {event.epoch}/{epochs}, best cost {event.best:.4g}")

    run.fit(on_event, lambda better: None)
    model: FeedforwardPolicy = run.best_model()
    return model


def stored(fitted: dict[str, FeedforwardPolicy]) -> dict[str, Tensor]:
    """The weights of trained baselines, for a model file."""
    return {
        f"{policy.config.frames}.{name}": value.detach().clone()
        for policy in fitted.values()
        for name, value in policy.state_dict().items()
    }


def restored(arrays: dict[str, Tensor], config: PolicyConfig) -> dict[str, FeedforwardPolicy]:
    """The baselines of `stored`, of a recurrent policy of a configuration. Raises ValueError where
    they do not fit.
    """
    fitted = {}
    for frames in sorted({int(name.split(".")[0]) for name in arrays}):
        prefix = f"{frames}."
        with torch.random.fork_rng(devices=[]):
            policy = FeedforwardPolicy(feedforward(config, frames))
        weights = {n.removeprefix(prefix): t for n, t in arrays.items() if n.startswith(prefix)}
        try:
            policy.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"the baseline's weights do not fit ({error})") from None
        fitted[name_of(frames)] = policy.eval()
    return fitted
