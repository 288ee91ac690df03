"""Policies = observations -> scaling -> features -> actions, and the value of the state.

The features are those of recurrent layers (`RecurrentPolicy`), or of a feedforward network that
reads the last frames (`FeedforwardPolicy`), the baseline. Actor and critic share them (Mnih et al.
2016, arXiv:1602.01783). A recurrent policy may have several networks, whose actions are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.applications.control.actions import mean_outputs
from memorycell.applications.control.scaling import Scaling
from memorycell.cells import CELLS
from memorycell.models.exporting import CHead, OnnxHead
from memorycell.models.members import MembersStepper, check_members, join_states, split_state
from memorycell.models.merging import MERGEABLE_CELLS
from memorycell.models.model import ModelConfig, SteppedModel, windows
from memorycell.nn.layers import Recurrent
from memorycell.state import State
from memorycell.streaming.stepping import Stepper

NOT_EXPORTED = "several members only of the cells " + ", ".join(MERGEABLE_CELLS) + "; heads=1"


class Lesson(Protocol):
    """What a policy learns from in a batch; see `Experience` and `Demonstrations`."""

    carry: bool

    @property
    def steps(self) -> int:
        """See `Batch`."""

    @property
    def count(self) -> int:
        """What the objective is the mean over."""

    def objective(self, policy: Policy) -> Tensor:
        """The loss to minimise, a scalar."""

    def take(self, rows: slice) -> Lesson:
        """Some of its sequences."""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(ModelConfig):
    """The configuration of a policy; see `ModelConfig`.

    input_size   of an observation
    choices      number of choices of each discrete action; empty for numbers
    low, high    bounds of each number
    frames       of a feedforward policy: the observations that it reads
    heads        of the cells slstm and mlstm, see `memorycell.LSTM`
    members      networks of a recurrent policy, whose actions are averaged; see `mean_outputs` and
                 `memorycell.models.members`
    """

    input_size: int
    choices: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    frames: int = 1
    heads: int = 1
    members: int = 1

    counts: ClassVar[tuple[str, ...]] = (*ModelConfig.counts, "input_size", "frames", "heads")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads > 1 and not CELLS[self.cell].stabilised:
            raise ValueError(f"heads={self.heads}: the cell {self.cell} has none; slstm has, mlstm")
        if self.hidden_size % self.heads:
            raise ValueError(f"heads={self.heads}: expected a divisor of hidden={self.hidden_size}")
        for count in self.choices:
            if not 1 <= count <= 1_000_000:
                raise ValueError(f"choices: expected 1 or more, got {count}")
        if len(self.low) != len(self.high) or bool(self.choices) == bool(self.low):
            raise ValueError("expected choices, or bounds low and high")
        for low, high in zip(self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"bounds: expected low < high, got {low} and {high}")
        check_members(self.members)

    @property
    def exportable(self) -> bool:
        """Whether its networks can be exported: one, or several that can be merged."""
        return self.members == 1 or (self.cell in MERGEABLE_CELLS and self.heads == 1)

    @property
    def outputs(self) -> int:
        """Scores of all choices, or one number per action."""
        return sum(self.choices) or len(self.low)


class Policy(SteppedModel[Any]):
    """See the module. Numbers are scaled: -1 is `low`, 1 is `high`.

    log_std   logarithm of the standard deviation of numbers while training
    """

    config_class = PolicyConfig
    config: PolicyConfig

    def __init__(self, config: PolicyConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.scaling = Scaling(config.input_size)
        self.actor = nn.Linear(features, config.outputs)
        self.critic = nn.Linear(features, 1)
        self.log_std = nn.Parameter(torch.full((len(config.low),), -0.5))
        _orthogonal(self.actor, 0.01)
        _orthogonal(self.critic, 1.0)

    def features(
        self, x: Tensor, state: State | None, reset: Tensor | None, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """Scaled observations [B, T, I], reset [B, T] bool -> (features [B, T, G], state), of the
        first network.
        """
        raise NotImplementedError

    def evaluate(
        self, x: Tensor, state: State | None, reset: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Observations [B, T, I] -> (outputs [B, T, O] of the actor, values [B, T]), of the first
        network; numbers are scaled.
        """
        z, _ = self.features(self.scaling(x), state, reset)
        return self.actor(z), self.critic(z)[..., 0]

    def distributions(
        self,
        x: Tensor,
        state: State | None,
        reset: Tensor | None = None,
        backend: str | None = None,
    ) -> tuple[list[tuple[Tensor, Tensor]], State]:
        """Observations [B, T, I] -> (of every network, the outputs [B, T, O] of its actor, numbers
        scaled, and its `log_std`; state).
        """
        z, state = self.features(self.scaling(x), state, reset, backend)
        return [(self.actor(z), self.log_std)], state

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        reset: Tensor | None = None,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """Observations [B, T, I] -> (scores [B, T, sum of choices], or the most likely action
        [B, T, A] within its bounds; state), of several networks their average, see `mean_outputs`.
        """
        found, state = self.distributions(x, state, reset, backend)
        outputs = mean_outputs([one for one, _ in found], self.config.choices)
        if not self.config.choices:
            middle, half = (outputs.new_tensor(bound) for bound in self.bounds())
            outputs = middle + half * outputs
        return outputs, state

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(middle, half the range) of each number, [A] float32."""
        low, high = np.array(self.config.low), np.array(self.config.high)
        return ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)

    def environment_actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., A] as the policy learns them -> as the environment reads them, float32."""
        if self.config.choices:
            return actions
        middle, half = self.bounds()
        return np.asarray(middle + half * actions.clip(-1, 1), np.float32)

    def acting_stepper(self) -> Stepper:
        """Steps the features of scaled observations of many environments at once."""
        raise NotImplementedError

    def loss(self, batch: Lesson, state: State | None) -> tuple[Tensor, None]:
        """See `Model`."""
        return batch.objective(self), None

    def loss_count(self, batch: Lesson) -> int:
        """See `Model`."""
        return batch.count

    def part(self, batch: Lesson, rows: slice) -> tuple[Lesson, float]:
        """See `Model`."""
        taken = batch.take(rows)
        return taken, taken.count / max(batch.count, 1)


