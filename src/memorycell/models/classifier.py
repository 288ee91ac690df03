"""Classifier: tokens or features -> recurrent stack -> pooling over time -> distribution over
classes; or several such networks, whose distributions are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.models.batches import PaddedBatch
from memorycell.models.heads import Classify, WordPairs
from memorycell.models.members import (
    MembersStepper,
    check_members,
    join_states,
    mean_log_p,
    split_state,
)
from memorycell.models.model import ModelConfig, SteppedModel, carried, log_softmax
from memorycell.models.pooling import POOLINGS, PoolingStep, pool_complete, pool_steps, pooled_size
from memorycell.nn.attention import AttentionPool
from memorycell.nn.regularise import dropout, embedding_dropout, variational_dropout
from memorycell.ops.step import LinearStep
from memorycell.state import Layout, State
from memorycell.streaming.stepping import LayerStepper, Stepper


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(ModelConfig):
    """The sizes of a classifier.

    vocabulary      number of tokens; 0: the input is features
    input_size      number of features, or the embedding size
    classes         number of classes
    pooling         over time, see `memorycell.models.pooling`
    pairs           add a linear model of token pairs, see `heads.WordPairs`
    bidirectional   more accurate, but cannot run live
    word_dropout    probability that a token is replaced by the unknown token (Iyyer et al. 2015,
                    deep averaging networks)
    smoothing       label smoothing (Szegedy et al. 2016)
    members         networks, whose probabilities are averaged; see `memorycell.models.members`
    """

    vocabulary: int
    input_size: int
    classes: int
    pooling: str = "attention"
    pairs: bool = False
    bidirectional: bool = True
    embedding_dropout: float = 0.0
    word_dropout: float = 0.0
    smoothing: float = 0.0
    members: int = 1

    counts: ClassVar[tuple[str, ...]] = (*ModelConfig.counts, "input_size", "classes")
    probabilities: ClassVar[tuple[str, ...]] = (
        *ModelConfig.probabilities,
        "embedding_dropout",
        "word_dropout",
        "smoothing",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: expected {', '.join(POOLINGS)}, got {self.pooling!r}")
        if not isinstance(self.vocabulary, int) or not 0 <= self.vocabulary <= 1_000_000:
            raise ValueError(f"vocabulary: expected a whole number, got {self.vocabulary!r}")
        check_members(self.members)


class Classifier(SteppedModel[PaddedBatch]):
    """Maps a sequence to log-probabilities of its class; after every step, if unidirectional."""

    kind, gives_log_p = "classifier", True
    config_class = ClassifierConfig
    config: ClassifierConfig
    class_weight: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = (
            nn.Embedding(config.vocabulary, config.input_size) if config.vocabulary else None
        )
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.recurrent = config.stack(config.input_size, bidirectional=config.bidirectional)
        size = config.hidden_size * len(self.recurrent.directions)
        self.pool = AttentionPool(size) if config.pooling == "attention" else None
        self.pairs = (
            WordPairs(config.vocabulary, config.classes)
            if config.pairs and config.vocabulary
            else None
        )
        self.head = Classify(size, config.classes)
        self.register_buffer("class_weight", torch.ones(config.classes))
        single = replace(config, members=1)
        self.others = nn.ModuleList(Classifier(single) for _ in range(config.members - 1))

    @property
    def networks(self) -> list[Classifier]:
        """The members; the first is the model itself, whose head has the temperature of all."""
        return [self, *(cast(Classifier, other) for other in self.others)]

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros, of every member: h, c, the pooled sums or maxima [1, B, H + 1 or H], and the past
        of the pairs.
        """
        return join_states([one._initial_state(batch_size) for one in self.networks])

    def _initial_state(self, batch_size: int) -> State:
        state = self.recurrent.initial_state(batch_size)
        sizes = {
            "pooled": pooled_size(self.config.pooling, self.config.hidden_size),
            "pairs": self.config.classes + 2 if self.pairs else 0,
        }
        more = {
            name: state[0].new_zeros(1, batch_size, size) for name, size in sizes.items() if size
        }
        return State(**state.asdict(), **more)

    def forward(
        self, x: Tensor, state: State | None = None, *, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """X [B, T] token ids, [B, T, 1] of any dtype, or features [B, T, I] -> (log-probabilities
        after every step [B, T, classes], state). Only for a unidirectional model.
        """
        state = self.initial_state(len(x)) if state is None else state
        states = split_state(state, self.config.members)
        steps = [
            one._steps(x, before, backend)
            for one, before in zip(self.networks, states, strict=True)
        ]
        return self._distribution([logits for logits, _ in steps]), join_states(
            [after for _, after in steps]
        )

    def _steps(self, x: Tensor, state: State, backend: str | None) -> tuple[Tensor, State]:
        """As `forward`, of one network: (logits [B, T, classes], state)."""
        x = self._tokens(x)
        z, after = carried(self.recurrent, self._embedded(x), state, backend=backend)
        before = state.pooled[0] if self.config.pooling != "last" else None
        pooled, z = pool_steps(self.config.pooling, self.pool, z, before)
        if pooled is not None:
            after["pooled"] = pooled[None]
        pair_logits = None
        if self.pairs is not None:
            pair_logits, past = self.pairs(x, state.pairs[0])
            after["pairs"] = past[None]
        return self.head.logits(z, pair_logits), State(**after)

    def classify(self, x: Tensor, lengths: Tensor) -> Tensor:
        """X [B, T] or [B, T, I], lengths [B] -> log-probabilities of the complete sequences [B,
        classes].
        """
        return self._distribution([one.logits(x, lengths) for one in self.networks])

    def logits(self, x: Tensor, lengths: Tensor) -> Tensor:
        """As `classify`, of the first network alone: logits [B, classes]."""
        config = self.config
        x = self._tokens(x)
        embedded = dropout(self._embedded(x), config.dropout / 2, self.training)
        hidden, _ = self.recurrent(embedded, lengths=lengths)
        hidden = variational_dropout(hidden, config.dropout / 2, self.training)
        z = pool_complete(config.pooling, self.pool, hidden, lengths, config.hidden_size)
        pair_logits = None
        if self.pairs is not None:
            per_step, _ = self.pairs(x, hidden.new_zeros(len(x), config.classes + 2))
            pair_logits = per_step[torch.arange(len(x)), lengths - 1]
        return self.head.logits(dropout(z, config.dropout, self.training), pair_logits)

    def _distribution(self, logits: list[Tensor]) -> Tensor:
        """The logits of every member [..., classes] -> calibrated log-probabilities."""
        if len(logits) == 1:
            return self.head.distribution(logits[0])
        return self.head.distribution(mean_log_p([F.log_softmax(one, -1) for one in logits]))

    def loss(self, batch: PaddedBatch, state: State | None) -> tuple[Tensor, None]:
        """Cross-entropy in nats, classes weighted by `class_weight`; the mean of the members'."""
        losses = [
            F.cross_entropy(
                one.head.distribution(one.logits(batch.x, batch.lengths)),
                batch.target,
                self.class_weight,
                label_smoothing=self.config.smoothing,
            )
            for one in self.networks
        ]
        return torch.stack(losses).mean(), None

    def unsupported_reason(self) -> str | None:
        """See `Model`."""
        if self.pairs is not None:
            return "a classifier with word pairs runs in float32 through PyTorch"
        return super().unsupported_reason()

    @property
    def step_size(self) -> int:
        """See `SteppedModel`."""
        return 1 if self.embedding is not None else self.config.input_size

    def random_inputs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """See `Model`: token ids, or features."""
        if self.embedding is None:
            return super().random_inputs(rng, shape)
        return rng.integers(0, self.config.vocabulary, size=shape).astype(np.float32)

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: y is the log-probabilities [classes] given the steps so far."""
        if self.config.members == 1:
            return ClassifierStepper(self, precision, float(self.head.temperature))
        temperature = np.float32(self.head.temperature.item())
        return MembersStepper(
            [ClassifierStepper(one, precision) for one in self.networks],
            lambda log_p: _mean_distribution(log_p, temperature),
        )

    def _tokens(self, x: Tensor) -> Tensor:
        """Features unchanged, or token ids [B, T] int64 with word dropout in training."""
        if self.embedding is None:
            return x
        tokens = x if x.ndim == 2 else x[..., 0].long()
        if self.training and self.config.word_dropout:
            kept = torch.rand(tokens.shape, device=tokens.device) >= self.config.word_dropout
            tokens = tokens * kept
        return tokens

    def _embedded(self, x: Tensor) -> Tensor:
        if self.embedding is None:
            return x
        return F.embedding(
            x,
            embedding_dropout(self.embedding.weight, self.config.embedding_dropout, self.training),
        )


class ClassifierStepper:
    """Single steps of a classifier on the native engine. In a session's row, the pooled values
    follow h and c.

    temperature   of the softmax
    """

    def __init__(self, model: Classifier, precision: str, temperature: float = 1.0) -> None:
        config = model.config
        self.precision = precision
        self._table = (
            None
            if model.embedding is None
            else model.embedding.weight.detach().float().numpy().copy()
        )
        self.input_size = config.input_size if self._table is None else 1
        sizes = {
            name: (t.shape[0], t.shape[2]) for name, t in model._initial_state(1).asdict().items()
        }
        pooled_size = sizes["pooled"][1] if "pooled" in sizes else 0
        self._layers = LayerStepper(model.recurrent, precision, extra_width=pooled_size)
        self.layout = Layout(sizes)
        self._pooled = self.layout.slices.get("pooled", slice(0, 0))
        self._pool = PoolingStep(config.pooling, model.pool)
        linear = model.head.linear
        self._head = LinearStep(linear.weight / temperature, linear.bias / temperature)

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        steps = self._inputs(x.reshape(-1, self.input_size))
        before = ring[row : row + 1, self._pooled].copy()
        hidden, row = self._layers.step_one(ring, row, steps)
        pooled, z = self._pool(before, hidden[None])
        for back in range(min(len(steps), len(ring))):  # the steps that the ring stores
            ring[row - back, self._pooled] = pooled[0, len(steps) - 1 - back]
        y = self._log_p(z[0])
        return (y if x.ndim == 2 else y[0]), row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        hidden = self._layers.step_many(block, rows, self._inputs(x))
        pooled, z = self._pool(block[rows, self._pooled], hidden[:, None])
        block[rows, self._pooled] = pooled[:, 0]
        return self._log_p(z[:, 0])

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        return x if self._table is None else self._table[x[:, 0].astype(np.int64)]

    def _log_p(self, z: np.ndarray) -> np.ndarray:
        return log_softmax(self._head(np.ascontiguousarray(z, np.float32)))


def _mean_distribution(log_p: list[np.ndarray], temperature: np.float32) -> np.ndarray:
    """`Classifier._distribution` in numpy, from log-probabilities."""
    mean = np.exp(np.stack(log_p)).mean(0)
    return log_softmax(np.log(np.maximum(mean, np.finfo(np.float32).tiny)) / temperature)
