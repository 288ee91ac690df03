"""Nearest neighbour by dynamic time warping: the baseline of classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK_SEQUENCES = 400
"""Training sequences that a query is compared with at once: about what fits the cache."""


class DtwClassifier:
    """The class of the training sequence at the least dynamic time warping distance (Sakoe & Chiba
    1978): the cost D over all monotone alignments with squared Euclidean step distances,

        D(s, t) = |q_s - k_t|² + min(D(s-1, t), D(s, t-1), D(s-1, t-1)),

    divided by the sum of the lengths.

    known     training sequences [T_k, F] of any lengths
    classes   [N] int64
    """

    def __init__(self, known: Sequence[np.ndarray], classes: np.ndarray) -> None:
        order = np.argsort([len(k) for k in known], kind="stable")  # similar lengths, less padding
        self.classes = np.asarray(classes)[order]
        self._blocks = []
        for part in np.array_split(order, max(1, -(-len(known) // BLOCK_SEQUENCES))):
            lengths = np.array([len(known[k]) for k in part])
            block = np.zeros((lengths.max(), len(part), known[0].shape[1]), np.float32)
            for column, k in enumerate(part):
                block[: lengths[column], column] = known[k]
            self._blocks.append((block, (block**2).sum(-1), lengths))

    def distances(self, query: np.ndarray) -> np.ndarray:
        """Distances [N] of a query [S, F] to the training sequences, in the order of `classes`."""
        query = np.asarray(query, np.float32)
        return np.concatenate([_distances(query, *block) for block in self._blocks])

    def classify(self, queries: Sequence[np.ndarray]) -> np.ndarray:
        """Classes [M] int64."""
        return np.array([self.classes[self.distances(query).argmin()] for query in queries])


def _distances(
    query: np.ndarray, block: np.ndarray, squares: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """Distances of a query [S, F] to the columns of a block [T, N, F] with lengths [N].

    Computed along anti-diagonals: a cell depends only on the previous two diagonals.
    """
    steps, size = len(query), len(block)
    products = query @ block.reshape(-1, block.shape[2]).T
    cost = squares[None] - 2 * products.reshape(steps, size, -1)
    cost += (query**2).sum(1)[:, None, None]
    result = np.empty(len(lengths), np.float32)
    # Row s + 1 of a diagonal is the cell with query step s; row 0 is outside.
    previous = np.full((steps + 1, len(lengths)), np.inf, np.float32)
    before_previous = previous.copy()
    for diagonal in range(steps + size - 1):
        low, high = max(0, diagonal - size + 1), min(steps - 1, diagonal)
        s = np.arange(low, high + 1)
        current = np.full_like(previous, np.inf)
        best = np.minimum(np.minimum(previous[s], previous[s + 1]), before_previous[s])
        if diagonal == 0:
            best[:] = 0
        current[s + 1] = cost[s, diagonal - s] + best
        ends = lengths - 1 == diagonal - (steps - 1)
        result[ends] = current[steps, ends]
        before_previous, previous = previous, current
    return result / (steps + lengths)
