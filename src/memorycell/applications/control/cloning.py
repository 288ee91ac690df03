"""Logged trajectories as a dataset: behaviour cloning (Pomerleau 1988)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memorycell.application.contract import Dataset, Metric, Metrics, Record
from memorycell.applications.control.actions import log_likelihood, mean_outputs
from memorycell.applications.control.baselines import (
    Plan,
    feedforward,
    restored,
    stored,
    trained_baselines,
)
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.environments import Environments
from memorycell.applications.control.episodes import FIRST_SEEDS, ModelActor, play
from memorycell.applications.control.model import (
    FeedforwardPolicy,
    Policy,
    PolicyConfig,
    RecurrentPolicy,
)
from memorycell.applications.control.scaling import MIN_STD
from memorycell.applications.control.settings import ControlSettings
from memorycell.applications.control.trajectories import Trajectory
from memorycell.language.codec import fingerprint
from memorycell.models.batches import by_length, padded, take_rows
from memorycell.models.members import mean_log_p

BUDGET = 4096
"""Steps per batch, padding included."""
ERROR = Metric("error")
MAX_PLAYED = 50


@dataclass
class Demonstrations:
    """Padded trajectories; see `Lesson`.

    x, action   [B, T, I] and [B, T, A], scaled numbers or choices
    lengths     [B] int64
    """

    x: Tensor
    action: Tensor
    lengths: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Padding not counted."""
        return int(self.lengths.sum())

    @property
    def count(self) -> int:
        """See `Lesson`: steps, so that parts of a batch with shorter trajectories count less."""
        return self.steps

    def take(self, rows: slice) -> Demonstrations:
        """See `Lesson`."""
        return take_rows(self, rows)

    def nats(self, policy: Policy) -> tuple[Tensor, Tensor, Tensor]:
        """(negative log-likelihoods of the actions [B, T], 0 in the padding; outputs; mask). Of
        several networks: of the mean of their likelihoods; see `mean_outputs`.
        """
        log_p, outputs = self._members(policy)
        known = self._known()
        nats = -mean_log_p(log_p).where(known, 0.0)
        return nats, mean_outputs(outputs, policy.config.choices), known

    def objective(self, policy: Policy) -> Tensor:
        """Mean negative log-likelihood per step, in nats; of several networks, their mean."""
        log_p, _ = self._members(policy)
        nats = -torch.stack(log_p).mean(0).where(self._known(), 0.0)
        return nats.sum() / self.lengths.sum()

    def _members(self, policy: Policy) -> tuple[list[Tensor], list[Tensor]]:
        """Log-likelihoods of the actions [B, T] and outputs, of every network."""
        found, _ = policy.distributions(self.x, None)
        choices = policy.config.choices
        log_p = [log_likelihood(y, log_std, self.action, choices)[0] for y, log_std in found]
        return log_p, [y for y, _ in found]

    def _known(self) -> Tensor:
        times = torch.arange(self.x.shape[1], device=self.x.device)
        return times < self.lengths[:, None]


