"""The baseline of language models: an interpolated Kneser-Ney n-gram model of the same units."""

from __future__ import annotations

import numpy as np


class KneserNey:
    """Interpolated Kneser-Ney smoothing (Kneser & Ney 1995; Chen & Goodman 1999, their equation
    4.30), with one discount D = n₁ / (n₁ + 2 n₂) per order:

        p(w | h) = max(c(hw) - D, 0) / c(h·) + D · N₁₊(h·) / c(h·) · p(w | h')

    where h' is h without its oldest token. The highest order counts occurrences, lower orders count
    the distinct contexts of an n-gram; the unigram backs off to the uniform distribution.

    tokens   [N] int64, the training sequence
    """

    def __init__(self, tokens: np.ndarray, vocabulary: int, order: int) -> None:
        order = min(order, len(tokens))
        self.vocabulary, self.order = vocabulary, order
        self.levels = []
        # The key of an n-gram is (index of its first n-1 tokens) · V + last token, where the index
        # is the position in the sorted keys of the order below. `grams[n]` holds the distinct keys
        # of order n + 1.
        self.grams: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        index = np.zeros(len(tokens), np.int64)
        for n in range(order):
            before = np.roll(index, 1) if n else index
            keys = (before * vocabulary + tokens)[n:]
            distinct, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
            self.grams.append(distinct)
            counts.append(count)
            index = np.concatenate([np.full(n, -1), inverse])
        suffix = [self._suffixes(n) for n in range(1, order)]
        for n in range(order):
            count = (
                counts[n] if n == order - 1 else np.bincount(suffix[n], minlength=len(counts[n]))
            )
            # The n-gram at the start of the sequence may have no context; it counts once.
            self.levels.append(_Level(self.grams[n] // vocabulary, np.maximum(count, 1)))

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """[N] float64: of each token of a sequence [N] given the tokens before it."""
        p = np.full(len(tokens), 1.0 / self.vocabulary)
        for n, level in enumerate(self.levels):
            context = self._contexts(tokens, n)
            seen = level.known(context)
            gram = np.full(len(tokens), -1)
            gram[seen] = _lookup(self.grams[n], context[seen] * self.vocabulary + tokens[seen])
            p = np.where(seen, level.mix(context, gram, p), p)
        return p

    def _contexts(self, tokens: np.ndarray, n: int) -> np.ndarray:
        """[N]: the index of the n tokens before each token, -1 where unseen; 0 for n = 0."""
        index = np.zeros(len(tokens), np.int64)
        for k in range(n):  # from the oldest of the n tokens
            shifted = np.concatenate([np.full(n - k, -1), tokens])[: len(tokens)]
            seen = (index >= 0) & (shifted >= 0)
            extended = np.full(len(tokens), -1)
            extended[seen] = _lookup(self.grams[k], index[seen] * self.vocabulary + shifted[seen])
            index = extended
        return index

    def _suffixes(self, n: int) -> np.ndarray:
        """For each n-gram of order n + 1: the index, in order n, of the n-gram without its oldest
        token.
        """
        columns = []
        keys = self.grams[n]
        for k in range(n, -1, -1):
            columns.append(keys % self.vocabulary)
            keys = self.grams[k - 1][keys // self.vocabulary] if k else keys
        index = np.zeros(len(self.grams[n]), np.int64)
        for k, column in enumerate(reversed(columns[:-1])):
            index = _lookup(self.grams[k], index * self.vocabulary + column)
        return index


class _Level:
    """The counts of the n-grams of one order, sorted by context."""

    def __init__(self, context: np.ndarray, count: np.ndarray) -> None:
        size = int(context.max(initial=0)) + 1
        self.count = count.astype(np.float64)
        self.total = np.bincount(context, count, size)
        self.distinct = np.bincount(context, minlength=size)
        once, twice = (count == 1).sum(), (count == 2).sum()
        self.discount = once / (once + 2 * twice) if once and twice else 0.5

    def known(self, context: np.ndarray) -> np.ndarray:
        """[N] bool: whether the contexts occurred before another token in training."""
        inside = (context >= 0) & (context < len(self.total))
        return inside & (self.total[np.where(inside, context, 0)] > 0)

    def mix(self, context: np.ndarray, gram: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """The equation of `KneserNey`, for known contexts."""
        at = np.clip(context, 0, len(self.total) - 1)
        total = np.maximum(self.total[at], 1e-300)
        count = np.where(gram >= 0, self.count[np.maximum(gram, 0)], 0.0)
        own = np.maximum(count - self.discount, 0.0)
        return (own + self.discount * self.distinct[at] * lower) / total


def _lookup(sorted_keys: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Indices of keys in a sorted array, -1 where absent."""
    if len(sorted_keys) == 0:
        return np.full(len(keys), -1)
    index = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.where(sorted_keys[index] == keys, index, -1)


def fit_kneser_ney(train: np.ndarray, valid: np.ndarray, vocabulary: int) -> KneserNey:
    """The model of the order, 2 to 8, with the lowest validation loss; higher orders are tried
    until the loss increases.
    """
    best: tuple[float, KneserNey] | None = None
    for order in range(2, 9):
        model = KneserNey(train, vocabulary, order)
        nats = float(-np.log(model.probabilities(valid)[1:]).mean())
        if best is not None and nats > best[0]:
            break
        best = nats, model
    assert best is not None
    return best[1]
