"""A Kneser-Ney n-gram model as a compact table in a model file, with a state for live steps.

The contexts that occurred in training are the nodes of a trie. The state of a sequence is the node
of its last 1, 2, … tokens, so that a step looks up one key per order and adds up the few tokens
that followed each context.
"""

from __future__ import annotations

import numpy as np

from memorycell.language.ngram import KneserNey

TOKEN_BITS, COUNT_BITS = 20, 10
CHILD_BIT, LAST_BIT = 1 << 30, 1 << 31
"""Of an entry: its context and token are the context of further tokens; it is its node's last."""
EXACT_COUNTS = 512
"""Smaller counts are stored exactly, larger ones within 1.6%."""
MANTISSA = 32
MAX_NODES = 1 << 24
"""Node numbers are exact in float32, of which states are made."""


class NGramTrie:
    """The nodes and entries of an n-gram model.

    Node 0 is the empty context. An entry is a token that followed a context; the entries of a node
    are sorted by token, the nodes by the entry that they extend.

    packed      [E] int32, the entries in the order of their nodes: token, count (see `pack_counts`)
                and the two bits above; the nodes are derived from the bits
    discounts   [order] float32

    Raises ValueError for a table that is not one.
    """

    def __init__(self, packed: np.ndarray, discounts: np.ndarray, vocabulary: int) -> None:
        words = packed.astype(np.int64) & 0xFFFFFFFF
        self.vocabulary, self.order = vocabulary, len(discounts)
        self.token = words & ((1 << TOKEN_BITS) - 1)
        is_last, has_child = (words & LAST_BIT) != 0, (words & CHILD_BIT) != 0
        count = unpack_counts((words >> TOKEN_BITS) & ((1 << COUNT_BITS) - 1))
        nodes = 1 + int(has_child.sum())
        _check(self.token, is_last, count, nodes, vocabulary, discounts)
        node = np.cumsum(is_last) - is_last
        self._keys = node * vocabulary + self.token
        if (np.diff(self._keys) <= 0).any():
            raise ValueError("the n-gram table is not sorted")
        self._child = np.where(has_child, np.cumsum(has_child), 0)
        self.start = np.concatenate([[0], np.flatnonzero(is_last) + 1])
        depth = self._depths(has_child, node)
        total = np.bincount(node, count, nodes)
        discount = discounts.astype(np.float64)[depth]
        self.value = np.maximum(count - discount[node], 0) / total[node]
        self.backoff = 1 - np.bincount(node, self.value, nodes)
        self.total = total
        self.depth = depth
        root = self.backoff[0] / vocabulary
        self.unigram = np.full(vocabulary, root)
        self.unigram[self.token[: self.start[1]]] += self.value[: self.start[1]]

    def _depths(self, has_child: np.ndarray, node: np.ndarray) -> np.ndarray:
        """[N] int64: the number of tokens of each node's context."""
        parent = node[has_child]
        depth = np.zeros(len(parent) + 1, np.int64)
        if (parent >= np.arange(1, len(parent) + 1)).any():
            raise ValueError("the n-gram table has a node before its parent")
        begin, end = 0, 1  # the nodes of one depth
        while end < len(depth):
            following = int(np.searchsorted(parent, end)) + 1
            if following == end or depth[begin] + 1 >= self.order:
                raise ValueError("the n-gram table is too deep")
            depth[end:following] = depth[begin] + 1
            begin, end = end, following
        return depth

    # ---- contexts --------------------------------------------------------------------------------

    def step(self, context: np.ndarray, token: np.ndarray) -> np.ndarray:
        """The contexts [B, order - 1] after the tokens [B]: nodes by number of tokens, 0 where that
        context did not occur.
        """
        parent = np.empty_like(context)
        parent[:, :1] = 0
        parent[:, 1:] = context[:, :-1]
        after = self.lookup(parent, token[:, None])[1]
        after[:, 1:][parent[:, 1:] == 0] = 0
        return after

    def contexts(
        self, tokens: np.ndarray, before: np.ndarray, reset: np.ndarray | None
    ) -> np.ndarray:
        """The contexts [B, T, order - 1] after each of the tokens [B, T], which begin at `before`
        [B, order - 1]; a sequence begins again before the tokens with `reset` [B, T].
        """
        result = np.zeros((*tokens.shape, self.order - 1), np.int64)
        parent = np.zeros(tokens.shape, np.int64)
        for k in range(self.order - 1):
            if k:
                parent[:, 0], parent[:, 1:] = before[:, k - 1], result[:, :-1, k - 1]
                if reset is not None:
                    parent[reset] = 0
            child = self.lookup(parent, tokens)[1]
            result[..., k] = child if k == 0 else np.where(parent > 0, child, 0)
        return result

    def lookup(self, node: np.ndarray, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the entries of tokens after nodes, -1 where there is none; the nodes they lead to, 0
        where there is none)
        """
        wanted = node * self.vocabulary + token
        at = np.searchsorted(self._keys, wanted)
        at[at == len(self._keys)] = 0
        found = self._keys[at] == wanted
        return np.where(found, at, -1), np.where(found, self._child[at], 0)

    def longest(self, context: np.ndarray) -> np.ndarray:
        """The longest known contexts [...] of contexts [..., order - 1]: nodes."""
        return np.asarray(context.max(-1, initial=0))  # deeper nodes have larger numbers

    # ---- probabilities ---------------------------------------------------------------------------

    def probabilities(self, context: np.ndarray) -> np.ndarray:
        """[B, V] float64 of the next token after contexts [B, order - 1]."""
        share, root_share = self._shares(context)
        begin = self.start[context]
        count = np.where(context > 0, self.start[context + 1] - begin, 0).ravel()
        ends = np.cumsum(count)
        index = np.arange(ends[-1] if len(ends) else 0)
        index += np.repeat(begin.ravel() - ends + count, count)
        weight = self.value[index] * np.repeat(share.ravel(), count)
        at = self.token[index]
        if len(context) > 1:
            row_counts = count.reshape(len(context), -1).sum(1)
            at = at + np.repeat(np.arange(len(context)) * self.vocabulary, row_counts)
        p = np.bincount(at, weight, len(context) * self.vocabulary)
        return p.reshape(len(context), -1) + root_share[:, None] * self.unigram

    def target_probabilities(self, context: np.ndarray, target: np.ndarray) -> np.ndarray:
        """[...] float64: of target tokens [...] after contexts [..., order - 1]."""
        share, root_share = self._shares(context)
        entry, _ = self.lookup(context, target[..., None])
        value = np.where((entry >= 0) & (context > 0), self.value[entry], 0.0)
        return np.asarray((share * value).sum(-1) + root_share * self.unigram[target])

    def _shares(self, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weights [..., order - 1] of the contexts' own distributions, and [...] that of the
        empty context: products of what longer contexts leave.
        """
        left = np.where(context > 0, self.backoff[context], 1.0)
        product = np.cumprod(left[..., ::-1], -1)[..., ::-1]
        if not left.shape[-1]:
            return product, np.ones(left.shape[:-1])
        share = np.concatenate([product[..., 1:], np.ones_like(product[..., :1])], -1)
        return share, product[..., 0]


