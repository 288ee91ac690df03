"""Composer = frames -> recurrent stack -> the distribution of the next frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.music.head import Keys, Voices
from memorycell.applications.music.pitches import NUM_KEYS
from memorycell.models.batches import PaddedBatch
from memorycell.models.model import ModelConfig, SteppedModel, carried
from memorycell.nn.attention import padding
from memorycell.nn.regularise import variational_dropout
from memorycell.state import State
from memorycell.streaming.stepping import LayerStepper, Stepper

HEADS: dict[str, type[Voices | Keys]] = {"voices": Voices, "keys": Keys}
VIEWS = tuple(HEADS)


@dataclass(frozen=True, kw_only=True)
class ComposerConfig(ModelConfig):
    """The configuration of a composer; see `ModelConfig`.

    view     the head: "voices" (`Voices`) or "keys" (`Keys`)
    voices   maximum number of keys that sound together
    noise    probability that a sounding key of the past is silenced in training
    """

    view: str = "voices"
    voices: int = 4
    noise: float = 0.0

    counts: ClassVar[tuple[str, ...]] = (*ModelConfig.counts, "voices")
    probabilities: ClassVar[tuple[str, ...]] = (*ModelConfig.probabilities, "noise")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.view not in VIEWS:
            raise ValueError(f"view: expected {', '.join(VIEWS)}, got {self.view!r}")
        if self.voices > NUM_KEYS:
            raise ValueError(f"voices: expected at most {NUM_KEYS}, got {self.voices}")


class Composer(SteppedModel[PaddedBatch]):
    """Predicts the distribution of the next frame from the frames so far."""

    kind = "composer"
    config_class = ComposerConfig
    config: ComposerConfig
    head: Voices | Keys

    def __init__(self, config: ComposerConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(NUM_KEYS)
        self.head = HEADS[config.view](config.hidden_size, NUM_KEYS, config.voices)

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self, x: Tensor, state: State | None = None, *, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """Frames [B, T, 88], the first one silent -> (hidden [B, T, H] for the head, state)."""
        state = self.initial_state(len(x)) if state is None else state
        hidden, final = carried(self.recurrent, x, state, backend=backend)
        return hidden, State(**final)

    def nats(self, batch: PaddedBatch) -> Tensor:
        """Negative log-likelihoods [B, T] of the frames x [B, T, 88], each given those before it; 0
        in the padding.
        """
        frames = batch.x.float()
        past = torch.cat([torch.zeros_like(frames[:, :1]), frames[:, :-1]], 1)
        if self.training and self.config.noise:
            past = past * (torch.rand(past.shape, device=past.device) >= self.config.noise)
        hidden, _ = self(past)
        hidden = variational_dropout(hidden, self.config.dropout, self.training)
        nats = self.head.nats(hidden, frames)
        return nats.masked_fill(padding(batch.lengths, frames.shape[1]), 0)

    def loss(self, batch: PaddedBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats per frame."""
        return self.nats(batch).sum() / batch.lengths.sum(), None

    def loss_count(self, batch: PaddedBatch) -> int:
        """See `Model`: frames."""
        return batch.steps

    @property
    def step_size(self) -> int:
        """See `SteppedModel`."""
        return NUM_KEYS

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: x is a frame [88], y the hidden state [H] for the head."""
        return LayerStepper(self.recurrent, precision)

    @torch.inference_mode()
    def compose(
        self,
        count: int,
        generator: torch.Generator,
        *,
        temperature: float,
        allowed: np.ndarray,
        prompt: np.ndarray | None = None,
        melody: np.ndarray | None = None,
    ) -> np.ndarray:
        """Sample a piece [T, 88] bool of `count` frames.

        allowed   [88] bool: the keys to sample from
        prompt    [B, 88] bool: frames that the piece begins with, in addition
        melody    [count, 88] bool: keys that sound, above all others
        """
        stepper = self.stepper()
        state = np.zeros((1, stepper.layout.width), np.float32)
        piece = [] if prompt is None else list(prompt)
        hidden, _ = stepper.step_one(state, 0, np.zeros(NUM_KEYS, np.float32))
        for frame in piece:
            hidden, _ = stepper.step_one(state, 0, frame.astype(np.float32))
        silent = np.zeros(NUM_KEYS, bool)
        for t in range(count):
            fixed = silent if melody is None else melody[t]
            candidates = allowed
            if fixed.any():
                candidates = allowed & (np.arange(NUM_KEYS) < np.flatnonzero(fixed).max())
            frame = self.head.sample(
                torch.from_numpy(hidden),
                generator,
                temperature=temperature,
                allowed=torch.from_numpy(candidates),
                fixed=torch.from_numpy(fixed),
            ).numpy()
            piece.append(frame)
            hidden, _ = stepper.step_one(state, 0, frame.astype(np.float32))
        return np.array(piece, bool).reshape(-1, NUM_KEYS)
