"""ScoreModel = what came before a note -> recurrent stack -> its length, then its pitch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.models.batches import PaddedBatch
from memorycell.models.model import ModelConfig, SteppedModel, carried
from memorycell.nn.attention import padding
from memorycell.nn.regularise import variational_dropout
from memorycell.state import State
from memorycell.streaming.stepping import LayerStepper, Stepper

EVENTS_PER_NOTE = 2
"""Length and pitch."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ModelConfig):
    """The configuration of a model of scores; see `ModelConfig`.

    input_size         of `ScoreCodec`
    pitches, lengths   ids of each
    noise              probability that a value of the input is set to zero in training
    """

    input_size: int
    pitches: int
    lengths: int
    noise: float = 0.0

    counts: ClassVar[tuple[str, ...]] = (
        *ModelConfig.counts,
        "input_size",
        "pitches",
        "lengths",
    )
    probabilities: ClassVar[tuple[str, ...]] = (*ModelConfig.probabilities, "noise")


class NoteHead(nn.Module):
    """p(note) = p(length | h) p(pitch | h, length, whether the piece ends with the note).

    A length says whether a phrase ends with the note, so a cadence knows that it is one.
    """

    def __init__(self, size: int, pitches: int, lengths: int) -> None:
        super().__init__()
        self.length = nn.Linear(size, lengths)
        self.inner = nn.Linear(size, size)
        self.of_length = nn.Embedding(lengths, size)
        self.of_last = nn.Embedding(2, size)
        for embedding in (self.of_length, self.of_last):
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        self.pitch = nn.Linear(size, pitches)

    def pitch_scores(self, hidden: Tensor, length: Tensor, last: Tensor) -> Tensor:
        """Logits [..., P] given hidden [..., H], length ids [...] and whether a note is the last of
        its voice [...] (0 or 1).
        """
        context = self.inner(hidden) + self.of_length(length) + self.of_last(last)
        scores: Tensor = self.pitch(torch.tanh(context))
        return scores

    def nats(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Negative log-likelihoods [..., 2] of length and pitch, given hidden [..., H] and ids
        [..., 3]; see `ScoreCodec.encode`.
        """
        length, last, pitch = ids.unbind(-1)
        scores = self.length(hidden), self.pitch_scores(hidden, length, last)
        parts = [
            F.cross_entropy(s.float().flatten(0, -2), target.flatten(), reduction="none")
            for s, target in zip(scores, (length, pitch), strict=True)
        ]
        return torch.stack(parts, -1).view(*length.shape, EVENTS_PER_NOTE)


class ScoreModel(SteppedModel[PaddedBatch]):
    """Predicts each note of a score from the notes before it."""

    kind = "score"
    config_class = ScoreConfig
    config: ScoreConfig

    def __init__(self, config: ScoreConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(config.input_size)
        self.head = NoteHead(config.hidden_size, config.pitches, config.lengths)

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self, x: Tensor, state: State | None = None, *, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """Inputs [B, T, I] -> (hidden [B, T, H] for the head, state)."""
        state = self.initial_state(len(x)) if state is None else state
        hidden, final = carried(self.recurrent, x, state, backend=backend)
        return hidden, State(**final)

    def nats(self, batch: PaddedBatch) -> Tensor:
        """Negative log-likelihoods [B, T, 2] of lengths and pitches; 0 in the padding."""
        x = batch.x
        if self.training and self.config.noise:
            x = x * (torch.rand(x.shape, device=x.device) >= self.config.noise)
        hidden, _ = self(x)
        hidden = variational_dropout(hidden, self.config.dropout, self.training)
        nats = self.head.nats(hidden, batch.target)
        return nats.masked_fill(padding(batch.lengths, x.shape[1])[..., None], 0)

    def loss(self, batch: PaddedBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats per event."""
        return self.nats(batch).sum() / (EVENTS_PER_NOTE * batch.lengths.sum()), None

    def loss_count(self, batch: PaddedBatch) -> int:
        """See `Model`: notes."""
        return batch.steps

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: y is the hidden state [H] for the head."""
        return LayerStepper(self.recurrent, precision)

    def random_inputs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """See `Model`: about as many ones as in an input."""
        return (rng.random(shape) < 0.05).astype(np.float32)
