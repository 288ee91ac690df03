"""An environment as a dataset: rollouts of the policy that is trained, episodes to evaluate it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from memorycell.application.contract import Dataset, Metrics, Record
from memorycell.applications.control.baselines import (
    Plan,
    feedforward,
    restored,
    stored,
    trained_baselines,
)
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.environments import Environments
from memorycell.applications.control.episodes import (
    FIRST_SEEDS,
    ModelActor,
    Played,
    RandomActor,
    play,
)
from memorycell.applications.control.experience import Collector, Experience
from memorycell.applications.control.model import (
    FeedforwardPolicy,
    Policy,
    PolicyConfig,
    RecurrentPolicy,
)
from memorycell.applications.control.settings import ControlSettings

MAX_PLAYED = 50
"""Episodes that are played at the same time."""
RANDOM, OURS = "random actions", "memorycell"


class EnvironmentDataset(Dataset[Policy, Experience]):
    """See `Dataset`.

    frames   number of observations that a feedforward policy reads, a baseline; None: the policy to
             train is recurrent
    fitted   baselines from a model file

    returns   name of a method -> the returns of the test episodes that were played last
    """

    codec: ControlCodec

    def __init__(
        self,
        name: str,
        codec: ControlCodec,
        settings: ControlSettings,
        notes: list[str],
        *,
        frames: int | None = None,
        fitted: dict[str, Tensor] | None = None,
    ) -> None:
        self.name, self.codec, self.settings, self.notes = name, codec, settings, notes
        self._frames = frames
        self.returns: dict[str, np.ndarray] = {}
        self._fitted = restored(fitted or {}, self.config)
        self._trained: Policy | None = None
        self._log: Callable[[str], None] = lambda line: None
        self._plan = Plan(settings.baseline_share)
        self._collector: Collector | None = None
        count = min(MAX_PLAYED, max(settings.checked, settings.episodes))
        self._played = Environments(name, count, gap=settings.gap, max_steps=settings.max_steps)

    @property
    def config(self) -> PolicyConfig:
        """The configuration of the recurrent policy."""
        codec = self.codec
        return self.settings.policy_config(
            len(codec.input_names), codec.choices, codec.low, codec.high
        )

    def build(self) -> Policy:
        """See `Dataset`."""
        if self._frames is not None:
            return FeedforwardPolicy(feedforward(self.config, self._frames))
        return RecurrentPolicy(self.config, self.settings.memory)

    def attach(self, model: Policy, log: Callable[[str], None]) -> None:
        """See `Dataset`."""
        settings, self._trained, self._log = self.settings, model, log
        environments = Environments(
            self.name, settings.environments, gap=settings.gap, max_steps=settings.max_steps
        )
        self._collector = Collector(environments, self.codec, model, self.build(), settings)

    def training_budget(self, budget_s: float) -> float:
        """See `Dataset`; the rest is for the baselines."""
        return self._plan.training_budget(budget_s)

    def batches(self, seed: int) -> Iterator[Experience]:
        """See `Dataset`; rollouts of the attached model, and of an untrained one before."""
        if self._collector is None:
            self.attach(self.build(), self._log)
        assert self._collector is not None
        return self._collector.batches(seed)

    def validate(self, model: Policy) -> Metrics:
        """See `Dataset`; the scaling is that of the model that is trained."""
        if self._trained is not None:
            model.scaling.load_state_dict(self._trained.scaling.state_dict())
        return self.evaluate(model, "valid")

    def evaluate(self, model: Policy, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: the metrics of `Played`, of the most likely actions. Each split has
        episodes with seeds of its own.
        """
        played = self._play(ModelActor(model.eval().stepper(precision), self.codec), split)
        if split == "test" and isinstance(model, RecurrentPolicy):
            self.returns[OURS] = played.returns
        return played.metrics()

    def _play(self, actor: ModelActor | RandomActor, split: str) -> Played:
        count = self.settings.checked if split == "valid" else self.settings.episodes
        first = FIRST_SEEDS[split]
        return play(self._played, self.codec, actor, range(first, first + count))

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`; the policies without memory are trained once, after ours."""
        random = self._play(RandomActor(self.codec, 0), split)
        if split == "test":
            self.returns[RANDOM] = random.returns
        scores = {RANDOM: random.metrics()}
        if self._trained is not None and not self._fitted and split == "test":
            self._fitted = trained_baselines(
                self.variant,
                self._plan,
                steps=float(self._trained.scaling.count),
                steps_per_epoch=self.settings.steps_per_epoch,
                frames=(1, self.settings.frames),
                log=self._log,
            )
        for name, policy in self._fitted.items():
            scores[name] = self.evaluate(policy, split)
        return scores

    def variant(self, frames: int) -> EnvironmentDataset:
        """The dataset that trains the baseline which reads the last frames."""
        return EnvironmentDataset(self.name, self.codec, self.settings, [], frames=frames)

    def arrays(self) -> dict[str, Tensor]:
        """See `Dataset`: the weights of the trained baselines."""
        return stored(self._fitted)

    def details(self, model: Policy, split: str) -> Record:
        """See `Dataset`: the number of episodes, and how many were cut off."""
        record: Record = {"episodes": self.settings.episodes}
        return {**record, "cut_off": self._played.cut_off} if self._played.cut_off else record

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`: observations while actions are taken at random."""
        values = self._played.reset([FIRST_SEEDS["test"]])
        actor, rows = RandomActor(self.codec, 0), []
        for _ in range(steps):
            rows.append(self.codec.inputs(values)[0])
            values = self._played.step(actor.act(np.zeros(1), rows[-1][None]), [0]).observations
        return np.stack(rows)

    def info(self) -> Record:
        """See `Dataset`."""
        settings = dataclasses.asdict(self.settings)
        return {
            "data": self.name,
            "fingerprint": _fingerprint(self.codec, self.settings.gap),
            "split": {"valid": self.settings.checked, "test": self.settings.episodes},
            "settings": settings,
        }


def _fingerprint(codec: ControlCodec, gap: int) -> str:
    text = json.dumps([codec.to_json(), gap], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
