"""Translator = an encoder that reads the source both ways -> a decoder that writes the target,
looking back by attention.

    m_s        = encoder(source)                         [S, H], both directions side by side
    d_t        = lower decoder layer(target so far)
    a_t, ctx_t = attention(d_t, m)
    u_t        = upper decoder layers([d_t, ctx_t])
    p(y_t+1)   = softmax(E · tanh(W [u_t, ctx_t]))       E the target's embedding

What was attended reaches the recurrence through the upper layers, not through the next input, so
that a whole target runs through the recurrent kernels at once in training (as in Wu et al. 2016,
arXiv:1609.08144, whose first layer alone attends).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.models.heads import NextStep
from memorycell.models.model import Model, ModelConfig, carried
from memorycell.nn.attention import Attention, padding
from memorycell.nn.regularise import dropout, embedding_dropout
from memorycell.state import State


class PairBatch(NamedTuple):
    """Pairs side by side, padded.

    source, source_lengths   [B, S] int64 tokens, [B]
    x, target                [B, T] int64: the target's tokens, and those that follow them (`IGNORE`
                             past the end)
    carry                    False
    """

    source: Tensor
    source_lengths: Tensor
    x: Tensor
    target: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Target tokens to learn from."""
        return int((self.target >= 0).sum())


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig(ModelConfig):
    """The sizes of a translator. `num_layers` is the encoder's; the decoder has one layer below the
    attention and one above.

    vocabulary          tokens of the target; source_vocabulary of the source, or 0 where the two
                        share one
    embedding_size      of a token's vector
    smoothing           share of the target's probability given to the other tokens (Szegedy et al.
                        2016)
    """

    vocabulary: int
    source_vocabulary: int = 0
    embedding_size: int
    embedding_dropout: float = 0.0
    smoothing: float = 0.1

    counts: ClassVar[tuple[str, ...]] = (*ModelConfig.counts, "vocabulary", "embedding_size")
    probabilities: ClassVar[tuple[str, ...]] = (
        *ModelConfig.probabilities,
        "embedding_dropout",
        "smoothing",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            not isinstance(self.source_vocabulary, int)
            or not 0 <= self.source_vocabulary <= 1_000_000
        ):
            raise ValueError(
                f"source_vocabulary: expected a whole number, got {self.source_vocabulary!r}"
            )
        if self.hidden_size % 2:
            raise ValueError(
                f"hidden_size: expected an even number, half a direction, got {self.hidden_size}"
            )


class Source(NamedTuple):
    """A batch of sources, read: memory and keys [B, S, H], beyond [B, S] bool for padding."""

    memory: Tensor
    keys: Tensor
    beyond: Tensor

    def select(self, rows: Tensor) -> Source:
        """Those of the batch rows."""
        return Source(*(part.index_select(0, rows) for part in self))


class Translator(Model[PairBatch]):
    """A sequence of tokens in, another out."""

    kind = "translator"
    config_class = TranslatorConfig
    config: TranslatorConfig

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        hidden, size = config.hidden_size, config.embedding_size
        self.embedding = nn.Embedding(config.vocabulary, size)
        self.source_embedding = (
            nn.Embedding(config.source_vocabulary, size) if config.source_vocabulary else None
        )
        for table in (self.embedding, self.source_embedding):
            if table is not None:
                nn.init.normal_(table.weight, std=size**-0.5)
        self.encoder = config.stack(size, hidden_size=hidden // 2, bidirectional=True)
        self.start = nn.Linear(hidden, 2 * hidden)
        self.lower = config.stack(size, num_layers=1)
        self.attention = Attention(hidden, hidden)
        self.upper = config.stack(2 * hidden, num_layers=1)
        self.out = nn.Linear(2 * hidden, size)
        self.head = NextStep(size, config.vocabulary, size)

    def read(self, source: Tensor, lengths: Tensor) -> tuple[Source, State]:
        """Source [B, S] int64, lengths [B] -> what the decoder looks back at, and the state it
        starts in: h and c of its two layers [2, B, H].
        """
        table = self.embedding if self.source_embedding is None else self.source_embedding
        x = self._dropped(
            F.embedding(
                source,
                embedding_dropout(table.weight, self.config.embedding_dropout, self.training),
            )
        )
        memory, _ = self.encoder(x, lengths=lengths)
        memory = self._dropped(memory)
        beyond = padding(lengths, memory.shape[1])
        mean = memory.float().masked_fill(beyond[..., None], 0).sum(1) / lengths[:, None]
        h = torch.tanh(self.start(mean)).unflatten(-1, (2, -1)).transpose(0, 1).contiguous()
        zeros = self.lower.initial_state(len(source)).asdict()
        state = State(
            **{
                name: h.float() if name == "h" else torch.zeros_like(h, dtype=torch.float32)
                for name in zeros
            }
        )
        return Source(memory, self.attention.keys(memory), beyond), state

    def write(self, x: Tensor, source: Source, state: State) -> tuple[Tensor, State, Tensor]:
        """Target tokens x [B, T] -> (scores of the tokens that follow [B, T, V], state, attention
        [B, T, S]).
        """
        table = embedding_dropout(
            self.embedding.weight, self.config.embedding_dropout, self.training
        )
        below, above = (
            State(**{name: part[k : k + 1] for name, part in state.asdict().items()})
            for k in (0, 1)
        )
        d, after_below = carried(self.lower, self._dropped(F.embedding(x, table)), below)
        context, weights = self.attention(
            self._dropped(d), source.keys, source.memory, source.beyond
        )
        u, after_above = carried(
            self.upper, torch.cat([self._dropped(d), context.to(d.dtype)], -1), above
        )
        read = torch.tanh(self.out(torch.cat([self._dropped(u), context.to(u.dtype)], -1)))
        scores = self.head(self._dropped(read), self.embedding.weight)
        after = State(
            **{name: torch.cat([after_below[name], after_above[name]]) for name in after_below}
        )
        return scores, after, weights

    def loss(self, batch: PairBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats a target token, smoothed in training."""
        scores, _, _ = self.write(batch.x, *self.read(batch.source, batch.source_lengths))
        return (
            self.head.loss(scores, batch.target, self.config.smoothing if self.training else 0.0),
            None,
        )

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)
