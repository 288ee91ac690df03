"""Writer = moves of a pen -> lower recurrent layer -> window over the signs to draw -> upper
recurrent layer -> the distribution of the next move.

Graves (2013), Generating sequences with recurrent neural networks, arXiv:1308.0850, section 5. In
the paper the lower layer also reads the window. Here only the upper layer does, so that complete
drawings run through the recurrent kernels at once. The lower layer reads the mean embedding of the
signs; the upper layer also reads how many signs are left, so that it knows when to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.drawing.codec import PEN_END, PEN_UP
from memorycell.applications.drawing.head import Mixture
from memorycell.cells import STATE_NAMES
from memorycell.models.model import Model, ModelConfig, carried
from memorycell.nn.attention import padding
from memorycell.nn.regularise import variational_dropout
from memorycell.state import State

NUM_PENS = 3
NUM_FEATURES = 2 + NUM_PENS + 2
"""A move, the pen, and its position."""
POSITION_SCALE = 0.2
NO_SIGN = -1
"""Padding of signs."""
INITIAL_LOG_STEP = -3.0
"""The window moves slowly at first."""
MAX_WINDOW_PARAM = 1e4


@dataclass(frozen=True, kw_only=True)
class WriterConfig(ModelConfig):
    """The configuration of a writer; see `ModelConfig`.

    signs            number of signs
    embedding_size   of a sign
    windows          Gaussians of the window over the signs
    mixtures         Gaussians of the next move
    """

    signs: int
    embedding_size: int = 32
    windows: int = 4
    mixtures: int = 12

    counts: ClassVar[tuple[str, ...]] = (
        *ModelConfig.counts,
        "signs",
        "embedding_size",
        "windows",
        "mixtures",
    )


class DrawingBatch(NamedTuple):
    """Padded drawings.

    moves     [B, T, 3] float32: dx, dy, pen
    lengths   [B] int64
    signs     [B, U] int64, padded with `NO_SIGN`
    carry     False: no state is carried
    """

    moves: Tensor
    lengths: Tensor
    signs: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Moves, padding not counted."""
        return int(self.lengths.sum())