class TrajectoryDataset(Dataset[Policy, Demonstrations]):
    """See `Dataset`.

    splits   split -> trajectories
    frames   as of `EnvironmentDataset`
    """

    codec: ControlCodec

    def __init__(
        self,
        name: str,
        splits: dict[str, list[Trajectory]],
        codec: ControlCodec,
        settings: ControlSettings,
        notes: list[str],
        *,
        frames: int | None = None,
        fitted: dict[str, Tensor] | None = None,
    ) -> None:
        self.name, self.splits, self.codec = name, splits, codec
        self.settings, self.notes, self._frames = settings, notes, frames
        self.config: PolicyConfig = settings.policy_config(
            len(codec.input_names), codec.choices, codec.low, codec.high
        )
        self._fitted = restored(fitted or {}, self.config)
        self._log: Callable[[str], None] = lambda line: None
        self._plan = Plan(settings.baseline_share)
        self._epochs = 0
        self._played: Environments | None = None
        if codec.environment:
            self._played = Environments(
                codec.environment,
                min(MAX_PLAYED, settings.episodes),
                gap=settings.gap,
                max_steps=settings.max_steps,
            )

    def build(self) -> Policy:
        """See `Dataset`; scaled as the training split."""
        if self._frames is None:
            policy: Policy = RecurrentPolicy(self.config, self.settings.memory)
        else:
            policy = FeedforwardPolicy(feedforward(self.config, self._frames))
        if "train" in self.splits:
            values = np.concatenate([one.values for one in self.splits["train"]])
            x = self.codec.inputs(values).astype(np.float64)
            policy.scaling.mean.copy_(torch.from_numpy(x.mean(0)))
            policy.scaling.std.copy_(torch.from_numpy(np.maximum(x.std(0), MIN_STD)))
        return policy

    def attach(self, model: Policy, log: Callable[[str], None]) -> None:
        """See `Dataset`."""
        self._log = log

    def training_budget(self, budget_s: float) -> float:
        """See `Dataset`; the rest is for the baselines."""
        return self._plan.training_budget(budget_s)

    def batches(self, seed: int) -> Iterator[Demonstrations]:
        """See `Dataset`."""
        self._epochs += 1
        yield from self._batches("train", seed)

    def _batches(self, split: str, seed: int) -> Iterator[Demonstrations]:
        trajectories = self.splits[split]
        lengths = np.array([len(one.values) for one in trajectories])
        for rows in by_length(lengths, BUDGET, seed):
            own = [trajectories[k] for k in rows]
            x, sizes = padded([self.codec.inputs(one.values) for one in own])
            actions, _ = padded([self.scaled(one.actions) for one in own])
            yield Demonstrations(x, actions, sizes)

    def scaled(self, actions: np.ndarray) -> np.ndarray:
        """Actions [T, A] as a policy learns them."""
        if self.codec.choices:
            return actions
        low, high = np.array(self.codec.low), np.array(self.codec.high)
        return np.asarray((actions - (low + high) / 2) / ((high - low) / 2), np.float32)

    @torch.inference_mode()
    def evaluate(self, model: Policy, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: `error`, the share of actions that differ, or of numbers the root mean
        square error with the range of each as 2; `cost`, nats per step, only in float32; and on the
        test split, with an environment, those of `Played`.
        """
        model.eval()
        if precision != "float32":
            error = self._live_error(model, split, precision)
            return self._with_episodes({"error": error}, model, split, precision)
        nats = wrong = steps = 0.0
        for batch in self._batches(split, 0):
            own, outputs, known = batch.nats(model)
            nats += float(own.double().sum())
            steps += batch.steps
            wrong += self._wrong(outputs[known].numpy(), batch.action[known].numpy())
        return self._with_episodes(self._scores(wrong, nats, steps), model, split, precision)

    def _with_episodes(self, scores: Metrics, model: Policy, split: str, precision: str) -> Metrics:
        if self._played is None or split != "test":
            return scores
        seeds = range(FIRST_SEEDS["test"], FIRST_SEEDS["test"] + self.settings.episodes)
        actor = ModelActor(model.stepper(precision), self.codec)
        played = play(self._played, self.codec, actor, seeds).metrics()
        del played["cost"]  # of trajectories: the nats
        return played | scores

    def _live_error(self, model: Policy, split: str, precision: str) -> float:
        """`error` of the actions that the policy takes step by step, in a precision."""
        stepper = model.stepper(precision)
        wrong = steps = 0.0
        for one in self.splits[split]:
            block = np.zeros((1, stepper.layout.width), np.float32)
            y, _ = stepper.step_one(block, 0, self.codec.inputs(one.values))
            outputs = y if self.codec.choices else self.scaled(y)
            wrong += self._wrong(outputs, self.scaled(one.actions))
            steps += len(y)
        return self._scores(wrong, 0.0, steps)["error"]

    def _wrong(self, outputs: np.ndarray, actions: np.ndarray) -> float:
        if self.codec.choices:
            return float((self.codec.best_action(outputs) != actions).mean(1).sum())
        return float(((outputs.clip(-1, 1) - actions) ** 2).mean(1).sum())

    def _scores(self, wrong: float, nats: float, steps: float) -> Metrics:
        error = wrong / steps
        return {"error": error if self.codec.choices else error**0.5, "cost": nats / steps}

    def metric(self, usual: Metric) -> Metric:
        """See `Dataset`."""
        return ERROR

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if "train" not in self.splits:
            return {}
        scores = {self._constant_name: self._constant(split)}
        if self._epochs and not self._fitted and split == "test":
            self._fitted = trained_baselines(
                self.variant,
                self._plan,
                steps=self._epochs,
                steps_per_epoch=1,
                frames=(1, self.settings.frames),
                log=self._log,
            )
        for name, policy in self._fitted.items():
            scores[name] = self.evaluate(policy, split)
        return scores

    @property
    def _constant_name(self) -> str:
        return "most frequent action" if self.codec.choices else "mean action"

    def _constant(self, split: str) -> Metrics:
        """Of the same distribution at every step."""
        train = np.concatenate([self.scaled(one.actions) for one in self.splits["train"]])
        truth = np.concatenate([self.scaled(one.actions) for one in self.splits[split]])
        steps = len(truth)
        if not self.codec.choices:
            mean, std = train.mean(0), train.std(0) + 1e-6
            z = (truth - mean) / std
            nats = 0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi)
            wrong = float(((truth - mean) ** 2).mean(1).sum())
            return self._scores(wrong, float(nats.sum()), steps)
        nats_sum = wrong = 0.0
        for k, size in enumerate(self.codec.choices):
            counts = np.bincount(train[:, k].astype(int), minlength=size) + 1.0
            nats_sum -= float(np.log(counts / counts.sum())[truth[:, k].astype(int)].sum())
            wrong += float((truth[:, k] != counts.argmax()).sum()) / len(self.codec.choices)
        return self._scores(wrong, nats_sum, steps)

    def variant(self, frames: int) -> TrajectoryDataset:
        """The dataset that trains the baseline which reads the last frames."""
        codec = dataclasses.replace(self.codec, environment="")
        return TrajectoryDataset(self.name, self.splits, codec, self.settings, [], frames=frames)

    def arrays(self) -> dict[str, Tensor]:
        """See `Dataset`: the weights of the trained baselines."""
        return stored(self._fitted)

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return self.codec.inputs(np.concatenate([o.values for o in self.splits["test"]])[:steps])

    def info(self) -> Record:
        """See `Dataset`."""
        texts = (
            f"{one.name}\t{one.values.tobytes().hex()}\t{one.actions.tobytes().hex()}"
            for own in self.splits.values()
            for one in own
        )
        return {
            "data": self.name,
            "fingerprint": fingerprint(texts),
            "split": {split: len(own) for split, own in self.splits.items()},
            "settings": dataclasses.asdict(self.settings),
        }
