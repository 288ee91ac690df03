"""The inputs of the rows of many sequences in few numpy calls: seconds for a million."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from memorycell.applications.sequences.codec import SequenceCodec

MAX_ROWS = 1 << 18
"""That are encoded together, to bound the memory besides the result."""


def rows_of_many(codec: SequenceCodec, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The inputs [T_i, R] of each of N sequences [T_i, F], equal to `codec.rows` of each."""
    if codec.has_own_scale:
        return [codec.rows(own) for own in values]
    found: list[np.ndarray] = []
    for first, last in _chunks(values):
        if last - first == 1:
            found.append(codec.rows(values[first]))
            continue
        own = values[first:last]
        starts = np.cumsum([0, *map(len, own)])
        rows = codec.joined_rows(np.concatenate(own), starts[:-1])
        found += [rows[a:b] for a, b in zip(starts.tolist(), starts[1:].tolist(), strict=False)]
    return found


def fill_forward_each(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Values [T, F] of sequences that begin at `starts` [n], each NaN replaced by the last known
    value of its column and sequence; NaN where there is none yet.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    steps = np.where(missing, -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(steps, 0)
    begins = np.repeat(starts, np.diff(starts, append=len(values)))
    filled = np.take_along_axis(values, np.maximum(last, 0), 0)
    return np.where(last < begins[:, None], np.nan, filled)


def _chunks(values: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of consecutive sequences of about `MAX_ROWS` rows together."""
    first, rows = 0, 0
    for k, own in enumerate(values):
        if k > first and rows + len(own) > MAX_ROWS:
            yield first, k
            first, rows = k, 0
        rows += len(own)
    if first < len(values):
        yield first, len(values)
