"""Proximal policy optimisation with memory: separate LSTMs for the actor and the critic, reset
where an episode starts.

Structure: RecurrentActorCriticPolicy and RecurrentPPO of Stable-Baselines3 Contrib,
github.com/Stable-Baselines-Team/stable-baselines3-contrib; loss: Schulman et al. (2017),
arXiv:1707.06347.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VARIANTS = ("",)
ENVS, STEPS, HIDDEN, EPOCHS = 4, 24, 16, 5


class RNNStates(NamedTuple):
    pi: tuple[Tensor, ...]
    vf: tuple[Tensor, ...]


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(3, 8), nn.Tanh())
        self.lstm_actor = nn.LSTM(8, HIDDEN, num_layers=1)
        self.lstm_critic = nn.LSTM(8, HIDDEN, num_layers=1)
        self.action_net, self.value_net = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 1)
        self.log_std = nn.Parameter(torch.zeros(1))

    @staticmethod
    def process_sequence(features: Tensor, states, episode_starts: Tensor, lstm: nn.LSTM):
        """Features [steps·n, F], sequence by sequence, through the LSTM; the state is zero where an
        episode starts.
        """
        n_seq = states[0].shape[1]
        sequence = features.reshape((n_seq, -1, lstm.input_size)).swapaxes(0, 1)
        starts = episode_starts.reshape((n_seq, -1)).swapaxes(0, 1)
        if torch.all(starts == 0.0):
            output, states = lstm(sequence, states)
            return torch.flatten(output.transpose(0, 1), start_dim=0, end_dim=1), states
        outputs = []
        for step, start in zip(sequence, starts, strict=True):
            hidden, states = lstm(
                step.unsqueeze(dim=0),
                (
                    (1.0 - start).view(1, n_seq, 1) * states[0],
                    (1.0 - start).view(1, n_seq, 1) * states[1],
                ),
            )
            outputs += [hidden]
        return torch.flatten(torch.cat(outputs).transpose(0, 1), start_dim=0, end_dim=1), states

    def forward(self, observations: Tensor, states: RNNStates, episode_starts: Tensor):
        features = self.features(observations)
        latent_pi, pi = self.process_sequence(features, states.pi, episode_starts, self.lstm_actor)
        latent_vf, vf = self.process_sequence(features, states.vf, episode_starts, self.lstm_critic)
        return self.action_net(latent_pi), self.value_net(latent_vf).flatten(), RNNStates(pi, vf)


def log_probability(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    return (-0.5 * ((actions - mean) / log_std.exp()) ** 2 - log_std).sum(1)


def zero_states() -> RNNStates:
    return RNNStates(*(tuple(torch.zeros(1, ENVS, HIDDEN) for _ in "hc") for _ in "pv"))


class Hidden:
    """A place to be found that is told only at the start of an episode; environments start anew at
    different times.
    """

    def __init__(self) -> None:
        self.generator, self.time = torch.Generator().manual_seed(3), 0
        self.place = torch.randn(ENVS, generator=self.generator)

    def starts(self) -> Tensor:
        return ((self.time + 3 * torch.arange(ENVS)) % 17 == 0).float()

    def observe(self) -> Tensor:
        starts = self.starts()
        self.place = torch.where(
            starts.bool(), torch.randn(ENVS, generator=self.generator), self.place
        )
        return torch.stack(
            [self.place * starts, starts, torch.randn(ENVS, generator=self.generator)], 1
        )

    def act(self, action: Tensor) -> Tensor:
        self.time += 1
        return -((action[:, 0] - self.place) ** 2)


def build(variant: str) -> nn.Module:
    return Policy()


def adopted(variant: str) -> dict[str, str]:
    return {"lstm_actor": "LSTM", "lstm_critic": "LSTM"}


@torch.no_grad()
def outputs(model: nn.Module) -> list[Tensor]:
    """With resets step by step, and without any, the whole sequence in one call."""
    model.eval()
    observations = torch.randn(ENVS * STEPS, 3, generator=torch.Generator().manual_seed(4))
    starts = (torch.rand(ENVS * STEPS, generator=torch.Generator().manual_seed(5)) < 0.1).float()
    results = []
    for episode_starts in (starts, torch.zeros_like(starts)):
        mean, value, states = model(observations, zero_states(), episode_starts)
        results += [mean, value, *states.pi, *states.vf]
    return results


class Training:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.world, self.states = model, Hidden(), zero_states()
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-5)
        self.rollout: dict[str, Tensor] = {}

    @torch.no_grad()
    def collect(self) -> None:
        """A rollout of every environment, each value [ENVS·STEPS, …], one environment after
        another.
        """
        self.model.eval()
        self.first = self.states
        rows: dict[str, list[Tensor]] = {name: [] for name in ("o", "s", "a", "p", "v", "r")}
        for _ in range(STEPS):
            starts, observations = self.world.starts(), self.world.observe()
            mean, value, self.states = self.model(observations, self.states, starts)
            action = mean + self.model.log_std.exp() * torch.randn(ENVS, 1)
            reward = self.world.act(action)
            known = (
                observations,
                starts,
                action,
                log_probability(action, mean, self.model.log_std),
                value,
                reward,
            )
            for name, part in zip(rows, known, strict=True):
                rows[name].append(part)
        after, advantage = self.world.starts(), torch.zeros(ENVS)
        next_value = self.model(self.world.observe(), self.states, after)[1]
        advantages = []
        for t in reversed(range(STEPS)):
            alive = 1.0 - (after if t == STEPS - 1 else rows["s"][t + 1])
            delta = rows["r"][t] + 0.9 * alive * next_value - rows["v"][t]
            advantage = delta + 0.9 * 0.95 * alive * advantage
            advantages.insert(0, advantage)
            next_value = rows["v"][t]
        rows["g"] = advantages
        self.rollout = {name: torch.stack(parts, 1).flatten(0, 1) for name, parts in rows.items()}
        self.model.train()

    def loss(self, step: int) -> Tensor:
        if step % EPOCHS == 0:
            self.collect()
        roll = self.rollout
        mean, value, _ = self.model(roll["o"], self.first, roll["s"])
        advantages = (roll["g"] - roll["g"].mean()) / (roll["g"].std() + 1e-8)
        ratio = torch.exp(log_probability(roll["a"], mean, self.model.log_std) - roll["p"])
        policy = -torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
        return (
            policy
            + 0.5 * F.mse_loss(value, roll["g"] + roll["v"])
            - 0.01 * self.model.log_std.sum()
        )

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimiser.step()
