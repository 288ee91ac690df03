"""Composer = frames of keys -> recurrent stack -> the distribution of the next frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.music.codec import KEYS
from memorycell.applications.music.head import Keys, Voices
from memorycell.models.batches import PaddedBatch
from memorycell.models.model import ModelConfig, SteppedModel, carried
from memorycell.nn.attention import padding
from memorycell.nn.regularise import variational_dropout
from memorycell.state import State
from memorycell.streaming.stepping import LayerStepper, Stepper

VIEWS = ("voices", "keys")


@dataclass(frozen=True, kw_only=True)
class ComposerConfig(ModelConfig):
    """The sizes of a composer.

    view     how a frame is told: "voices" (one after another, from the highest down) or "keys"
             (each for itself)
    voices   keys that sound together at most
    noise    probability that a key of the past is heard wrong in training: sounding ones silent
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
        if self.voices > KEYS:
            raise ValueError(f"voices: {KEYS} at most, got {self.voices}")


class Composer(SteppedModel[PaddedBatch]):
    """Frames so far in, what the head reads of the next one out."""

    kind = "composer"
    config_class = ComposerConfig
    config: ComposerConfig

    def __init__(self, config: ComposerConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(KEYS)
        self.head = (Voices if config.view == "voices" else Keys)(
            config.hidden_size, KEYS, config.voices
        )

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self, x: Tensor, state: State | None = None, *, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """Frames [B, T, 88] so far (silence before the first) -> (what the head reads [B, T, H],
        state).
        """
        state = self.initial_state(len(x)) if state is None else state
        hidden, kept = carried(self.recurrent, x, state, backend=backend)
        return hidden, State(**kept)

    def nats(self, batch: PaddedBatch) -> Tensor:
        """Nats of every frame of x [B, T, 88] given those before it, [B, T]; zero in the padding."""
        frames = batch.x.float()
        past = torch.cat([torch.zeros_like(frames[:, :1]), frames[:, :-1]], 1)
        if self.training and self.config.noise:
            past = past * (torch.rand(past.shape) >= self.config.noise)
        hidden, _ = self(past)
        nats = self.head.nats(
            variational_dropout(hidden, self.config.dropout, self.training), frames
        )
        return nats.masked_fill(padding(batch.lengths, frames.shape[1]), 0)

    def loss(self, batch: PaddedBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats a frame."""
        return self.nats(batch).sum() / batch.lengths.sum(), None

    @property
    def step_size(self) -> int:
        """See `SteppedModel`."""
        return KEYS

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`: x is a frame [88], y what the head reads [H]."""
        return LayerStepper(self.recurrent, precision)

    @torch.inference_mode()
    def compose(
        self,
        count: int,
        generator: torch.Generator,
        *,
        temperature: float,
        allowed: np.ndarray,
        begin: np.ndarray | None = None,
        fixed: np.ndarray | None = None,
    ) -> np.ndarray:
        """A piece [T, 88] bool: `begin` [B, 88], then `count` frames more; or, with `fixed` [count,
        88], frames in which those keys sound and no higher ones do.
        """
        ready = self.stepper()
        ring = np.zeros((1, ready.layout.width), np.float32)
        piece = [] if begin is None else list(begin)
        hidden, _ = ready.step_one(ring, 0, np.zeros(KEYS, np.float32))
        for frame in piece:
            hidden, _ = ready.step_one(ring, 0, frame.astype(np.float32))
        keys = torch.from_numpy(allowed)
        none = torch.zeros(KEYS, dtype=torch.bool)
        for t in range(count):
            given = none if fixed is None else torch.from_numpy(fixed[t])
            may = keys
            if bool(given.any()):  # what is given is the melody: nothing sounds above it
                may = keys & (torch.arange(KEYS) < int(given.nonzero().max()))
            frame = self.head.sample(
                torch.from_numpy(hidden),
                generator,
                temperature=temperature,
                allowed=may,
                fixed=given,
            )
            piece.append(frame.numpy())
            hidden, _ = ready.step_one(ring, 0, piece[-1].astype(np.float32))
        return np.array(piece, bool).reshape(-1, KEYS)