class Member(nn.Module):
    """A further network of a `RecurrentPolicy`. It reads observations that the first network's
    scaling has scaled, and has no critic.

    memory   see `RecurrentPolicy`
    """

    def __init__(self, config: PolicyConfig, memory: int | None) -> None:
        super().__init__()
        single = RecurrentPolicy(replace(config, members=1), memory)
        self.recurrent, self.actor, self.log_std = single.recurrent, single.actor, single.log_std


class RecurrentPolicy(Policy):
    """Its features are the hidden states of recurrent layers. With several members the first
    network is the policy itself, `others` are the further ones; all share its scaling.

    memory   steps that the biases of the gates are made for; None: those of the cell
    """

    kind = "policy"

    def __init__(self, config: PolicyConfig, memory: int | None = None) -> None:
        super().__init__(config, config.hidden_size)
        self.recurrent = config.stack(config.input_size, heads=config.heads)
        if memory is not None and has_gates(config.cell):
            _chrono(self.recurrent, memory)
        self.others = nn.ModuleList(Member(config, memory) for _ in range(config.members - 1))

    merged = 1
    """Networks that it was made of, see `MergedPolicy`."""

    @property
    def networks(self) -> list[RecurrentPolicy | Member]:
        """The members; the first is the policy itself."""
        return [self, *(cast(Member, other) for other in self.others)]

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros, of every member."""
        return join_states([one.recurrent.initial_state(batch_size) for one in self.networks])

    def features(
        self, x: Tensor, state: State | None, reset: Tensor | None, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """See `Policy`."""
        if state is None:
            state = self.recurrent.initial_state(len(x))
        z, state = self.recurrent(x, state, reset=reset, backend=backend)
        return z, state

    def distributions(
        self,
        x: Tensor,
        state: State | None,
        reset: Tensor | None = None,
        backend: str | None = None,
    ) -> tuple[list[tuple[Tensor, Tensor]], State]:
        """See `Policy`."""
        if self.config.members == 1:
            return super().distributions(x, state, reset, backend)
        inputs = self.scaling(x)
        state = self.initial_state(len(x)) if state is None else state
        found: list[tuple[Tensor, Tensor]] = []
        states: list[State] = []
        for one, before in zip(self.networks, split_state(state, self.config.members), strict=True):
            z, after = one.recurrent(inputs, before, reset=reset, backend=backend)
            found.append((one.actor(z), one.log_std))
            states.append(after)
        return found, join_states(states)

    def acting_stepper(self) -> Stepper:
        """See `Policy`."""
        from memorycell.streaming.stepping import stepper

        return stepper(self.recurrent)

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`."""
        from memorycell.applications.control.stepper import PolicyStepper, average_of

        steppers = [PolicyStepper(self, precision, one) for one in self.networks]
        return MembersStepper(steppers, average_of(self)) if len(steppers) > 1 else steppers[0]

    def exported(self) -> RecurrentPolicy:
        """See `Model`."""
        from memorycell.applications.control.merged import MergedPolicy

        is_merged = self.config.members > 1 and self.config.exportable
        return MergedPolicy(self) if is_merged else self

    def onnx_head(self) -> OnnxHead | str:
        """See `Model`."""
        if not self.config.exportable:
            return NOT_EXPORTED
        from memorycell.applications.control.onnx_head import PolicyOnnxHead

        return PolicyOnnxHead(self.exported())

    def c_head(self) -> CHead | str:
        """See `Model`."""
        if not self.config.exportable:
            return NOT_EXPORTED
        from memorycell.applications.control.c_head import PolicyCHead

        return PolicyCHead(self.exported())


