"""Classifier = tokens or features -> recurrent stack -> one vector of the whole sequence -> the distribution over classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.data.batches import Gathered
from memorycell.heads import Classify, WordPairs
from memorycell.models.model import Model, ModelConfig, carried
from memorycell.nn.attention import AttentionPool, padding
from memorycell.nn.regularise import dropout, embedding_dropout, variational_dropout
from memorycell.state import State
from memorycell.stepping import ForwardStepper, Stepper

POOLINGS = ("attention", "max", "last")


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(ModelConfig):
    """The sizes of a classifier.

    vocabulary      tokens; 0 where the input is features
    input_size      features, or the size of a token's vector
    classes         to tell apart
    pooling         how a sequence becomes one vector: "attention", "max" (of every unit over time) or "last"
    pairs           of tokens a linear path beside the recurrent one sees, see `heads.WordPairs`
    bidirectional   read both ways: better, but not live
    word_dropout    probability that a token is read as unknown (Iyyer et al. 2015, deep averaging networks)
    smoothing       share of the target's probability given to the other classes (Szegedy et al. 2016)
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


class Classifier(Model):
    """A sequence in, log-probabilities of its class out; after every step, where it reads one way."""

    kind = "classifier"
    codec_kind = ("labelled", "audio", "strokes", "lines")
    config_class = ClassifierConfig
    config: ClassifierConfig
    class_weight: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.input_size) if config.vocabulary else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.recurrent = config.stack(config.input_size, bidirectional=config.bidirectional)
        size = config.hidden_size * len(self.recurrent.directions)
        self.pool = AttentionPool(size) if config.pooling == "attention" else None
        self.pairs = WordPairs(config.vocabulary, config.classes) if config.pairs and config.vocabulary else None
        self.head = Classify(size, config.classes)
        self.register_buffer("class_weight", torch.ones(config.classes))

    def fits(self, codec: Any) -> bool:
        """See `Model`."""
        features = codec.vocabulary or codec.input_size == self.config.input_size
        return bool(features) and (self.config.vocabulary, self.config.classes) == (codec.vocabulary, len(codec.labels))

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h, c, and what the pooling has gathered [1, B, H or H + 1]; nothing for "last"."""
        state = self.recurrent.initial_state(batch_size)
        extra = {"attention": 1, "max": 0, "last": -self.config.hidden_size}[self.config.pooling]
        sizes = {"pooled": self.config.hidden_size + extra, "pairs": self.config.classes + 2 if self.pairs else 0}
        more = {name: state[0].new_zeros(1, batch_size, size) for name, size in sizes.items() if size}
        return State(**state.asdict(), **more)

    def forward(self, x: Tensor, state: State | None = None, *, backend: str | None = None) -> tuple[Tensor, State]:
        """X [B, T] tokens (or [B, T, 1] in any type; or features [B, T, I]) -> (log-probabilities after every step
        [B, T, classes], state). Only for a model that reads one way.
        """
        state = self.initial_state(len(x)) if state is None else state
        x = self._tokens(x)
        z, kept = carried(self.recurrent, self._embedded(x), state, backend=backend)
        if self.config.pooling == "max":  # from 0 = nothing yet: h lies above -1
            z = torch.maximum((z + 1).cummax(1).values, state.pooled[0][:, None])
            kept["pooled"], z = z[None, :, -1], z - 1
        elif self.pool is not None:
            weights = self.pool.weights(z)
            sums = torch.cat([weights * z, weights], -1).cumsum(1) + state.pooled[0][:, None]
            kept["pooled"], z = sums[None, :, -1], sums[..., :-1] / sums[..., -1:]
        besides = None
        if self.pairs is not None:
            besides, past = self.pairs(x, state.pairs[0])
            kept["pairs"] = past[None]
        return self.head(z, besides), State(**kept)

    def classify(self, x: Tensor, lengths: Tensor) -> Tensor:
        """X [B, T] or [B, T, I], lengths [B] -> log-probabilities of the whole sequences [B, classes]."""
        config = self.config
        x = self._tokens(x)
        embedded = dropout(self._embedded(x), config.dropout / 2, self.training)
        hidden, _ = self.recurrent(embedded, lengths=lengths)
        hidden = variational_dropout(hidden, config.dropout / 2, self.training)
        beyond = padding(lengths, hidden.shape[1])[..., None]
        if self.pool is not None:
            weights = self.pool.weights(hidden).masked_fill(beyond, 0)
            z = (weights * hidden).sum(1) / weights.sum(1)
        elif config.pooling == "max":
            z = hidden.masked_fill(beyond, -1).amax(1)
        else:
            size = config.hidden_size
            z = hidden[torch.arange(len(x)), lengths - 1, :size]
            z = torch.cat([z, hidden[:, 0, size:]], -1)  # each direction where it has read all
        besides = None
        if self.pairs is not None:
            running, _ = self.pairs(x, hidden.new_zeros(len(x), config.classes + 2))
            besides = running[torch.arange(len(x)), lengths - 1]
        return self.head(dropout(z, config.dropout, self.training), besides)

    def loss(self, batch: Gathered, state: State | None) -> tuple[Tensor, None]:
        """Cross-entropy in nats, classes weighted by `class_weight`."""
        log_p = self.classify(batch.x, batch.lengths)
        return (
            F.cross_entropy(log_p, batch.target, self.class_weight, label_smoothing=self.config.smoothing),
            None,
        )

    def stepper(self, precision: str = "float32") -> Stepper:
        """See `Model`: y is the log-probabilities after what was read so far."""
        if precision != "float32":
            raise ValueError(f"stream: a classifier runs in float32, not {precision}")
        return ForwardStepper(self, 1 if self.embedding is not None else self.config.input_size)

    def _tokens(self, x: Tensor) -> Tensor:
        """Features as they are; tokens [B, T] int64, in training some of them unknown."""
        if self.embedding is None:
            return x
        tokens = x if x.ndim == 2 else x[..., 0].long()
        if self.training and self.config.word_dropout:
            tokens = tokens * (torch.rand(tokens.shape) >= self.config.word_dropout)
        return tokens

    def _embedded(self, x: Tensor) -> Tensor:
        if self.embedding is None:
            return x
        return F.embedding(x, embedding_dropout(self.embedding.weight, self.config.embedding_dropout, self.training))
