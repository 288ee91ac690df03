"""Transcriber = features -> recurrent stack -> the distribution of the next letter at every step
(CTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memorycell.models.batches import PaddedBatch
from memorycell.models.heads import CTC
from memorycell.models.model import ModelConfig, ScoredStepper, SteppedModel, carried
from memorycell.nn.regularise import dropout, variational_dropout
from memorycell.ops.step import LinearStep
from memorycell.signals.codec import BLANK_ID
from memorycell.state import State
from memorycell.streaming.stepping import Stepper


@dataclass(frozen=True, kw_only=True)
class TranscriberConfig(ModelConfig):
    """The sizes of a transcriber.

    input_size      features per step
    vocabulary      tokens, including the blank
    bidirectional   more accurate, but cannot run live
    """

    input_size: int
    vocabulary: int
    bidirectional: bool = False

    counts: ClassVar[tuple[str, ...]] = (*ModelConfig.counts, "input_size", "vocabulary")


class Transcriber(SteppedModel[PaddedBatch]):
    """Features in; at every step the log-probabilities of the tokens and the blank out.

    search   [2]: the language model weight and the word bonus of the lexicon search, selected on
             validation transcripts; weight -1: the search makes more errors than greedy decoding
    """

    kind, gives_log_p = "transcriber", True
    config_class = TranscriberConfig
    config: TranscriberConfig
    search: Tensor

    def __init__(self, config: TranscriberConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(config.input_size, bidirectional=config.bidirectional)
        self.head = CTC(config.hidden_size * len(self.recurrent.directions), config.vocabulary)
        self.register_buffer("search", torch.tensor([-1.0, 0.0]))

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self, x: Tensor, state: State | None = None, *, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """X [B, T, I] -> (log-probabilities [B, T, V], state). Unidirectional models only."""
        state = self.initial_state(len(x)) if state is None else state
        hidden, after = carried(self.recurrent, x, state, backend=backend)
        return self.head(hidden), State(**after)

    def transcribe(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Full sequences x [B, T, I] with lengths [B] -> log-probabilities [B, T, V]."""
        hidden, _ = self.recurrent(
            dropout(x, self.config.dropout / 4, self.training), lengths=lengths
        )
        return self.head(variational_dropout(hidden, self.config.dropout, self.training))

    def nats(self, batch: PaddedBatch) -> Tensor:
        """Negative log-likelihood of every transcript [B]."""
        return self.head.loss(self.transcribe(batch.x, batch.lengths), batch.lengths, batch.target)

    def loss(self, batch: PaddedBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats per token."""
        return self.nats(batch).sum() / (batch.target > BLANK_ID).sum().clamp(min=1), None

    def loss_count(self, batch: PaddedBatch) -> int:
        """See `Model`: tokens."""
        return int((batch.target > BLANK_ID).sum())

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: y is the log-probabilities [V] of a step."""
        score = LinearStep(self.head.linear.weight, self.head.linear.bias)
        return ScoredStepper(self.recurrent, precision, score)
