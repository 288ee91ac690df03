"""Transcriber = features -> recurrent stack -> the distribution of the next letter at every step
(CTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from memorycell.models.batches import PaddedBatch
from memorycell.models.heads import CTC
from memorycell.models.model import ModelConfig, ScoredStepper, SteppedModel, carried
from memorycell.nn.regularise import dropout, variational_dropout
from memorycell.ops.step import LinearStep
from memorycell.state import State
from memorycell.streaming.stepping import Stepper


@dataclass(frozen=True, kw_only=True)
class TranscriberConfig(ModelConfig):
    """The sizes of a transcriber.

    input_size      features a step
    vocabulary      letters, the blank included
    bidirectional   read both ways: better, but not live
    """

    input_size: int
    vocabulary: int
    bidirectional: bool = False

    counts: ClassVar[tuple[str, ...]] = (*ModelConfig.counts, "input_size", "vocabulary")


class Transcriber(SteppedModel[PaddedBatch]):
    """A sequence of features in, at every step the log-probabilities of a letter or of nothing new
    out.

    search   [2]: how much the language model counts in a search, and what every word earns; set on
             validation texts, -1 where a search among the words of training makes more errors than
             none
    """

    kind = "transcriber"
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
        """X [B, T, I] -> (log-probabilities [B, T, V], state). Only for a model that reads one way."""
        state = self.initial_state(len(x)) if state is None else state
        hidden, kept = carried(self.recurrent, x, state, backend=backend)
        return self.head(hidden), State(**kept)

    def transcribe(self, x: Tensor, lengths: Tensor) -> Tensor:
        """X [B, T, I] with lengths [B] -> log-probabilities [B, T, V], of whole sequences."""
        hidden, _ = self.recurrent(
            dropout(x, self.config.dropout / 4, self.training), lengths=lengths
        )
        return self.head(variational_dropout(hidden, self.config.dropout, self.training))

    def nats(self, batch: PaddedBatch) -> Tensor:
        """Nats of every text [B]."""
        return self.head.loss(self.transcribe(batch.x, batch.lengths), batch.lengths, batch.target)

    def loss(self, batch: PaddedBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats a letter."""
        return self.nats(batch).sum() / (batch.target > 0).sum().clamp(min=1), None

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: y is the log-probabilities [V] at a step."""
        score = LinearStep(self.head.linear.weight, self.head.linear.bias)
        return ScoredStepper(self.recurrent, precision, score)
