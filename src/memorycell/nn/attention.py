"""Attention: a weighted mean of hidden states, with weights from a query or from the states
themselves.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Global attention: a_ts = softmax_s(q_t · W m_s / √K), context_t = Σ_s a_ts m_s.

    Bahdanau, Cho & Bengio (2015), arXiv:1409.0473; the product form is Luong, Pham & Manning's
    "general" score (2015, arXiv:1508.04025), scaled as by Vaswani et al. (2017).
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """Memory [B, S, M] -> keys [B, S, Q], computed once per sequence."""
        return self.key(memory) / math.sqrt(self.key.out_features)

    def forward(
        self, query: Tensor, keys: Tensor, memory: Tensor, is_padding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Query [B, T, Q], keys [B, S, Q], memory [B, S, M], is_padding [B, S] bool ->
        (context [B, T, M], weights [B, T, S]).
        """
        scores = torch.bmm(query, keys.transpose(1, 2).to(query.dtype)).float()
        weights = scores.masked_fill(is_padding[:, None], -torch.inf).softmax(-1)
        return torch.bmm(weights.to(memory.dtype), memory), weights


class AttentionPool(nn.Module):
    """One vector per sequence: Σ_t w_t h_t / Σ_t w_t with w_t = exp(v · tanh(W h_t)).

    Yang et al. (2016), hierarchical attention networks. v · tanh is bounded, so the two sums can be
    accumulated step by step without rescaling.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size)
        self.score = nn.Linear(size, 1, bias=False)

    def weights(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., 1], positive."""
        return self.score(torch.tanh(self.inner(hidden))).float().exp()


def padding(lengths: Tensor, steps: int) -> Tensor:
    """[B, T] bool: the steps past the lengths [B]."""
    return torch.arange(steps, device=lengths.device) >= lengths[:, None]
