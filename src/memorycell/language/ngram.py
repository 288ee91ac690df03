"""The n-gram model a language model must beat: interpolated Kneser-Ney, of the same units."""

from __future__ import annotations

import numpy as np


class KneserNey:
    """Interpolated Kneser-Ney smoothing (Kneser & Ney 1995; Chen & Goodman 1999, their equation
    4.30), with one discount an order, D = n₁ / (n₁ + 2 n₂):

        p(w | h) = max(c(hw) - D, 0) / c(h·) + D · N₁₊(h·) / c(h·) · p(w | h')

    where h' is h without its oldest token. The highest order counts occurrences, the lower ones in
    how many contexts an n-gram was seen; below the unigram lies the uniform distribution over the
    vocabulary.

    tokens   [N] int64, in sequence
    """

    def __init__(self, tokens: np.ndarray, vocabulary: int, order: int) -> None:
        order = min(order, len(tokens))
        self.vocabulary, self.order = vocabulary, order
        self._levels = []
        # An n-gram is numbered by (number of its first n-1 tokens) · V + last token; numbers are
        # places in a sorted list, so that they stay small. `grams[n]` holds the distinct keys of
        # order n + 1.
        self.grams: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        place = np.zeros(len(tokens), np.int64)
        for n in range(order):
            before = np.roll(place, 1) if n else place
            keys = (before * vocabulary + tokens)[n:]
            distinct, where, count = np.unique(keys, return_inverse=True, return_counts=True)
            self.grams.append(distinct)
            counts.append(count)
            place = np.concatenate([np.full(n, -1), where])
        suffix = [
            self._suffixes(n) for n in range(1, order)
        ]  # of every n-gram, the place of the one without its oldest
        for n in range(order):
            count = (
                counts[n] if n == order - 1 else np.bincount(suffix[n], minlength=len(counts[n]))
            )
            # What begins a text has no context before it: it was seen once, nowhere.
            self._levels.append(_Level(self.grams[n] // vocabulary, np.maximum(count, 1)))

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """[N] float64: of every token of a sequence, given those before it."""
        p = np.full(len(tokens), 1.0 / self.vocabulary)
        for n, level in enumerate(self._levels):
            context = self._find(tokens, n)  # of the n tokens before each
            seen = level.known(context)
            gram = np.full(len(tokens), -1)
            gram[seen] = _lookup(self.grams[n], context[seen] * self.vocabulary + tokens[seen])
            p = np.where(seen, level.mix(context, gram, p), p)
        return p

    def _find(self, tokens: np.ndarray, n: int) -> np.ndarray:
        """[N]: the place of the n tokens before each, -1 where they were never seen; 0 for n = 0."""
        place = np.zeros(len(tokens), np.int64)
        for k in range(n):
            shifted = np.concatenate([np.full(n - k, -1), tokens])[
                : len(tokens)
            ]  # the oldest first
            ok = (place >= 0) & (shifted >= 0)
            found = np.full(len(tokens), -1)
            found[ok] = _lookup(self.grams[k], place[ok] * self.vocabulary + shifted[ok])
            place = found
        return place

    def _suffixes(self, n: int) -> np.ndarray:
        """Of every n-gram of order n + 1 the place, in order n, of what is left without its oldest
        token.
        """
        columns = []
        keys = self.grams[n]
        for k in range(n, -1, -1):
            columns.append(keys % self.vocabulary)
            keys = self.grams[k - 1][keys // self.vocabulary] if k else keys
        place = np.zeros(len(self.grams[n]), np.int64)
        for k, column in enumerate(reversed(columns[:-1])):
            place = _lookup(self.grams[k], place * self.vocabulary + column)
        return place


class _Level:
    """One order: counts of its n-grams, sorted by context."""

    def __init__(self, context: np.ndarray, count: np.ndarray) -> None:
        size = int(context.max(initial=0)) + 1
        self.count = count.astype(np.float64)
        self.total = np.bincount(context, count, size)
        self.kinds = np.bincount(context, minlength=size)
        once, twice = (count == 1).sum(), (count == 2).sum()
        self.discount = once / (once + 2 * twice) if once and twice else 0.5

    def known(self, context: np.ndarray) -> np.ndarray:
        """Whether something was seen after the contexts."""
        inside = (context >= 0) & (context < len(self.total))
        return inside & (self.total[np.where(inside, context, 0)] > 0)

    def mix(self, context: np.ndarray, gram: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """The equation above, where the context is known."""
        at = np.clip(context, 0, len(self.total) - 1)
        total = np.maximum(self.total[at], 1e-300)
        count = np.where(gram >= 0, self.count[np.maximum(gram, 0)], 0.0)
        own = np.maximum(count - self.discount, 0.0)
        return (own + self.discount * self.kinds[at] * lower) / total


def _lookup(sorted_keys: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Places of keys in a sorted list, -1 where they are not in it."""
    if len(sorted_keys) == 0:
        return np.full(len(keys), -1)
    place = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.where(sorted_keys[place] == keys, place, -1)


def best_order(train: np.ndarray, valid: np.ndarray, vocabulary: int) -> KneserNey:
    """The model with the order, 2 to 8, that makes the validation tokens likeliest."""
    best: tuple[float, KneserNey] | None = None
    for order in range(2, 9):
        made = KneserNey(train, vocabulary, order)
        nats = float(-np.log(made.probabilities(valid)[1:]).mean())
        if best is not None and nats > best[0]:
            break
        best = nats, made
    assert best is not None
    return best[1]
