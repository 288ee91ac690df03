"""The distribution of the next move of a pen."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_LOG_STD = 7
MAX_CORRELATION = 0.98


class MoveParams(NamedTuple):
    """The parameters of the distribution of a move and the pen.

    log_weight    [..., M] log π
    mean          [..., M, 2] μ
    log_std       [..., M, 2] log σ
    correlation   [..., M] ρ
    log_pen       [..., P] log-probabilities of the pen
    """

    log_weight: Tensor
    mean: Tensor
    log_std: Tensor
    correlation: Tensor
    log_pen: Tensor

    def sample(self, u: Tensor) -> Tensor:
        """Moves and pens [..., 3] from u [..., 4] random numbers, uniform in 0 … 1: one of the
        Gaussians, two normal deviates (Box & Muller 1958), and the pen.
        """
        m = _choice(self.log_weight, u[..., 0])
        at = m[..., None, None].expand(*m.shape, 1, 2)
        mean = self.mean.gather(-2, at)[..., 0, :]
        std = self.log_std.gather(-2, at)[..., 0, :].exp()
        rho = self.correlation.gather(-1, m[..., None])[..., 0]
        radius = torch.sqrt(-2 * torch.log1p(-u[..., 1]))
        x = radius * torch.cos(2 * math.pi * u[..., 2])
        y = radius * torch.sin(2 * math.pi * u[..., 2])
        z = torch.stack([x, rho * x + torch.sqrt(1 - rho**2) * y], -1)
        pen = _choice(self.log_pen, u[..., 3])
        return torch.cat([mean + std * z, pen[..., None].to(z.dtype)], -1)


def _choice(log_p: Tensor, u: Tensor) -> Tensor:
    """A class [...] drawn with log_p [..., M] by u [...], uniform in 0 … 1."""
    cumulative = log_p.exp().cumsum(-1)
    below = (cumulative < u[..., None] * cumulative[..., -1:]).sum(-1)
    return below.clamp(max=log_p.shape[-1] - 1)


class Mixture(nn.Module):
    """The distribution of a move (dx, dy) and of the pen after it: a mixture of M two-dimensional
    Gaussians,

        p(dx, dy) = Σ_m π_m N(dx, dy; μ_m, σ_m, ρ_m),

    and a softmax over the P states of the pen. Graves (2013), Generating sequences with recurrent
    neural networks, arXiv:1308.0850, sections 4.1 and 5.4.
    """

    def __init__(self, size: int, mixtures: int, pens: int) -> None:
        super().__init__()
        self.mixtures = mixtures
        self.linear = nn.Linear(size, 6 * mixtures + pens)

    def forward(self, hidden: Tensor, bias: float = 0.0) -> MoveParams:
        """The parameters given hidden [..., H].

        bias   above 0 likely moves become likelier: σ is multiplied by exp(-bias), log π by 1 +
               bias (Graves, section 5.4); so is that of the pen, without which strokes end too
               early
        """
        out = self.linear(hidden).float()
        m = self.mixtures
        log_std = out[..., 3 * m : 5 * m].clamp(-MAX_LOG_STD, MAX_LOG_STD).unflatten(-1, (m, 2))
        return MoveParams(
            log_weight=F.log_softmax(out[..., :m] * (1 + bias), -1),
            mean=out[..., m : 3 * m].unflatten(-1, (m, 2)),
            log_std=log_std - bias,
            correlation=MAX_CORRELATION * torch.tanh(out[..., 5 * m : 6 * m]),
            log_pen=F.log_softmax(out[..., 6 * m :] * (1 + bias), -1),
        )

    def log_likelihood(self, hidden: Tensor, move: Tensor, pen: Tensor) -> tuple[Tensor, Tensor]:
        """(log-likelihood of the move, of the pen) [...] for move [..., 2] and pen [...] int64,
        given hidden [..., H].
        """
        params = self(hidden)
        z = (move[..., None, :] - params.mean) / params.log_std.exp()
        determinant = 1 - params.correlation**2
        square = (z**2).sum(-1) - 2 * params.correlation * z.prod(-1)
        log_p = (
            -square / (2 * determinant)
            - params.log_std.sum(-1)
            - 0.5 * torch.log(determinant)
            - math.log(2 * math.pi)
        )
        log_move = torch.logsumexp(params.log_weight + log_p, -1)
        return log_move, params.log_pen.gather(-1, pen[..., None])[..., 0]
