"""SequenceModel: one or several recurrent stacks -> pooling -> a class, labels or numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.sequences.heads import (
    crps_loss,
    ordered_quantiles,
    standard_student,
    student_nats,
)
from memorycell.applications.sequences.member import Member
from memorycell.applications.sequences.mixture import RANDOM, RandomConvolutions
from memorycell.applications.sequences.model_config import SequenceModelConfig
from memorycell.models.exporting import CHead, OnnxHead
from memorycell.models.merging import merged
from memorycell.models.model import Model
from memorycell.nn.layers import Recurrent
from memorycell.ops.step import unsupported_reason
from memorycell.state import State
from memorycell.streaming.stepping import ForwardStepper, Stepper, layer_params

MIN_PROBABILITY = 1e-7
"""Of a label, so that its log-odds are finite in float32."""


class SequenceBatch(NamedTuple):
    """Sequences, or windows of them, padded with zeros.

    x        [B, T, I] float32
    lengths  [B] int64
    target   classes int64 [B], -1 for none of them; labels or scaled numbers float32 [B, K], NaN
             where unknown; at every step int64 [B, T] with -1, or float32 [B, T, K] with NaN, where
             there is none
    weight   [B, members]: 0 where a member does not learn from a sequence
    """

    x: Tensor
    lengths: Tensor
    target: Tensor
    weight: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Steps read, padding not counted."""
        return int(self.lengths.sum())


