"""Pooling over time: from the hidden states of the steps so far to one vector.

The poolings accumulate step by step, so that a stream gives after every step what the complete
sequence would give if it ended there. `size_of_state` values carry them: the sums and the weight of
a mean, or maxima.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy import empty, exp, tanh
from torch import Tensor

from memorycell.nn.attention import AttentionPool, padding
from memorycell.ops.step import LinearStep
from memorycell.streaming.arguments import FLOAT32

POOLINGS = ("attention", "max", "mean", "last")


def pool_steps(
    kind: str, attention: AttentionPool | None, hidden: Tensor, before: Tensor | None
) -> tuple[Tensor | None, Tensor]:
    """Hidden [B, T, H], values before the first step [B, G] -> (values after the last step [B, G],
    z after every step [B, T, H]). The pooling "last" carries no values.

    attention   the parameters, for that pooling alone
    """
    if kind == "last" or before is None:
        return None, hidden
    if kind == "max":  # of h + 1 > 0, so that the zero state is neutral
        maxima = torch.maximum((hidden + 1).cummax(1).values, before[:, None])
        return maxima[:, -1], maxima - 1
    weights = _weights(attention, hidden)
    sums = torch.cat([weights * hidden, weights], -1).cumsum(1) + before[:, None]
    return sums[:, -1], sums[..., :-1] / sums[..., -1:]


def pool_complete(
    kind: str, attention: AttentionPool | None, hidden: Tensor, lengths: Tensor, size: int
) -> Tensor:
    """Hidden [B, T, directions·H] of complete sequences with lengths [B] -> z [B, directions·H].

    size   H: of a bidirectional layer, "last" takes the last step of each direction
    """
    if kind == "last":
        ends = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1, :size]
        return torch.cat([ends, hidden[:, 0, size:]], -1)
    pad = padding(lengths, hidden.shape[1])[..., None]
    if kind == "max":
        return hidden.masked_fill(pad, -1).amax(1)
    weights = _weights(attention, hidden).masked_fill(pad, 0)
    return (weights * hidden).sum(1) / weights.sum(1)


def _weights(attention: AttentionPool | None, hidden: Tensor) -> Tensor:
    return torch.ones_like(hidden[..., :1]) if attention is None else attention.weights(hidden)


class PoolingStep:
    """`Pooling.forward` in numpy, with equal rounding for one step and several."""

    def __init__(self, kind: str, attention: AttentionPool | None) -> None:
        self._kind, self._inner, self._score = kind, None, None
        if attention is not None:
            self._inner = LinearStep(attention.inner.weight, attention.inner.bias)
            self._score = LinearStep(attention.score.weight, torch.zeros(1))

    def __call__(self, before: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values before the first step [B, G], hidden [B, T, H] -> (values after every step
        [B, T, G], z [B, T, H]).
        """
        if self._kind == "last":
            return hidden[..., :0], hidden
        if self._kind == "max":
            maxima = np.maximum(np.maximum.accumulate(hidden + 1, 1), before[:, None])
            return maxima, maxima - 1
        flat = np.ascontiguousarray(hidden.reshape(-1, hidden.shape[-1]))
        weights = self.weights(flat).reshape(*hidden.shape[:2], 1)
        terms = np.concatenate([weights * hidden, weights], -1)
        # Summed in the order of single steps, for equal rounding.
        sums = np.concatenate([before[:, None], terms], 1).cumsum(1)[:, 1:]
        return sums, sums[..., :-1] / sums[..., -1:]

    def weights(self, hidden: np.ndarray) -> np.ndarray:
        """Of a mean, [n, 1], of hidden [n, H], contiguous."""
        if self._inner is None or self._score is None:
            return np.ones((len(hidden), 1), np.float32)
        inner = self._inner(hidden)
        np.tanh(inner, out=inner)
        scores = self._score(inner)
        return np.exp(scores, out=scores)

    def weight(self, hidden: np.ndarray) -> np.float32:
        """`weights` of one state [H], for the pooling "attention"."""
        first, second = self._inner, self._score
        assert first is not None
        assert second is not None
        inner, score = empty(len(hidden), FLOAT32), empty(1, FLOAT32)
        first.times(hidden, first.bias, inner)
        tanh(inner, inner)
        second.times(inner, second.bias, score)
        weight: np.float32 = exp(score, score)[0]
        return weight


def pooled_size(kind: str, size: int) -> int:
    """Values that a pooling of H units carries."""
    return {"attention": size + 1, "mean": size + 1, "max": size, "last": 0}[kind]
