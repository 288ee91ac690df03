"""The next move of a pen, as a mixture of Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mixture(nn.Module):
    """The distribution of the pen's next move (dx, dy) and of what the pen does then: M Gaussians
    of two dimensions,

        p(dx, dy) = Σ_m π_m N(dx, dy; μ_m, σ_m, ρ_m),

    and a softmax over the pen's doings. Graves (2013), Generating sequences with recurrent neural
    networks, arXiv:1308.0850, sections 4.1 and 5.4.
    """

    def __init__(self, size: int, mixtures: int, pens: int) -> None:
        super().__init__()
        self.mixtures = mixtures
        self.linear = nn.Linear(size, 6 * mixtures + pens)

    def forward(
        self, hidden: Tensor, bias: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Hidden [..., H] -> (log π [..., M], μ [..., M, 2], log σ [..., M, 2], ρ [..., M], log p
        of the pen [..., P]).

        bias   above 0, the likelier is taken: deviations times exp(-bias), log π times 1 + bias
               (Graves, section 5.4)
        """
        out = self.linear(hidden).float()
        m = self.mixtures
        weight = F.log_softmax(out[..., :m] * (1 + bias), -1)
        mean = out[..., m : 3 * m].unflatten(-1, (m, 2))
        spread = out[..., 3 * m : 5 * m].clamp(-7, 7).unflatten(-1, (m, 2)) - bias
        slope = 0.98 * torch.tanh(out[..., 5 * m : 6 * m])
        return weight, mean, spread, slope, F.log_softmax(out[..., 6 * m :] * (1 + bias), -1)

    def log_likelihood(self, hidden: Tensor, move: Tensor, pen: Tensor) -> tuple[Tensor, Tensor]:
        """Of move [..., 2] and pen [...] int64, given hidden [..., H]: nats of each, [...]."""
        weight, mean, spread, slope, doing = self(hidden)
        z = (move[..., None, :] - mean) / spread.exp()
        room = 1 - slope**2
        square = (z**2).sum(-1) - 2 * slope * z.prod(-1)
        log_p = (
            -square / (2 * room) - spread.sum(-1) - 0.5 * torch.log(room) - math.log(2 * math.pi)
        )
        return torch.logsumexp(weight + log_p, -1), doing.gather(-1, pen[..., None])[..., 0]
