"""A sequence model on the native engine, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy import add, divide, empty, multiply
from torch import Tensor, nn

from memorycell.applications.sequences.convolution_step import ConvolutionStep
from memorycell.applications.sequences.heads import ordered_quantiles_array, standard_student
from memorycell.applications.sequences.mixture_step import MixtureStep
from memorycell.models.pooling import PoolingStep
from memorycell.nn.attention import AttentionPool
from memorycell.ops.step import LinearStep
from memorycell.state import Layout
from memorycell.streaming.arguments import FLOAT32
from memorycell.streaming.stepping import LayerStepper

if TYPE_CHECKING:
    from memorycell.applications.sequences.model import SequenceModel

MAX_SCORE = 30.0
"""Of the logarithm of a step's weight: sums of 10¹⁸ steps are then finite."""
TINY = np.finfo(np.float32).tiny


class SequenceStepper:
    """See `Stepper`; y is an output of `SequenceModel`. In a session's row the pooled values follow
    h and c, and the values of the convolutions, which are in float32 whatever the precision, follow
    those, and then those of the random convolutions. The members' recurrent layers are one stack
    with block-diagonal weights.

    bounded   as of `LayerStepper`
    """

    def __init__(self, model: SequenceModel, precision: str) -> None:
        config = model.config
        self.input_size, self.precision = config.input_size, precision
        self._size, self._members = config.hidden_size, config.members
        pooled = config.members * config.member_state
        self._branches = [ConvolutionStep(m.branch) for m in model.networks if m.branch is not None]
        convolved = sum(branch.state_size for branch in self._branches)
        self._random = None if model.random is None else MixtureStep(model.random)
        kept = 0 if self._random is None else self._random.state_size
        extra = pooled + convolved + kept
        self._layers = LayerStepper(model.merged_stack(), precision, extra_width=extra)
        more = {"pooled": (1, pooled), "convolutions": (1, convolved), "random": (1, kept)}
        sizes = {name: size for name, size in more.items() if size[1]}
        self.layout = Layout({**self._layers.layout.sizes, **sizes})
        self._pooled = self.layout.slices.get("pooled", slice(0, 0))
        self._convolved = self.layout.slices.get("convolutions", slice(0, 0))
        self._kept = self.layout.slices.get("random", slice(0, 0))
        self._walk = self._layers.stack.step_one
        pooling = "last" if config.every_step else config.pooling
        self._pools = [PoolingStep(pooling, m.pool) for m in model.networks]
        self._heads = [LinearStep(*_scaled_head(m.head, model)) for m in model.networks]
        self._output = _Output(model)
        self._outputs, self._plain = config.outputs * config.params, self._output.plain
        self._pooling = pooling
        self._weight = self._pools[0].weight if pooling == "attention" else None
        plain = not self._branches and self._random is None
        self._single = config.members == 1 and pooling != "max"
        self._branch = self._branches[0] if self._branches else None
        self.bounded = (
            self._layers.bounded and plain and all(_is_bounded(m.pool) for m in model.networks)
        )

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        if x.ndim == 1 and self._single:
            return self._step_single(ring, row, x)
        steps = x.reshape(-1, self.input_size)
        before, convolved = ring[row, self._pooled].copy(), ring[row, self._convolved].copy()
        kept = ring[row, self._kept].copy()
        hidden, row = self._layers.step_one(ring, row, steps)
        features = []
        for k in range(len(steps) if self._branches else 0):
            parts = convolved.reshape(len(self._branches), -1)
            own = [
                b.one(part, steps[k], part) for b, part in zip(self._branches, parts, strict=True)
            ]
            features.append(own)
            back = len(steps) - 1 - k
            if back < len(ring):
                ring[row - back, self._convolved] = convolved
        joined = [np.stack(own)[None] for own in zip(*features, strict=True)]
        pooled, y = self._answer(before[None], hidden[None], joined)
        if pooled.shape[-1]:
            for back in range(min(len(steps), len(ring))):  # the steps that the ring stores
                ring[row - back, self._pooled] = pooled[0, len(steps) - 1 - back]
        if self._random is not None:
            y[0] = self._mix_steps(self._random, ring, row, steps, kept, y[0])
        return (y[0] if x.ndim == 2 else y[0, 0]), row

    def _mix_steps(
        self,
        random: MixtureStep,
        ring: np.ndarray,
        row: int,
        steps: np.ndarray,
        kept: np.ndarray,
        y: np.ndarray,
    ) -> np.ndarray:
        """The networks' outputs y [T, C] after steps [T, I], of which the last state is in `row` ->
        those of the mixture; `kept` is of before the first step.
        """
        scores = []
        for k in range(len(steps)):
            scores.append(random.one(kept, steps[k], kept))
            back = len(steps) - 1 - k
            if back < len(ring):
                ring[row - back, self._kept] = kept
        return random.mixed(y, np.stack(scores))

    def _step_single(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """`step_one` of one step with one member, with few and cheap numpy calls: each costs as
        much as a part of the engine's work.
        """
        size, pooled = self._size, self._pooled
        sums = empty(size + 1, FLOAT32)
        z = sums[:size]
        before, branch, random = row, self._branch, self._random
        row = self._walk(ring, row, x, z)
        if self._pooling != "last":
            sums[size] = 1
            if self._weight is not None:
                multiply(sums, self._weight(z), sums)
            earlier = ring[before, pooled]
            after = earlier if row == before else ring[row, pooled]
            add(earlier, sums, after)
            divide(after[:size], after[size], z)
        if branch is not None:
            own = self._convolved
            features = branch.one(ring[before, own], x, ring[row, own])
            z = np.concatenate((z, features))
        y, head = empty(self._outputs, FLOAT32), self._heads[0]
        head.times(z, head.bias, y)
        if not self._plain:
            y = self._output([y[None]])[0]
        if random is not None:
            own = self._kept
            y = random.mixed(y, random.one(ring[before, own], x, ring[row, own]))
        return y, row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        hidden = self._layers.step_many(block, rows, x)
        features: list[np.ndarray] = []
        if self._branches:
            features, after = self._convolve(block[rows, self._convolved], x)
            block[rows, self._convolved] = after
            features = [own[:, None] for own in features]
        pooled, y = self._answer(block[rows, self._pooled], hidden[:, None], features)
        block[rows, self._pooled] = pooled[:, 0]
        if self._random is not None:
            scores, kept = self._random(block[rows, self._kept], x)
            block[rows, self._kept] = kept
            return self._random.mixed(y[:, 0], scores)
        return y[:, 0]

    def _convolve(self, before: np.ndarray, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """What the convolutions keep [B, members·W], a step's inputs [B, I] -> (the features
        [B, 2 C] of each member, what they keep after it).
        """
        parts = np.split(before, len(self._branches), 1)
        found = [branch(own, x) for branch, own in zip(self._branches, parts, strict=True)]
        return [own for own, _ in found], np.concatenate([own for _, own in found], 1)

    def _answer(
        self, before: np.ndarray, hidden: np.ndarray, features: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pooled values before the first step [B, members·G], hidden [B, T, members·H], and where
        there are convolutions the features [B, T, 2 C] of each member -> (pooled values after every
        step, outputs [B, T, ...]).
        """
        count, size = self._members, self._size
        carried, params = [], []
        width = before.shape[-1] // count
        for k, (pool, head) in enumerate(zip(self._pools, self._heads, strict=True)):
            own = hidden if count == 1 else hidden[..., k * size : (k + 1) * size]
            pooled, z = pool(before[:, k * width : (k + 1) * width], own)
            if features:
                z = np.concatenate([z, features[k]], -1)
            flat = np.ascontiguousarray(z.reshape(-1, z.shape[-1]), np.float32)
            params.append(head(flat).reshape(*hidden.shape[:2], -1))
            carried.append(pooled)
        return (carried[0] if count == 1 else np.concatenate(carried, -1)), self._output(params)


class _Output:
    """From the parameters of each member [..., outputs · P] to the output; see
    `SequenceModel.combined`.
    """

    def __init__(self, model: SequenceModel) -> None:
        config = self._config = model.config
        self._temperature = np.float32(model.temperature.item())
        self._standard = None
        if model.tails is not None:
            freedom = model.degrees_of_freedom.detach().numpy()
            self._standard = standard_student(freedom, config.quantiles)
        self.plain = not config.numeric and config.members == 1

    def __call__(self, params: list[np.ndarray]) -> np.ndarray:
        if self.plain:  # the temperature is part of the head's weights
            return params[0]
        if self._config.numeric:
            return self._quantiles(params)
        total = sum(map(_sigmoid if self._config.target == "labels" else _softmax, params))
        p = np.asarray(total) / np.float32(len(params))
        if self._config.target == "labels":
            p = np.clip(p, np.float32(1e-7), np.float32(1 - 1e-7))
            return np.asarray(np.log(p / (1 - p)) / self._temperature)
        return np.asarray(np.log(np.maximum(p, TINY)) / self._temperature)

    def _quantiles(self, params: list[np.ndarray]) -> np.ndarray:
        config = self._config
        shape = (*params[0].shape[:-1], config.outputs, config.params)
        total = np.zeros((), np.float32)
        for own in params:
            own = own.reshape(shape)
            if self._standard is None:
                total = total + ordered_quantiles_array(own)
            else:
                scale = np.exp(np.clip(own[..., 1:], -8, 8))
                total = total + (own[..., :1] + scale * self._standard)
        quantiles = total / np.float32(len(params))
        middle = config.quantiles // 2
        median = quantiles[..., middle : middle + 1]
        return np.asarray(median + (quantiles - median) * self._temperature)


def _is_bounded(pool: AttentionPool | None) -> bool:
    """Whether the weight of a step in the pooled sums is moderate, whatever the input."""
    return pool is None or float(pool.score.weight.detach().abs().sum()) < MAX_SCORE


def _scaled_head(head: nn.Linear, model: SequenceModel) -> tuple[Tensor, Tensor]:
    """Weight and bias of a head, divided by the temperature where there is one member with scores:
    a division less at every step.
    """
    weight, bias = head.weight, head.bias
    if model.config.numeric or model.config.members > 1:
        return weight, bias
    temperature = model.temperature.detach()
    return weight / temperature, bias / temperature


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-scores)))
