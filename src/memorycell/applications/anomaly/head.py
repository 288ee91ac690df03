"""The predicted distribution of the next row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.ops.step import LinearStep

STUDENT_T_DF = 5.0
"""Degrees of freedom ν. The heavy tails keep single outliers from dominating training."""
MIN_LOG_SCALE = -5.0
"""Lower bound of log σ: a column that is constant for a while may change again."""


class NextRow(nn.Module):
    """Predicts each number of the next row as Student's t and each category as a softmax:

        z_j ~ t_ν(μ_j, σ_j),   μ_j = Σ_w a_jw z_{j, t-w} + (A h)_j,   log σ_j = (B h)_j
        p(category) = softmax(C h)

    The last W values of a column enter its own mean directly, so that slow drift is tracked and the
    recurrent part models the rest.
    """

    def __init__(self, hidden_size: int, columns: int, sizes: Sequence[int], window: int) -> None:
        super().__init__()
        self.columns, self.sizes = columns, tuple(sizes)
        self.recurrent = nn.Linear(hidden_size, 2 * columns + sum(sizes))
        self.own = nn.Parameter(torch.zeros(columns, window))
        nn.init.zeros_(self.recurrent.weight)
        nn.init.zeros_(self.recurrent.bias)
        with torch.no_grad():
            self.own[:, -1] = 0.5

    def forward(self, hidden: Tensor, window: Tensor) -> Tensor:
        """Hidden [B, T, H], window [B, T, W, K] of z-scores -> y [B, T, 2 K + V]: μ, log σ and the
        log-probabilities of the categories.
        """
        out = self.recurrent(hidden).float()
        k = self.columns
        mean = out[..., :k] + (window * self.own.T).sum(-2)
        log_scale = out[..., k : 2 * k].clamp(min=MIN_LOG_SCALE)
        logits = out[..., 2 * k :].split(self.sizes, -1) if self.sizes else ()
        return torch.cat([mean, log_scale, *(F.log_softmax(x, -1) for x in logits)], -1)

    def nats(self, y: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood [..., K + C] of target [..., K + C]: z-scores, then category ids,
        NaN where missing; 0 there.
        """
        k, v = self.columns, STUDENT_T_DF
        known = ~target.isnan()
        target = target.nan_to_num()
        u = (target[..., :k] - y[..., :k]) * torch.exp(-y[..., k : 2 * k])
        constant = math.lgamma(v / 2) - math.lgamma((v + 1) / 2) + 0.5 * math.log(v * math.pi)
        parts = [0.5 * (v + 1) * torch.log1p(u**2 / v) + y[..., k : 2 * k] + constant]
        for log_p, choice in zip(
            y[..., 2 * k :].split(self.sizes, -1) if self.sizes else (),
            target[..., k:].unbind(-1),
            strict=True,
        ):
            parts.append(-log_p.gather(-1, choice.long()[..., None]))
        return torch.where(known, torch.cat(parts, -1), 0.0)


def mean_rows(y: Sequence[Tensor], columns: int, sizes: Sequence[int]) -> Tensor:
    """The outputs [..., 2 K + V] of several `NextRow` as one: Student's t with the mean and the
    variance of their mixture, and the logarithm of the mean probability of each category.
    """
    if len(y) == 1:
        return y[0]
    means = torch.stack([one[..., :columns] for one in y])
    squares = torch.stack([one[..., columns : 2 * columns] for one in y]).mul(2).exp()
    mean = means.mean(0)
    # The variance of Student's t is σ² ν / (ν - 2).
    between = (means - mean).square().mean(0) * (1 - 2 / STUDENT_T_DF)
    log_scale = 0.5 * torch.log(squares.mean(0) + between)
    log_p = torch.logsumexp(torch.stack([one[..., 2 * columns :] for one in y]), 0)
    return torch.cat([mean, log_scale, log_p - math.log(len(y))], -1)


class NextRowStep:
    """`NextRow.forward` for single steps in numpy. The hidden state and the window are multiplied
    by one combined matrix.
    """

    def __init__(self, head: NextRow) -> None:
        columns, window = head.own.shape
        own = torch.zeros(len(head.recurrent.weight), window, columns)
        own[torch.arange(columns), :, torch.arange(columns)] = head.own.detach()
        self._product = LinearStep(
            torch.cat([head.recurrent.weight, own.flatten(1)], 1), head.recurrent.bias
        )
        self._log_scale = slice(columns, 2 * columns)
        self._min_log_scale = np.array(MIN_LOG_SCALE, np.float32)
        self._first_category, self._sizes = 2 * columns, head.sizes

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Hidden state and window concatenated [n, H + W K] -> y [n, 2 K + V], both float32."""
        y = self._product(inputs)
        log_scale = y[:, self._log_scale]
        np.maximum(log_scale, self._min_log_scale, out=log_scale)
        begin = self._first_category
        for size in self._sizes:
            logits = y[:, begin : begin + size]
            logits -= logits.max(-1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
            begin += size
        return y