class SequenceModel(Model[SequenceBatch]):
    """Maps sequences to one answer each, or to one at every step.

    The answer of a unidirectional model after a step is that for the sequence so far. The outputs
    of `forward`, `outputs` and of steps are

        class, step_class     scores [classes]; their softmax is the distribution
        labels                log-odds [labels]
        number, step_number   quantiles [numbers, Q] in scaled units

    and members are averaged: probabilities, or each quantile. Of classes, those of a linear
    classifier on random convolutions may be mixed in; see `mix`.

    class_weight   [outputs] of each class in the loss
    temperature    divides the scores; of numbers it multiplies the distances from the median;
                   fitted by `calibrate` (Guo et al. 2017, arXiv:1706.04599)
    sure           probability from which on a session calls its answer sure
    """

    kind = "sequence"
    config_class = SequenceModelConfig
    config: SequenceModelConfig
    class_weight: Tensor
    temperature: Tensor
    sure: Tensor

    def __init__(self, config: SequenceModelConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config) for _ in range(config.members))
        self.tails = (
            nn.Parameter(torch.full((config.outputs,), 1.5))
            if config.numeric and config.interval == "student"
            else None
        )
        self.register_buffer("class_weight", torch.ones(config.outputs))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("sure", torch.ones(()))
        self.random: RandomConvolutions | None = None
        if config.mix_dilations:
            self.random = RandomConvolutions(
                config.mix_dilations,
                config.mix_biases,
                config.patch,
                config.row_size,
                config.outputs,
            )

    def mix(self, random: RandomConvolutions) -> None:
        """Mix the probabilities of a fitted classifier in, from now on."""
        biases = random.biases.shape[2]
        self.config = replace(self.config, mix_dilations=random.dilations, mix_biases=biases)
        self.random = random

    # ---- training --------------------------------------------------------------------------------

    def loss(self, batch: SequenceBatch, state: State | None) -> tuple[Tensor, None]:
        """The mean loss of the members, each over the sequences of its weight: cross-entropy in
        nats; of numbers CRPS, or with student negative log-likelihood.
        """
        total = batch.x.new_zeros(())
        for member, weight in zip(self.networks, batch.weight.unbind(1), strict=True):
            # Convolutions are normalised over what a member learns from.
            own = weight > 0 if weight.any() else weight == 0
            params = member(batch.x[own], batch.lengths[own]).float()
            losses = self._losses(params, batch.target[own])
            total = total + (losses * weight[own]).sum() / weight.sum().clamp(min=1)
        return total / self.config.members, None

    def part(self, batch: SequenceBatch, rows: slice) -> tuple[SequenceBatch, float]:
        """See `Model`: a member's weights are shares of its sum over the complete batch."""
        weight = batch.weight / batch.weight.sum(0).clamp(min=1)
        return super().part(batch._replace(weight=weight), rows)[0], 1.0

    def _losses(self, params: Tensor, target: Tensor) -> Tensor:
        """Parameters [B, ..., outputs · P] -> loss of each sequence [B]."""
        config = self.config
        if config.target == "class":
            losses = F.cross_entropy(
                params,
                target.clamp(min=0),
                self.class_weight,
                reduction="none",
                label_smoothing=config.smoothing,
            )
            # Of a sequence of none of the classes, each is equally likely.
            return torch.where(target < 0, -params.log_softmax(-1).mean(-1), losses)
        if config.target == "labels":
            known = ~target.isnan()
            losses = F.binary_cross_entropy_with_logits(
                params, target.nan_to_num(), reduction="none"
            )
            return _mean(losses * (1 + (self.class_weight - 1) * target.nan_to_num()), known)
        if config.target == "step_class":
            losses = F.cross_entropy(
                params.transpose(1, 2),
                target.clamp(min=0),
                self.class_weight,
                reduction="none",
                label_smoothing=config.smoothing,
            )
            return _mean(losses, target >= 0)
        known, filled = ~target.isnan(), target.nan_to_num()
        params = params.unflatten(-1, (config.outputs, config.params))
        if self.tails is None:
            return _mean(crps_loss(ordered_quantiles(params), filled), known)
        return _mean(student_nats(params, filled, self.degrees_of_freedom), known)

    @property
    def degrees_of_freedom(self) -> Tensor:
        """ν [outputs] of Student's t, above 2."""
        assert self.tails is not None
        return 2 + F.softplus(self.tails)

    # ---- answers ---------------------------------------------------------------------------------

    def outputs(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Complete sequences x [B, T, I] with lengths [B] -> their outputs [B, ...], or of every
        step [B, T, ...].
        """
        y = self.combined(self.member_outputs(x, lengths))
        return y if self.random is None else self.random.mixed(y, self.random(x, lengths))

    def member_outputs(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The same for each member, uncalibrated: [members, B, ...]."""
        return torch.stack([self._output(member(x, lengths)) for member in self.networks])

    def combined(self, outputs: Tensor) -> Tensor:
        """Outputs [members, ...] -> the calibrated output of their average."""
        if self.config.numeric:
            quantiles = outputs.mean(0)
            middle = self.config.quantiles // 2
            median = quantiles[..., middle : middle + 1]
            return median + (quantiles - median) * self.temperature
        if len(outputs) > 1 and self.config.target == "labels":
            p = outputs.sigmoid().mean(0).clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
            return torch.log(p / (1 - p)) / self.temperature
        if len(outputs) > 1:
            p = outputs.softmax(-1).mean(0)
            return torch.log(p.clamp(min=torch.finfo(p.dtype).tiny)) / self.temperature
        return outputs[0] / self.temperature

    def _output(self, params: Tensor) -> Tensor:
        config = self.config
        params = params.float()
        if not config.numeric:
            return params
        params = params.unflatten(-1, (config.outputs, config.params))
        if self.tails is None:
            return ordered_quantiles(params)
        freedom = self.degrees_of_freedom.detach().cpu().numpy()
        standard = torch.from_numpy(standard_student(freedom, config.quantiles)).to(params)
        return params[..., :1] + params[..., 1:].clamp(-8, 8).exp() * standard

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h and c of all members, the pooled values [1, B, members · G], what the
        convolutions keep [1, B, members · W], and what the random convolutions keep.
        """
        config = self.config
        first = self.networks[0].recurrent
        state = {
            name: tensor.repeat(1, 1, config.members)
            for name, tensor in first.initial_state(batch_size).asdict().items()
        }
        size = config.members * config.member_state
        if size:
            state["pooled"] = next(iter(state.values())).new_zeros(1, batch_size, size)
        if (branch := self.networks[0].branch) is not None:
            size = config.members * branch.state_size
            state["convolutions"] = next(iter(state.values())).new_zeros(1, batch_size, size)
        if self.random is not None:
            size = self.random.state_size
            state[RANDOM] = next(iter(state.values())).new_zeros(1, batch_size, size)
        return State(**state)

    def forward(
        self,
        x: Tensor,
        state: State | Tensor | None = None,
        *,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """X [B, T, I] -> (outputs after every step [B, T, ...], state). Only for a unidirectional
        model.
        """
        if state is None:
            state = self.initial_state(len(x))
        elif not isinstance(state, State):  # a lone tensor is h
            state = State([state])
        outputs, after = self.member_steps(x, state, backend=backend)
        y = self.combined(outputs)
        if self.random is None:
            return y, after
        scores, kept = self.random.steps(x, state.asdict()[RANDOM][0])
        return self.random.mixed(y, scores), State(**after.asdict(), random=kept[None])

    def member_steps(
        self, x: Tensor, state: State, *, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """The same for each member, uncalibrated: outputs [members, B, T, ...]; the state is
        without that of the random convolutions.
        """
        config = self.config
        given = {name: t for name, t in state.asdict().items() if name != RANDOM}
        parts = {name: t.chunk(config.members, -1) for name, t in given.items()}
        outputs, after = [], []
        for k, member in enumerate(self.networks):
            own = State(**{name: part[k].contiguous() for name, part in parts.items()})
            params, new = member.steps(x, own, backend)
            outputs.append(self._output(params))
            after.append(new)
        new_state = {name: torch.cat([one[name] for one in after], -1) for name in after[0]}
        return torch.stack(outputs), State(**new_state)

    @property
    def networks(self) -> list[Member]:
        """The members."""
        return cast(list[Member], list(self.members))

    # ---- steps and exports -----------------------------------------------------------------------

    @property
    def stacks(self) -> list[Recurrent]:
        """The recurrent layers of each member."""
        return [member.recurrent for member in self.networks]

    def merged_stack(self) -> Recurrent:
        """The members' recurrent layers as one. Raises ValueError for a bidirectional model."""
        if self.config.bidirectional:
            raise ValueError("a bidirectional model needs its complete input")
        return merged(self.stacks)

    def unsupported_reason(self) -> str | None:
        """See `Model`."""
        return unsupported_reason(self.config.cell, layer_params(self.stacks[0]))

    def stepper(self, precision: str = "float32") -> Stepper:
        """See `Model`: on the native engine, or through `forward` where it lacks the cell."""
        from memorycell.applications.sequences.stepper import SequenceStepper

        reason = self.unsupported_reason()
        if reason is None:
            return SequenceStepper(self, precision)
        if precision != "float32":
            raise ValueError(f"stream: precision={precision!r} needs the native engine; {reason}")
        return ForwardStepper(self, self.config.input_size)

    def onnx_head(self) -> OnnxHead | str:
        """See `Model`."""
        from memorycell.applications.sequences.onnx_head import SequenceOnnxHead

        if self.config.bidirectional:
            return "not for a bidirectional model"
        return SequenceOnnxHead(self)

    def c_head(self) -> CHead | str:
        """See `Model`."""
        from memorycell.applications.sequences.c_head import SequenceCHead

        if self.config.bidirectional:
            return "not for a bidirectional model"
        return SequenceCHead(self)


def _mean(losses: Tensor, known: Tensor) -> Tensor:
    """The mean over the known values of each sequence [B]; 0 where none is."""
    losses = torch.where(known, losses, 0).flatten(1).sum(1)
    return losses / known.flatten(1).sum(1).clamp(min=1)
