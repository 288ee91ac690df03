"""Translator: a bidirectional encoder of the source and a decoder of the target with attention.

    m_s        = encoder(source)                         [S, H], both directions concatenated
    d_t        = lower decoder layer(target so far)
    a_t, ctx_t = attention(d_t, m)
    u_t        = upper decoder layer([d_t, ctx_t])
    p(y_t+1)   = softmax(E · tanh(W [u_t, ctx_t]))       E: the target embedding

The context is an input of the upper layer, not of the next step, so that the recurrent kernels
process a full target at once in training (as in Wu et al. 2016, arXiv:1609.08144, where only the
first layer attends).
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
    """Padded pairs.

    source, source_lengths   [B, S] int64 token ids, [B]
    x, target                [B, T] int64: the target's token ids, and the next ones (`IGNORE` for
                             padding)
    carry                    False: no state is carried
    """

    source: Tensor
    source_lengths: Tensor
    x: Tensor
    target: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Target tokens, padding not counted."""
        return int((self.target >= 0).sum())


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig(ModelConfig):
    """The sizes of a translator. `num_layers` is that of the encoder; the decoder has one layer
    below the attention and one above.

    vocabulary          number of target tokens
    source_vocabulary   number of source tokens; 0: the languages share a vocabulary
    embedding_size      of a token
    smoothing           label smoothing (Szegedy et al. 2016)
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
        if type(self.source_vocabulary) is not int or not 0 <= self.source_vocabulary <= 1_000_000:
            raise ValueError(
                f"source_vocabulary: expected a whole number, got {self.source_vocabulary!r}"
            )
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size: expected an even number, got {self.hidden_size}")


class EncodedSource(NamedTuple):
    """A batch of encoded sources: memory and keys [B, S, H], is_padding [B, S] bool."""

    memory: Tensor
    keys: Tensor
    is_padding: Tensor

    def select(self, rows: Tensor) -> EncodedSource:
        """The given batch rows."""
        return EncodedSource(*(part.index_select(0, rows) for part in self))


class Translator(Model[PairBatch]):
    """Maps a sequence of tokens to another, without a state between calls."""

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

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[EncodedSource, State]:
        """Source [B, S] int64, lengths [B] -> (the encoded source, the decoder's initial state: h
        and c of its two layers [2, B, H]).
        """
        table = self.embedding if self.source_embedding is None else self.source_embedding
        x = self._dropout(
            F.embedding(
                source,
                embedding_dropout(table.weight, self.config.embedding_dropout, self.training),
            )
        )
        memory, _ = self.encoder(x, lengths=lengths)
        memory = self._dropout(memory)
        is_padding = padding(lengths, memory.shape[1])
        mean = memory.float().masked_fill(is_padding[..., None], 0).sum(1) / lengths[:, None]
        h = torch.tanh(self.start(mean)).unflatten(-1, (2, -1)).transpose(0, 1).contiguous()
        zeros = self.lower.initial_state(len(source)).asdict()
        state = State(
            **{
                name: h.float() if name == "h" else value.float().repeat(2, 1, 1)
                for name, value in zeros.items()
            }
        )
        return EncodedSource(memory, self.attention.keys(memory), is_padding), state

    def decode(
        self, x: Tensor, source: EncodedSource, state: State
    ) -> tuple[Tensor, State, Tensor]:
        """Target token ids x [B, T] -> (logits of the next tokens [B, T, V], state, attention [B,
        T, S]).
        """
        table = embedding_dropout(
            self.embedding.weight, self.config.embedding_dropout, self.training
        )
        lower_state, upper_state = (
            State(**{name: part[k : k + 1] for name, part in state.asdict().items()})
            for k in (0, 1)
        )
        d, after_lower = carried(self.lower, self._dropout(F.embedding(x, table)), lower_state)
        context, weights = self.attention(
            self._dropout(d), source.keys, source.memory, source.is_padding
        )
        u, after_upper = carried(
            self.upper, torch.cat([self._dropout(d), context.to(d.dtype)], -1), upper_state
        )
        features = torch.tanh(self.out(torch.cat([self._dropout(u), context.to(u.dtype)], -1)))
        logits = self.head(self._dropout(features), self.embedding.weight)
        after = State(
            **{name: torch.cat([after_lower[name], after_upper[name]]) for name in after_lower}
        )
        return logits, after, weights

    def loss(self, batch: PairBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats per target token, with label smoothing in training."""
        logits, _, _ = self.decode(batch.x, *self.encode(batch.source, batch.source_lengths))
        return (
            self.head.loss(logits, batch.target, self.config.smoothing if self.training else 0.0),
            None,
        )

    def loss_count(self, batch: PairBatch) -> int:
        """See `Model`: target tokens."""
        return batch.steps

    def _dropout(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)
