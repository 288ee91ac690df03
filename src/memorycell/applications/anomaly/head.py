"""The next row of readings, as a distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.ops.step import LinearStep


class NextRow(nn.Module):
    """The distribution of the next row of readings: Student's t for every number, a softmax for
    every category,

        z_j ~ t_ν(μ_j, σ_j),   μ_j = Σ_w a_jw z_{j, t-w} + (A h)_j,   log σ_j = (B h)_j
        p(category) = softmax(C h)

    A column's own last W values weigh in directly, so that one that wanders is followed wherever it
    goes; the recurrent part has to explain only the rest. Tails as heavy as those of ν = 5 leave a
    lone outlier to itself.
    """

    freedom = 5.0
    narrowest = -5.0
    """Least log σ: a column that stands still is not expected to do so for ever."""

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
        """Hidden [B, T, H], window [B, T, W, K] of deviations -> y [B, T, 2 K + V]: μ, log σ,
        log-probabilities.
        """
        out = self.recurrent(hidden).float()
        k = self.columns
        mean = out[..., :k] + (window * self.own.T).sum(-2)
        parts = (
            [F.log_softmax(scores, -1) for scores in out[..., 2 * k :].split(self.sizes, -1)]
            if self.sizes
            else []
        )
        return torch.cat([mean, out[..., k : 2 * k].clamp(min=self.narrowest), *parts], -1)

    def nats(self, y: Tensor, target: Tensor) -> Tensor:
        """Of target [..., K + C], numbers and then the numbers of categories; NaN where missing ->
        [..., K + C], 0 there.
        """
        k, v = self.columns, self.freedom
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


class NextRowStep:
    """`NextRow.forward` for single steps, in numpy: h and the columns' own values go through one
    product.
    """

    def __init__(self, head: NextRow) -> None:
        columns, window = head.own.shape
        own = torch.zeros(len(head.recurrent.weight), window, columns)
        own[torch.arange(columns), :, torch.arange(columns)] = head.own.detach()
        self._product = LinearStep(
            torch.cat([head.recurrent.weight, own.flatten(1)], 1), head.recurrent.bias
        )
        self._scale = slice(columns, 2 * columns)
        self._narrowest = np.array(NextRow.narrowest, np.float32)
        self._begin, self._sizes = 2 * columns, head.sizes

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        """Hidden and window side by side [n, H + W K] -> y [n, 2 K + V], all float32."""
        y = self._product(seen)
        scale = y[:, self._scale]
        np.maximum(scale, self._narrowest, out=scale)
        begin = self._begin
        for size in self._sizes:
            scores = y[:, begin : begin + size]
            scores -= scores.max(-1, keepdims=True)
            scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
            begin += size
        return y
