"""A language model's distribution mixed with that of the n-gram model of its training text.

    p(w | text) = (1 - a) p_network(w | text) + a p_n-gram(w | last tokens)

The weight a depends on how much the n-gram model knows of the context: on the length of the longest
context that occurred in training and on the power of two of its count (Jelinek & Mercer 1980). The
weights are fitted on the validation split by expectation maximisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.language.ngram import KneserNey
from memorycell.language.ngram_trie import MAX_NODES, NGramTrie, pack

COUNT_BINS = 8
"""Powers of two of a context's count that are distinguished."""
EM_STEPS = 60
PRIOR_TOKENS = 10.0
"""Of the mean weight in each bin, so that few validation tokens do not decide it."""
INITIAL_WEIGHT = 0.3
MIN_GAIN = 0.002
"""Nats per token on the validation split, over the better part, below which nothing is mixed."""
MAX_VALUES = 1 << 20
"""Probabilities that are computed at once."""
SMALLEST = 1e-37


@dataclass(frozen=True)
class Sequences:
    """Padded sequences of tokens.

    x, target   [B, T] int64: tokens and those that follow; `IGNORE`: not counted
    reset       [B, T] bool: a sequence begins at that token
    """

    x: Tensor
    target: Tensor
    reset: Tensor | None = None


class NGramMix(nn.Module):
    """The n-gram table (see `NGramTrie`) and the mixing weights [order · `COUNT_BINS`] float32 of a
    language model.
    """

    packed: Tensor
    discounts: Tensor
    weights: Tensor

    def __init__(self, entries: int, order: int, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.register_buffer("packed", torch.zeros(entries, dtype=torch.int32))
        self.register_buffer("discounts", torch.zeros(order))
        self.register_buffer("weights", torch.zeros(order * COUNT_BINS))
        self._trie: NGramTrie | None = None
        self.register_load_state_dict_post_hook(_loaded)

    @classmethod
    def of(cls, model: KneserNey) -> NGramMix | None:
        """With weights of zero; None where the table would be too large, or of single tokens."""
        if model.order < 2 or sum(map(len, model.grams)) > MAX_NODES:
            return None
        packed, discounts = pack(model)
        mix = cls(len(packed), len(discounts), model.vocabulary)
        mix.packed.copy_(torch.from_numpy(packed))
        mix.discounts.copy_(torch.from_numpy(discounts))
        return mix

    @property
    def order(self) -> int:
        """Of the n-grams."""
        return len(self.discounts)

    @property
    def trie(self) -> NGramTrie:
        """The unpacked table."""
        if self._trie is None:
            self._trie = NGramTrie(
                self.packed.numpy(), self.discounts.numpy(), vocabulary=self.vocabulary
            )
            weights = self.weights.double().numpy()
            if not ((weights >= 0) & (weights <= 1)).all():
                raise ValueError("the weights of the n-gram model are not from 0 to 1")
            self._node_weight = weights[self._bins()]
        return self._trie

    def _bins(self) -> np.ndarray:
        """[N] int64: the bin of each node."""
        assert self._trie is not None
        counts = np.log2(np.maximum(self._trie.total, 1)).astype(np.int64)
        return self._trie.depth * COUNT_BINS + np.minimum(counts, COUNT_BINS - 1)

    def initial_context(self, batch_size: int) -> np.ndarray:
        """[B, order - 1] int64: no context."""
        return np.zeros((batch_size, self.order - 1), np.int64)

    def read_context(self, values: np.ndarray) -> np.ndarray:
        """A state's values [..., order - 1] float32 as nodes; no node where they are none."""
        nodes = len(self.trie.start) - 1
        inside = (values >= 0) & (values < nodes)
        return np.where(inside, values, 0).astype(np.int64)

    def mix(self, log_p: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Log-probabilities [N, V] of the network and contexts [N, order - 1] -> those of the
        mixture [N, V] float32.
        """
        trie, rows = self.trie, max(1, MAX_VALUES // self.vocabulary)
        if len(log_p) > rows:
            parts = range(0, len(log_p), rows)
            return np.concatenate(
                [self.mix(log_p[k : k + rows], context[k : k + rows]) for k in parts]
            )
        weight = self._node_weight[trie.longest(context)][:, None]
        p = trie.probabilities(context)
        p *= weight
        p += (1 - weight) * np.exp(log_p)
        np.maximum(p, SMALLEST, out=p)
        return np.log(p, out=p).astype(np.float32)

    def nats(self, network: Tensor, data: Sequences) -> Tensor:
        """Negative log-likelihoods [B, T] of the mixture given those of the network."""
        p, node = self._target_p(data)
        weight = self._node_weight[node]
        mixed = (1 - weight) * np.exp(-network.double().numpy()) + weight * p
        nats = -np.log(np.maximum(mixed, SMALLEST))
        return torch.from_numpy(np.where(data.target.numpy() >= 0, nats, 0.0)).float()

    def _target_p(self, data: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """(the n-gram model's probabilities of the targets [B, T], the longest contexts [B, T])"""
        x, reset = data.x.numpy(), None if data.reset is None else data.reset.numpy()
        context = self.trie.contexts(x, self.initial_context(len(x)), reset)
        p = self.trie.target_probabilities(context, np.maximum(data.target.numpy(), 0))
        return p, self.trie.longest(context)

    def fit(self, network: Sequence[Tensor], data: Sequence[Sequences]) -> tuple[float, float]:
        """Fit the weights on the targets of validation sequences, given the network's nats [B, T]
        of each; returns the nats per token of the n-gram model and of the mixture.
        """
        self.trie  # noqa: B018  unpacked for the bins
        counted = [d.target.numpy() >= 0 for d in data]
        parts = [self._target_p(d) for d in data]
        ngram = np.concatenate([p[m] for (p, _), m in zip(parts, counted, strict=True)])
        bins = self._bins()[
            np.concatenate([n[m] for (_, n), m in zip(parts, counted, strict=True)])
        ]
        net = np.concatenate(
            [np.exp(-t.double().numpy())[m] for t, m in zip(network, counted, strict=True)]
        )
        weights = fit_weights(net, ngram, bins, len(self.weights))
        self.weights.copy_(torch.from_numpy(weights))
        self._node_weight = weights[self._bins()]
        mixed = (1 - weights[bins]) * net + weights[bins] * ngram
        return float(-np.log(ngram).mean()), float(-np.log(mixed).mean())


def fit_weights(network: np.ndarray, ngram: np.ndarray, bins: np.ndarray, size: int) -> np.ndarray:
    """[size] float64: the weight of the second of two probabilities [N] per bin [N], by expectation
    maximisation of their mixture's likelihood.
    """
    weights = np.full(size, INITIAL_WEIGHT)
    counts = np.bincount(bins, minlength=size)
    for _ in range(EM_STEPS):
        second = weights[bins] * ngram
        share = second / np.maximum(second + (1 - weights[bins]) * network, 1e-300)
        prior = PRIOR_TOKENS * share.mean()
        weights = (np.bincount(bins, share, size) + prior) / (counts + PRIOR_TOKENS)
    return np.clip(weights, 0, 1)


def _loaded(module: nn.Module, incompatible: object) -> None:
    """Raises ValueError for a damaged table."""
    assert isinstance(module, NGramMix)
    module._trie = None
    if not module.packed.is_meta:
        module.trie  # noqa: B018