class Writer(Model[DrawingBatch]):
    """Predicts the distribution of the next move from the moves so far and the signs to draw."""

    kind = "writer"
    config_class = WriterConfig
    config: WriterConfig

    def __init__(self, config: WriterConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.signs, config.embedding_size)
        self.lower = config.stack(NUM_FEATURES + config.embedding_size, num_layers=1)
        self.window = nn.Linear(config.hidden_size, 3 * config.windows)
        self.upper = config.stack(
            config.hidden_size + NUM_FEATURES + config.embedding_size + 1, num_layers=1
        )
        self.head = Mixture(2 * config.hidden_size, config.mixtures, NUM_PENS)
        with torch.no_grad():
            self.window.bias[2 * config.windows :] = INITIAL_LOG_STEP

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h and c of both layers, `at` for the window and `place` for the pen."""
        lower = self.lower.initial_state(batch_size).asdict()
        upper = self.upper.initial_state(batch_size).asdict()
        zeros = lower["h"].new_zeros
        return State(
            **lower,
            **{f"upper_{name}": value for name, value in upper.items()},
            at=zeros(1, batch_size, self.config.windows),
            place=zeros(1, batch_size, 2),
        )

    def forward(
        self, moves: Tensor, signs: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Moves [B, T, 3] so far, the first one zeros; signs [B, U] -> (hidden [B, T, 2 H] for the
        head, state).
        """
        before = (self.initial_state(len(moves)) if state is None else state).asdict()
        position = before["place"][0][:, None] + moves[..., :2].cumsum(1)
        pen = F.one_hot(moves[..., 2].long(), NUM_PENS).to(moves.dtype)
        x = torch.cat([moves[..., :2], pen, POSITION_SCALE * position], -1)
        known = (signs != NO_SIGN).to(x.dtype)
        vectors = self.embedding(signs.clamp(min=0)) * known[..., None]
        count = known.sum(1, keepdim=True)
        mean = (vectors.sum(1) / count)[:, None].expand(-1, x.shape[1], -1)
        low, lower = carried(self.lower, torch.cat([x, mean], -1), _layer_state(before, ""))
        weights, centres = self._attend(low, before["at"][0], signs)
        remaining = (count[:, None] - centres.mean(-1, keepdim=True)).clamp(-2, 4)
        read = torch.cat([low, x, weights @ vectors, remaining], -1).to(low.dtype)
        high, upper = carried(self.upper, read, _layer_state(before, "upper_"))
        return torch.cat([low, high], -1), State(
            **lower,
            **{f"upper_{name}": value for name, value in upper.items()},
            at=centres[None, :, -1],
            place=position[None, :, -1],
        )

    def _attend(self, low: Tensor, centres: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
        """(weights [B, T, U] of the signs, which sum to 1; centres [B, T, K] of the window), given
        the lower layer's output [B, T, H] and the centres [B, K] before it.
        """
        params = self.window(low).float().exp().clamp(max=MAX_WINDOW_PARAM)
        height, width, step = params.chunk(3, -1)
        centres = centres[:, None] + step.cumsum(1)
        places = torch.arange(signs.shape[1], device=low.device)
        distance = centres[..., None] - places - 0.5  # [B, T, K, U]
        weights = (height[..., None] * torch.exp(-width[..., None] * distance**2)).sum(2)
        weights = weights.masked_fill((signs == NO_SIGN)[:, None], 0)
        return weights / (weights.sum(-1, keepdim=True) + 1e-6), centres

    def nats(self, batch: DrawingBatch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihoods of the moves and of the pen, each [B, T]; 0 in the padding."""
        start = torch.zeros_like(batch.moves[:, :1])
        start[..., 2] = PEN_UP
        hidden, _ = self(torch.cat([start, batch.moves[:, :-1]], 1), batch.signs)
        hidden = variational_dropout(hidden, self.config.dropout, self.training)
        move, pen = self.head.log_likelihood(
            hidden, batch.moves[..., :2], batch.moves[..., 2].long()
        )
        padded = padding(batch.lengths, batch.moves.shape[1])
        return -move.masked_fill(padded, 0), -pen.masked_fill(padded, 0)

    def loss(self, batch: DrawingBatch, state: State | None) -> tuple[Tensor, None]:
        """Nats per point."""
        move, pen = self.nats(batch)
        return (move.sum() + pen.sum()) / batch.lengths.sum(), None

    def loss_count(self, batch: DrawingBatch) -> int:
        """See `Model`: points."""
        return batch.steps

    @torch.inference_mode()
    def draw(
        self, signs: Tensor, u: Tensor, *, bias: float, prompt: Tensor | None = None
    ) -> list[Tensor]:
        """Sample B drawings of signs [U]: their moves [T, 3] each, until the pen ends the drawing,
        at most N.

        u        [B, N, 4] random numbers, uniform in 0 … 1: a drawing depends on its own alone
        bias     see `Mixture`
        prompt   moves [T, 3] in the style to draw in, whose signs precede the others in `signs`;
                 not part of the result
        """
        self.eval()
        count, longest, _ = u.shape
        read = torch.zeros(count, 1, 3)
        read[..., 2] = PEN_UP
        if prompt is not None:
            read = torch.cat([read, prompt.expand(count, -1, -1)], 1)
            read[:, -1, 2] = PEN_UP  # the drawing does not end there
        signs, state = signs.expand(count, -1), self.initial_state(count)
        moves: list[Tensor] = []
        ended = torch.zeros(count, dtype=torch.bool)
        for step in range(longest):
            hidden, state = self(read, signs, state)
            read = self.head(hidden[:, -1:], bias).sample(u[:, step, None])
            moves.append(read)
            ended |= read[:, 0, 2] == PEN_END
            if ended.all():
                break
        drawn = torch.cat(moves, 1)
        ends = (drawn[..., 2] == PEN_END).long()
        lengths = torch.where(ended, ends.argmax(1) + 1, drawn.shape[1])
        return [one[:length] for one, length in zip(drawn, lengths.tolist(), strict=True)]


def _layer_state(state: Mapping[str, Tensor], prefix: str) -> State:
    return State(**{name: state[prefix + name] for name in STATE_NAMES if prefix + name in state})
