"""The nearest training sequence by dynamic time warping within a band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BAND = 0.1
"""Largest deviation of an alignment from the diagonal, as a share of the lengths."""
MAX_EXACT_STEPS = 32
"""Longer sequences are resampled to a length of a geometric grid, so that many have the same."""
GRID_RATIO = 1.1
MAX_STEPS = 512
BLOCK_VALUES = 1 << 15
"""Values on a diagonal of all pairs that are computed at once: about what fits the cache."""


class NearestDtw:
    """Finds the nearest of N training sequences by the dynamic time warping distance (Sakoe & Chiba
    1978): the least cost over all monotone alignments of a query q [S, F] and k [T, F] within a
    band of the same relative width for all lengths,

        D(s, t) = |q_s - k_t|² + min(D(s-1, t), D(s, t-1), D(s-1, t-1)),
        |s / (S-1) - t / (T-1)| ≤ max(BAND, 1 / (min(S, T) - 1)),

    divided by S + T. Sequences of more than `MAX_EXACT_STEPS` are resampled by linear interpolation
    to the nearest length of a grid of ratio `GRID_RATIO`, at most `MAX_STEPS`.

    known   N sequences [T_k, F] float32
    """

    def __init__(self, known: Sequence[np.ndarray], band: float = BAND) -> None:
        self.band = band
        self._blocks = _by_length(known)

    def nearest(
        self, queries: Sequence[np.ndarray], *, leave_out: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the number of the nearest training sequence of each query int64 [M], its distance [M]).

        leave_out   the queries are the training sequences: each is compared with the others
        """
        best = np.full(len(queries), np.inf, np.float32)
        found = np.zeros(len(queries), np.int64)
        for query_block, numbers in _by_length(queries):
            width = max(2 * int(self.band * query_block.shape[1]) + 1, 3)
            for block, members in self._blocks:
                count = max(1, BLOCK_VALUES // (width * len(members)))
                for begin in range(0, len(numbers), count):
                    own = numbers[begin : begin + count]
                    part = query_block[:, :, begin : begin + count]
                    distances = dtw_distances(part, block, self.band)
                    if leave_out:
                        distances[own[:, None] == members] = np.inf
                    nearest = distances.argmin(1)
                    least = distances[np.arange(len(own)), nearest]
                    better = least < best[own]
                    best[own[better]] = least[better]
                    found[own[better]] = members[nearest[better]]
        return found, best


def grid_length(steps: int) -> int:
    """The length to which a sequence is resampled."""
    if steps <= MAX_EXACT_STEPS:
        return steps
    power = round(np.log(steps / MAX_EXACT_STEPS) / np.log(GRID_RATIO))
    return min(round(MAX_EXACT_STEPS * GRID_RATIO**power), MAX_STEPS)


def resample(sequence: np.ndarray, size: int) -> np.ndarray:
    """A sequence [T, F] at `size` evenly spaced times, by linear interpolation, float32."""
    if len(sequence) == size:
        return np.asarray(sequence, np.float32)
    at = np.linspace(0, len(sequence) - 1, size)
    below = np.minimum(at.astype(np.int64), max(len(sequence) - 2, 0))
    above = np.minimum(below + 1, len(sequence) - 1)
    share = (at - below)[:, None].astype(np.float32)
    return np.asarray(sequence[below] * (1 - share) + sequence[above] * share, np.float32)


def pair_cells(lengths: np.ndarray, band: float = BAND) -> float:
    """The mean number of cells of an alignment of sequences of such lengths [N]."""
    sizes = np.minimum(lengths, MAX_STEPS).astype(np.float64)
    return float(sizes.mean() ** 2 * min(2 * band + 0.05, 1))


def _by_length(sequences: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(block [F, T, n], numbers [n]) of the sequences of each length."""
    groups: dict[int, list[int]] = {}
    for k, sequence in enumerate(sequences):
        groups.setdefault(grid_length(len(sequence)), []).append(k)
    return [
        (
            np.ascontiguousarray(
                np.stack([resample(sequences[k], size) for k in own]).transpose(2, 1, 0)
            ),
            np.array(own, np.int64),
        )
        for size, own in sorted(groups.items())
    ]


def dtw_distances(queries: np.ndarray, known: np.ndarray, band: float) -> np.ndarray:
    """Distances float32 [Q, n] of queries [F, S, Q] to sequences [F, T, n]; see `NearestDtw`.

    Computed along anti-diagonals, on which no cell depends on another. Row s + 1 of a diagonal is
    the cell with query step s; row 0 is outside.
    """
    (_, steps, count), (_, size, others) = queries.shape, known.shape
    width = max(band, 1 / max(min(steps, size) - 1, 1))
    s_scale, t_scale = 1 / max(steps - 1, 1), 1 / max(size - 1, 1)
    inf = np.float32(np.inf)
    current = np.full((steps + 2, count, others), inf, np.float32)
    previous, before_previous = current.copy(), current.copy()
    used = [(0, -1)] * 3  # the cells with values in the three buffers, the oldest first
    for diagonal in range(steps + size - 1):
        old_low, old_high = used.pop(0)
        current[old_low + 1 : old_high + 2] = inf
        lowest = (diagonal * t_scale - width) / (s_scale + t_scale)
        highest = (diagonal * t_scale + width) / (s_scale + t_scale)
        low = max(0, diagonal - size + 1, int(np.ceil(lowest - 1e-9)))
        high = min(steps - 1, diagonal, int(np.floor(highest + 1e-9)))
        used.append((low, high))
        if low <= high:
            cells = slice(low + 1, high + 2)
            best = current[cells]
            np.minimum(previous[low : high + 1], previous[cells], out=best)
            np.minimum(best, before_previous[low : high + 1], out=best)
            if diagonal == 0:
                best[:] = 0
            reverse = slice(diagonal - low, diagonal - high - 1 if diagonal > high else None, -1)
            for own, other in zip(queries, known, strict=True):
                difference = own[low : high + 1, :, None] - other[reverse][:, None]
                np.multiply(difference, difference, out=difference)
                best += difference
        before_previous, previous, current = previous, current, before_previous
    return previous[steps] / np.float32(steps + size)