def pack(model: KneserNey) -> tuple[np.ndarray, np.ndarray]:
    """(packed, discounts) of `NGramTrie`."""
    parts = []
    for n, (keys, level) in enumerate(zip(model.grams, model.levels, strict=True)):
        context, token = keys // model.vocabulary, keys % model.vocabulary
        is_last = np.append(context[1:] != context[:-1], True)
        has_child = np.zeros(len(keys), bool)
        if n + 1 < model.order:
            has_child[model.grams[n + 1] // model.vocabulary] = True
        words = token | (pack_counts(level.count.astype(np.int64)) << TOKEN_BITS)
        parts.append(words | is_last * LAST_BIT | has_child * CHILD_BIT)
    packed = np.concatenate(parts).astype(np.uint32).view(np.int32)
    return packed, np.array([level.discount for level in model.levels], np.float32)


def pack_counts(count: np.ndarray) -> np.ndarray:
    """Positive counts [...] int64 as 10 bits: exact below 512, then five bits after the first."""
    exponent = np.maximum(np.floor(np.log2(np.maximum(count, 1))).astype(np.int64) - 5, 0)
    mantissa = (count >> exponent) - MANTISSA
    code = EXACT_COUNTS + (exponent - 4) * MANTISSA + mantissa
    return np.where(count < EXACT_COUNTS, count, np.minimum(code, (1 << COUNT_BITS) - 1))


def unpack_counts(code: np.ndarray) -> np.ndarray:
    """The counts of codes."""
    above = np.maximum(code - EXACT_COUNTS, 0)
    large = (MANTISSA + above % MANTISSA) << (above // MANTISSA + 4)
    return np.where(code < EXACT_COUNTS, code, large)


def _check(
    token: np.ndarray,
    is_last: np.ndarray,
    count: np.ndarray,
    nodes: int,
    vocabulary: int,
    discounts: np.ndarray,
) -> None:
    """Raises ValueError."""
    if not len(token) or int(is_last.sum()) != nodes or not is_last[-1] or nodes > MAX_NODES:
        raise ValueError("the n-gram table is incomplete")
    if token.max() >= vocabulary or count.min() < 1:
        raise ValueError("the n-gram table has an unknown token or an empty count")
    if not len(discounts) or not ((discounts >= 0) & (discounts <= 1)).all():
        raise ValueError("the n-gram table has a discount that is none")
