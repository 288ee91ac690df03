"""Writer = moves of a pen -> lower recurrent layer -> a window over what is to be drawn -> upper
layer -> the next move.

Graves (2013), Generating sequences with recurrent neural networks, arXiv:1308.0850, section 5.
There the lower layer also sees the window; here only the upper one does, so that whole drawings run
through the recurrent kernels at once. What the lower one sees of the signs is their mean; the upper
one is also told how many are left, so that it knows when to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.drawing.codec import END
from memorycell.applications.drawing.head import Mixture
from memorycell.models.model import Model, ModelConfig, carried
from memorycell.nn.attention import padding
from memorycell.nn.regularise import variational_dropout
from memorycell.state import State

PENS = 3
FEATURES = 2 + PENS + 2
"""A move, what the pen did, and where it is."""


@dataclass(frozen=True, kw_only=True)
class WriterConfig(ModelConfig):
    """The sizes of a writer.

    signs            that can be drawn
    embedding_size   of a sign's vector
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


class Drawn(NamedTuple):
    """Drawings side by side, padded.

    moves     [B, T, 3] float32: dx, dy, pen; lengths [B]
    signs     [B, U] int64, what is drawn, filled up with -1
    carry     False: nothing goes from one batch to the next
    """

    moves: Tensor
    lengths: Tensor
    signs: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Moves, padding not counted."""
        return int(self.lengths.sum())


class Writer(Model[Drawn]):
    """The moves so far and the signs to draw in, the distribution of the next move out."""

    kind = "writer"
    config_class = WriterConfig
    config: WriterConfig

    def __init__(self, config: WriterConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.signs, config.embedding_size)
        self.lower = config.stack(FEATURES + config.embedding_size, num_layers=1)
        self.window = nn.Linear(config.hidden_size, 3 * config.windows)
        self.upper = config.stack(
            config.hidden_size + FEATURES + config.embedding_size + 1, num_layers=1
        )
        self.head = Mixture(2 * config.hidden_size, config.mixtures, PENS)
        with torch.no_grad():
            self.window.bias[2 * config.windows :] = -3.0  # the window goes on slowly at first

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h and c of both layers, how far the window has come, and where the pen is."""
        lower = self.lower.initial_state(batch_size).asdict()
        upper = {
            f"upper_{name}": value
            for name, value in self.upper.initial_state(batch_size).asdict().items()
        }
        zeros = lower["h"].new_zeros
        return State(
            **lower,
            **upper,
            at=zeros(1, batch_size, self.config.windows),
            place=zeros(1, batch_size, 2),
        )

    def forward(
        self, moves: Tensor, signs: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Moves [B, T, 3] so far (zeros before the first), signs [B, U] (-1: none) -> (what the
        head reads [B, T, 2 H], state).
        """
        held = (self.initial_state(len(moves)) if state is None else state).asdict()
        place = held["place"][0][:, None] + moves[..., :2].cumsum(1)
        pen = F.one_hot(moves[..., 2].long(), PENS).to(moves.dtype)
        x = torch.cat([moves[..., :2], pen, 0.2 * place], -1)
        there = (signs >= 0).to(x.dtype)
        vectors = self.embedding(signs.clamp(min=0)) * there[..., None]
        mean = (vectors.sum(1) / there.sum(1, keepdim=True))[:, None].expand(-1, x.shape[1], -1)
        low, kept = carried(self.lower, torch.cat([x, mean], -1), _part(held, ""))
        weight, width, step = (
            self.window(low).float().exp().clamp(max=1e4).chunk(3, -1)
        )  # [B, T, K]
        at = held["at"][0][:, None] + step.cumsum(1)
        far = at[..., None] - torch.arange(signs.shape[1], device=at.device) - 0.5  # [B, T, K, U]
        look = (
            (weight[..., None] * torch.exp(-width[..., None] * far**2))
            .sum(2)
            .masked_fill((signs < 0)[:, None], 0)
        )
        look = look / (look.sum(-1, keepdim=True) + 1e-6)
        left = (there.sum(1)[:, None, None] - at.mean(-1, keepdim=True)).clamp(-2, 4)
        beside = torch.cat([x, look @ vectors, left], -1).to(low.dtype)
        high, above = carried(self.upper, torch.cat([low, beside], -1), _part(held, "upper_"))
        after = {**kept, **{f"upper_{name}": value for name, value in above.items()}}
        out = torch.cat([low, high], -1)
        return out, State(**after, at=at[None, :, -1], place=place[None, :, -1])

    def nats(self, batch: Drawn) -> tuple[Tensor, Tensor]:
        """Nats of every move and of what the pen does then, each [B, T], zero in the padding."""
        begin = torch.zeros_like(batch.moves[:, :1])
        begin[..., 2] = 1  # the pen is up
        hidden, _ = self(torch.cat([begin, batch.moves[:, :-1]], 1), batch.signs)
        hidden = variational_dropout(hidden, self.config.dropout, self.training)
        move, pen = self.head.log_likelihood(
            hidden, batch.moves[..., :2], batch.moves[..., 2].long()
        )
        beyond = padding(batch.lengths, batch.moves.shape[1])
        return -move.masked_fill(beyond, 0), -pen.masked_fill(beyond, 0)

    def loss(self, batch: Drawn, state: State | None) -> tuple[Tensor, None]:
        """Nats a point."""
        move, pen = self.nats(batch)
        return (move.sum() + pen.sum()) / batch.lengths.sum(), None

    @torch.inference_mode()
    def draw(
        self,
        signs: Tensor,
        *,
        bias: float,
        most: int,
        generator: torch.Generator,
        before: Tensor | None = None,
    ) -> Tensor:
        """Signs [U] -> moves [T, 3] of a drawing of them; `before` [T, 3] are moves of another hand
        that it goes on from, whose signs stand first; they are not given back. It ends where the
        pen ends, or after `most` moves.
        """
        self.eval()
        state = self.initial_state()
        moves = [torch.tensor([[0.0, 0.0, 1.0]])]
        if before is not None:
            primed = before.clone()
            primed[-1, 2] = 1  # it does not end there
            moves = [torch.cat([moves[0], primed])]
        last, drawn = moves[0][None], []
        for _ in range(most):
            hidden, state = self(last, signs[None], state)
            weight, mean, spread, slope, pen = self.head(hidden[0, -1], bias)
            m = int(torch.multinomial(weight.exp(), 1, generator=generator))
            z = torch.randn(2, generator=generator)
            second = slope[m] * z[0] + torch.sqrt(1 - slope[m] ** 2) * z[1]
            move = mean[m] + spread[m].exp() * torch.stack([z[0], second])
            doing = int(torch.multinomial(pen.exp(), 1, generator=generator))
            last = torch.cat([move, torch.tensor([float(doing)])])[None, None]
            drawn.append(last[0, 0])
            if doing == END:
                break
        return torch.stack(drawn)


def _part(held: dict[str, Tensor], prefix: str) -> State:
    return State(**{name: held[prefix + name] for name in ("h", "c") if prefix + name in held})
