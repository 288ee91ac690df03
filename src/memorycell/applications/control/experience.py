"""Rollouts of the current policy and what it learns from them: proximal policy optimisation.

Schulman et al. (2017), arXiv:1707.06347, with the details of Andrychowicz et al. (2020,
arXiv:2006.05990): scaled observations and rewards, normalised advantages, orthogonal initial
weights, values after an episode that was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.control.actions import log_likelihood, sample
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.environments import Environments
from memorycell.applications.control.model import Policy
from memorycell.applications.control.settings import ControlSettings
from memorycell.models.batches import take_rows
from memorycell.state import State

SEEDS = 2**31 - 1


@dataclass
class Experience:
    """Steps of some environments, from a rollout; see `Lesson`.

    x           [B, T, I] observations
    reset       [B, T] bool: an episode begins at that step
    action      [B, T, A], and its log-likelihood log_p [B, T] when it was taken
    advantage   [B, T], normalised over the rollout
    target      [B, T]: the value to learn
    h, c        state before the first step, by which the policy continues; others by `names`
    steps       of environments that count for this batch
    """

    x: Tensor
    reset: Tensor
    action: Tensor
    log_p: Tensor
    advantage: Tensor
    target: Tensor
    state: tuple[Tensor, ...]
    names: tuple[str, ...]
    steps: int
    clip_ratio: float
    entropy: float
    value: float
    carry: bool = False

    @property
    def count(self) -> int:
        """See `Lesson`: steps of all its environments."""
        return self.reset.numel()

    def take(self, rows: slice) -> Experience:
        """See `Lesson`; the state has its environments in the second axis."""
        taken = take_rows(self, rows)
        return replace(taken, state=tuple(s[:, rows].contiguous() for s in self.state))

    def objective(self, policy: Policy) -> Tensor:
        """The clipped surrogate of PPO, equation 7, with the value's error and the entropy:

        -E[min(r A, clip(r, 1 ± ε) A)] + value · E[(V - target)²] - entropy · E[H]
        """
        device = self.x.device
        state = State(**{n: s.to(device) for n, s in zip(self.names, self.state, strict=True)})
        outputs, values = policy.evaluate(self.x, state, self.reset)
        log_p, entropy = log_likelihood(outputs, policy.log_std, self.action, policy.config.choices)
        ratio = torch.exp(log_p - self.log_p)
        clipped = ratio.clamp(1 - self.clip_ratio, 1 + self.clip_ratio)
        gain = torch.minimum(ratio * self.advantage, clipped * self.advantage).mean()
        error = (values - self.target).square().mean()
        return -gain + self.value * error - self.entropy * entropy.mean()


class Collector:
    """Collects rollouts with the current weights of a policy.

    model     the policy that is trained; its `scaling` is updated
    acting    another of the same configuration, on the CPU
    """

    def __init__(
        self,
        environments: Environments,
        codec: ControlCodec,
        model: Policy,
        acting: Policy,
        settings: ControlSettings,
    ) -> None:
        self._environments, self._codec = environments, codec
        self._model, self._acting, self._settings = model, acting.eval(), settings

    def begin(self, seed: int) -> None:
        """Begin new episodes, from a seed."""
        self._rng = np.random.default_rng(seed)
        count = len(self._environments)
        values = self._environments.reset(self._rng.integers(SEEDS, size=count).tolist())
        self._seen = self._codec.inputs(values)
        self._reset = np.ones(count, bool)
        self._block = np.zeros((count, self._acting.acting_stepper().layout.width), np.float32)
        self._returns = np.zeros(count)

    def batches(self, seed: int) -> Iterator[Experience]:
        """The batches of one rollout after the other, each rollout of the weights as they are when
        its first batch is asked for.
        """
        self.begin(seed)
        settings = self._settings
        for _ in range(settings.rollouts):
            rollout = self._collect()
            count, length = rollout["reset"].shape
            parts = min(settings.minibatches, count)
            given = 0
            for k in range(settings.passes * parts):
                if k % parts == 0:
                    order = self._rng.permutation(count)
                rows = np.sort(order[k % parts :: parts])
                upto = (k + 1) * count * length // (settings.passes * parts)
                yield self._experience(rollout, rows, upto - given)
                given = upto

    def _collect(self) -> dict[str, Any]:
        """One rollout: arrays [N, T, …]."""
        settings, policy, count = self._settings, self._acting, len(self._environments)
        policy.load_state_dict(self._model.state_dict())
        stepper, layout_rows = policy.acting_stepper(), np.arange(count)
        heads = Heads(policy)
        length, inputs = settings.rollout, self._seen.shape[1]
        x = np.empty((length, count, inputs), np.float32)
        actions = np.empty((length, count, len(self._codec.actions)), np.float32)
        log_p, values = np.empty((2, length, count), np.float32)
        reset, ended = np.empty((2, length, count), bool)
        rewards = np.empty((length, count))
        bootstrap = np.zeros((length, count), np.float32)
        returns = np.empty((length, count))
        start = stepper.layout.state(self._block)
        for t in range(length):
            x[t], reset[t] = self._seen, self._reset
            self._block[self._reset] = 0
            z = stepper.step_many(self._block, layout_rows, heads.scaled(self._seen))
            outputs, values[t] = heads(z)
            actions[t], log_p[t] = sample(outputs, heads.log_std, policy.config.choices, self._rng)
            stepped = self._environments.step(policy.environment_actions(actions[t]))
            self._seen = self._codec.inputs(stepped.observations)
            self._reset = ended[t] = stepped.terminated | stepped.truncated
            rewards[t] = stepped.rewards
            cut = np.flatnonzero(stepped.truncated & ~stepped.terminated)
            if len(cut):
                copy = self._block[cut]
                last = heads.scaled(self._codec.inputs(stepped.last[cut]))
                bootstrap[t, cut] = heads(stepper.step_many(copy, np.arange(len(cut)), last))[1]
            self._returns = self._returns * settings.discount + stepped.rewards
            returns[t] = self._returns
            self._returns[ended[t]] = 0
        following = heads(
            stepper.step_many(self._block.copy(), layout_rows, heads.scaled(self._seen))
        )[1]
        scale = float(policy.scaling.rewards)
        self._model.scaling.update(x.reshape(-1, inputs), returns.ravel())
        if float(policy.scaling.count) == 0:
            scale = float(self._model.scaling.rewards)
        advantage = advantages(
            rewards / scale,
            values,
            following,
            ended,
            bootstrap,
            discount=settings.discount,
            trace=settings.trace,
        )
        target = advantage + values
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        arrays = {
            "x": x,
            "reset": reset,
            "action": actions,
            "log_p": log_p,
            "advantage": advantage,
            "target": target,
        }
        return {name: value.swapaxes(0, 1) for name, value in arrays.items()} | {"state": start}

    def _experience(self, rollout: dict[str, Any], rows: np.ndarray, steps: int) -> Experience:
        state: State = rollout["state"]
        chosen = state.select(rows.tolist())
        settings = self._settings
        parts: dict[str, Any] = {
            name: torch.from_numpy(np.ascontiguousarray(value[rows]))
            for name, value in rollout.items()
            if name != "state"
        }
        return Experience(
            **parts,
            state=tuple(chosen),
            names=tuple(chosen.asdict()),
            steps=steps,
            clip_ratio=settings.clip_ratio,
            entropy=settings.entropy,
            value=settings.value,
        )


class Heads:
    """The heads of a policy in numpy, for single steps of many environments."""

    def __init__(self, policy: Policy) -> None:
        weight = torch.cat([policy.actor.weight, policy.critic.weight]).detach().numpy()
        self._weight = np.ascontiguousarray(weight.T)
        self._bias = torch.cat([policy.actor.bias, policy.critic.bias]).detach().numpy()
        self.log_std = policy.log_std.detach().numpy()
        self._mean, self._std = policy.scaling.mean.numpy(), policy.scaling.std.numpy()

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """See `Scaling`, [N, I]."""
        return np.asarray((x - self._mean) / self._std)

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features [N, G] -> (outputs [N, O], values [N])."""
        out = z @ self._weight + self._bias
        return out[:, :-1], out[:, -1]


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    following: np.ndarray,
    ended: np.ndarray,
    bootstrap: np.ndarray,
    *,
    discount: float,
    trace: float,
) -> np.ndarray:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438), [T, N] float32:

    A_t = δ_t + γλ A_{t+1},  δ_t = r_t + γ V_{t+1} - V_t

    following   [N]: the values after the last step
    ended       [T, N]: whether the episode ended at a step; A_{t+1} is then 0, and V_{t+1} is
                `bootstrap` [T, N]: 0, or the value where the episode was cut off
    """
    result = np.empty(values.shape, np.float32)
    next_value, carried = following.astype(np.float64), np.zeros(len(following))
    for t in range(len(values) - 1, -1, -1):
        after = np.where(ended[t], bootstrap[t], next_value)
        delta = rewards[t] + discount * after - values[t]
        carried = delta + discount * trace * np.where(ended[t], 0.0, carried)
        result[t], next_value = carried, values[t]
    return result
