"""Policies without memory, trained as long as ours: of the last observation, and of the last few.

Four stacked frames are what Mnih et al. (2015) give a network without memory; where velocities are
hidden they are the baseline that counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
MAX_PATIENCE = 100_000
NUM_TRAINED = 2
"""Baselines that are trained: of the last observation, and of the last few."""


def name_of(frames: int) -> str:
    """The name of the baseline that reads the last observations."""
    return NAMES.get(frames, f"last {frames} observations")


def feedforward(config: PolicyConfig, frames: int) -> PolicyConfig:
    """The configuration of a feedforward policy with as many parameters as one network of the
    recurrent policy.
    """
    single = dataclasses.replace(config, members=1)
    size = sum(p.numel() for p in RecurrentPolicy(single).recurrent.parameters())
    width = width_of_size(single, size, frames)
    return dataclasses.replace(single, frames=frames, hidden_size=width, num_layers=1, heads=1)


@dataclass
class Plan:
    """How long each baseline is trained.

    share      of our training; 0: none is trained
    budget_s   seconds that each gets at most; None: the same steps as ours
    """

    share: float
    budget_s: float | None = None

    def training_budget(self, budget_s: float) -> float:
        """The part of a budget that our training takes; each baseline gets `share` of it."""
        ours = budget_s / (1 + NUM_TRAINED * self.share)
        self.budget_s = self.share * ours
        return ours


def trained_baselines(
    variant: Callable[[int], AnyDataset],
    plan: Plan,
    *,
    steps: float,
    steps_per_epoch: int,
    frames: Sequence[int],
    log: Callable[[str], None],
) -> dict[str, FeedforwardPolicy]:
    """Name -> policy, each the best on validation.

    variant   frames -> the dataset that trains that baseline
    steps     that ours was trained for
    """
    if not plan.share or not steps:
        return {}
    epochs = max(1, math.ceil(plan.share * steps / steps_per_epoch))
    return {
        name_of(count): _trained(variant(count), epochs, plan.budget_s, name_of(count), log)
        for count in frames
    }


def _trained(
    dataset: AnyDataset,
    epochs: int,
    budget_s: float | None,
    name: str,
    log: Callable[[str], None],
) -> FeedforwardPolicy:
    settings = dataclasses.replace(TRAINING, epochs=epochs, patience=MAX_PATIENCE)
    run = Run(dataset, settings, "cost", None, budget_s)
    dataset.attach(run.model, ignore)
    duration = f"{epochs} epochs" if budget_s is None else f"{budget_s:.0f} s"
    log(f"trains the baseline {name}: {duration}")
    shown = 0.0

    def on_event(event: Step | Epoch) -> None:
        nonlocal shown
        if isinstance(event, Epoch) and (event.seconds - shown > 30 or event.epoch == event.epochs):
            shown = event.seconds
            log(f"baseline {name}: epoch {event.epoch}/{event.epochs}, best cost {event.best:.4g}")

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
