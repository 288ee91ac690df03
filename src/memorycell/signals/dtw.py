"""The nearest neighbour by dynamic time warping: what a classifier of sequences must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIDE_BY_SIDE = 400
"""Known sequences a query is compared with at once: what the processor's cache holds."""


class NearestByWarping:
    """The class of the known sequence that is nearest by dynamic time warping (Sakoe & Chiba 1978),
    with the squared Euclidean distance between steps, a cost D over all monotone ways to pair them,

        D(s, t) = |q_s - k_t|² + min(D(s-1, t), D(s, t-1), D(s-1, t-1)),

    divided by the sum of the lengths.

    known   sequences [T_k, F], any lengths; classes [N] int64
    """

    def __init__(self, known: Sequence[np.ndarray], classes: np.ndarray) -> None:
        order = np.argsort(
            [len(k) for k in known], kind="stable"
        )  # those as long as each other side by side
        self.classes = np.asarray(classes)[order]
        self._blocks = []
        for part in np.array_split(order, max(1, -(-len(known) // SIDE_BY_SIDE))):
            lengths = np.array([len(known[k]) for k in part])
            block = np.zeros((lengths.max(), len(part), known[0].shape[1]), np.float32)
            for column, k in enumerate(part):
                block[: lengths[column], column] = known[k]
            self._blocks.append((block, (block**2).sum(-1), lengths))

    def distances(self, query: np.ndarray) -> np.ndarray:
        """[N], of a query [S, F] to the known sequences, in the order of `classes`."""
        query = np.asarray(query, np.float32)
        return np.concatenate([_warped(query, *block) for block in self._blocks])

    def classify(self, queries: Sequence[np.ndarray]) -> np.ndarray:
        """[M] int64."""
        return np.array([self.classes[self.distances(query).argmin()] for query in queries])


def _warped(
    query: np.ndarray, block: np.ndarray, squares: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """The cost of pairing a query [S, F] with every column of a block [T, N, F], column n having
    lengths[n] steps.

    Walked along anti-diagonals, of which every place depends on the two diagonals before it alone.
    """
    steps, size = len(query), len(block)
    cost = squares[None] - 2 * (query @ block.reshape(-1, block.shape[2]).T).reshape(
        steps, size, -1
    )
    cost += (query**2).sum(1)[:, None, None]
    # Row d of `diagonals` is the anti-diagonal s + t = d, its place s.
    result = np.empty(len(lengths), np.float32)
    before = np.full(
        (steps + 1, len(lengths)), np.inf, np.float32
    )  # place s + 1; place 0 lies outside
    earlier = before.copy()
    for d in range(steps + size - 1):
        low, high = max(0, d - size + 1), min(steps - 1, d)
        places = np.arange(low, high + 1)
        now = np.full_like(before, np.inf)
        reach = np.minimum(np.minimum(before[places], before[places + 1]), earlier[places])
        if d == 0:
            reach[:] = 0
        now[places + 1] = cost[places, d - places] + reach
        ends = lengths - 1 == d - (steps - 1)
        result[ends] = now[steps, ends]
        earlier, before = before, now
    return result / (steps + lengths)
