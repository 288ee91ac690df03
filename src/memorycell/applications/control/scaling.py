"""Scaling of observations by their running mean and standard deviation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

MIN_STD = 1e-2
"""An observation that hardly changes is not magnified more than this."""


class Scaling(nn.Module):
    """z = (x - mean) / std for observations x [..., I].

    mean, std   [I]; 0 and 1 before the first `update`
    rewards     the standard deviation of the discounted return, by which training divides rewards
    count       steps seen
    """

    mean: Tensor
    std: Tensor
    rewards: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("rewards", torch.ones(()))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return (x - self.mean) / self.std

    @torch.no_grad()
    def update(self, observations: np.ndarray, returns: np.ndarray) -> None:
        """Include observations [N, I] and discounted returns [N] so far, weighted by their number
        (Chan, Golub & LeVeque 1983).
        """
        before, added = float(self.count), len(observations)
        share = added / (before + added)
        mean, std = observations.mean(0, np.float64), observations.std(0, dtype=np.float64)
        old_mean, old_std = self.mean.double().cpu().numpy(), self.std.double().cpu().numpy()
        if before == 0:
            old_std = np.zeros_like(old_std)
        variance = (1 - share) * old_std**2 + share * std**2
        variance += share * (1 - share) * (mean - old_mean) ** 2
        self.mean.copy_(torch.from_numpy(old_mean + share * (mean - old_mean)))
        self.std.copy_(torch.from_numpy(np.maximum(np.sqrt(variance), MIN_STD)))
        spread = float(np.sqrt(np.mean(returns**2)))
        reward = spread if before == 0 else (1 - share) * float(self.rewards) + share * spread
        self.rewards.fill_(max(reward, 1e-4))
        self.count.fill_(before + added)
