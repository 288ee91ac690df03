"""Settings of the control application."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.applications.control.model import PolicyConfig, has_gates
from memorycell.cells import CELLS
from memorycell.setting_fields import check_choices, check_counts, check_ranges


@dataclass(frozen=True)
class ControlSettings:
    """Settings for --set.

    hide           values of the observation that the policy does not see: velocity, or their
                   numbers, as in 2,3
    gap            of t-maze: steps between the sign and the junction
    cell, hidden, layers   the recurrent part
    heads          of the cells slstm and mlstm; a divisor of hidden
    members        networks that are trained together, whose actions are averaged; only for logged
                   trajectories
    memory         steps that the initial forget biases are made for; by default those of the cell
    environments   that are stepped together
    rollout        steps of each environment that are learnt from at once; gradients flow back
                   through them
    rollouts       per epoch; each epoch begins new episodes
    passes         over a rollout, each in `minibatches` parts
    discount       of a reward one step later
    trace          λ of generalised advantage estimation
    clip_ratio     ε of PPO
    entropy        weight of the entropy
    value          weight of the error of the value
    episodes       to evaluate
    checked        episodes that select the best epoch
    max_steps      number of steps after which an episode that does not end is cut off
    baseline_share   steps that each trained baseline gets, as a share of ours; 0: none is trained
    frames         frames that the stacked baseline reads
    environment    of logged trajectories: the environment to evaluate in
    episode, step  columns of a table: which episode a row belongs to, and its number there
    split_seed     of the split of trajectories
    observations, actions   columns of a table, separated by commas; by default those whose names
                   begin with obs and act
    """

    hide: str | None = None
    gap: int = 100
    cell: str = "lstm"
    hidden: int = 64
    layers: int = 1
    heads: int = 1
    members: int = 1
    memory: int | None = None
    environments: int = 32
    rollout: int = 128
    rollouts: int = 8
    passes: int = 4
    minibatches: int = 4
    discount: float = 0.99
    trace: float = 0.95
    clip_ratio: float = 0.2
    entropy: float = 0.0
    value: float = 0.5
    episodes: int = 100
    checked: int = 32
    max_steps: int = 10_000
    baseline_share: float = 1.0
    frames: int = 4
    environment: str | None = None
    episode: str = "episode"
    step: str = "step"
    split_seed: int = 0
    observations: str | None = None
    actions: str | None = None

    def __post_init__(self) -> None:
        check_choices(self, cell=tuple(CELLS))
        check_counts(self, "hidden", "layers", "environments", "rollout", "rollouts", "max_steps")
        check_ranges(
            self,
            gap=(1, 1_000_000),
            memory=(2, 1_000_000),
            environments=(1, 4096),
            passes=(1, 1000),
            minibatches=(1, 4096),
            discount=(0, 1),
            trace=(0, 1),
            clip_ratio=(1e-6, 10),
            entropy=(0, 100),
            value=(0, 1000),
            episodes=(2, 1_000_000),
            checked=(2, 1_000_000),
            baseline_share=(0, 100),
            frames=(2, 1000),
            split_seed=(0, 2**31),
        )
        self.policy_config(2, (2,), (), ())  # checks the others
        if self.memory is not None and not has_gates(self.cell):
            raise ValueError(f"memory={self.memory}: the cell {self.cell} has no forget gate")

    @property
    def steps_per_epoch(self) -> int:
        """Of all environments."""
        return self.environments * self.rollout * self.rollouts

    def policy_config(
        self,
        input_size: int,
        choices: tuple[int, ...],
        low: tuple[float, ...],
        high: tuple[float, ...],
    ) -> PolicyConfig:
        """The configuration of the model; see `PolicyConfig`."""
        return PolicyConfig(
            input_size=input_size,
            choices=choices,
            low=low,
            high=high,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            heads=self.heads,
            members=self.members,
            recurrent_init="orthogonal" if CELLS[self.cell].recurrent else "uniform",
        )