class FeedforwardPolicy(Policy):
    """Its features are those of two layers of tanh that read the last `frames` observations."""

    kind = "feedforward-policy"

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__(config, config.hidden_size)
        self.network = FrameNetwork(config.input_size, config.frames, config.hidden_size)

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros."""
        return self.network.initial_state(batch_size)

    def features(
        self, x: Tensor, state: State | None, reset: Tensor | None, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """See `Policy`."""
        return self.network(x, state, reset)

    def unsupported_reason(self) -> str:
        """See `Model`."""
        return "a policy without memory runs in float32 through PyTorch"

    def acting_stepper(self) -> Stepper:
        """See `Policy`."""
        from memorycell.streaming.stepping import ForwardStepper

        return ForwardStepper(self.network, self.config.input_size)


class FrameNetwork(nn.Module):
    """Two layers of tanh over the last `frames` inputs."""

    def __init__(self, input_size: int, frames: int, hidden_size: int) -> None:
        super().__init__()
        self.frames, self.input_size = frames, input_size
        self.first = nn.Linear(frames * input_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        for layer in (self.first, self.second):
            _orthogonal(layer, math.sqrt(2))

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: the last inputs [frames, B, I], of which the oldest is not read."""
        return State(frames=self.first.weight.new_zeros(self.frames, batch_size, self.input_size))

    def forward(
        self, x: Tensor, state: State | Tensor | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """X [B, T, I], reset [B, T] bool -> (features [B, T, H], state)."""
        state = self.initial_state(len(x)) if state is None else state
        past = state if isinstance(state, Tensor) else state.frames
        seen, past = windows(x, past[1:], reset)
        z = torch.tanh(self.second(torch.tanh(self.first(seen.flatten(-2)))))
        return z, State(frames=torch.cat([past.new_zeros(1, *past.shape[1:]), past]))


def width_of_size(config: PolicyConfig, parameters: int, frames: int) -> int:
    """The hidden size with which a feedforward policy has about that many parameters."""
    more = frames * config.input_size + config.outputs + 3
    return max(2, round((math.sqrt(more**2 + 4 * parameters) - more) / 2))


def _orthogonal(layer: nn.Linear, gain: float) -> None:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)


def has_gates(cell: str) -> bool:
    """Whether a cell has the biases that `memory` sets."""
    return "f" in CELLS[cell].blocks


@torch.no_grad()
def _chrono(recurrent: Recurrent, memory: int) -> None:
    """Biases of the gates for memories of up to `memory` steps (Tallec & Ollivier 2018,
    arXiv:1804.11188): b_f = log U(1, memory - 1), b_i = -b_f.
    """
    rows = CELLS[recurrent.cell].rows(recurrent.hidden_size, recurrent.heads)
    for name, bias in recurrent.named_parameters():
        if not name.startswith(("bias_ih", "bias_hh")):
            continue
        gate = bias[rows["f"]]
        own = name.startswith("bias_ih")
        gate.copy_(torch.log(1 + torch.rand(len(gate)) * max(memory - 2, 0)) if own else 0 * gate)
        if "i" in rows:
            bias[rows["i"]] = -gate
