"""Rows of numbers as inputs, and scores as probabilities, with few numpy calls."""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import numpy as np
from numpy import vdot

from memorycell.applications.sequences.codec import MAX_SCALED, SequenceCodec

RowScaler = Callable[[np.ndarray, np.ndarray], "np.ndarray | None"]
"""(row [F] float64, the row before, NaN at the first) -> its inputs [R] float32, as of
`SequenceCodec.rows`; None for a row with missing or absurd values, and for the first one.
"""


MAX_LISTED = 16
"""Classes up to which Python's own numbers are faster than numpy."""


def answers_of(codec: SequenceCodec) -> Callable[[np.ndarray], np.ndarray]:
    """`SequenceCodec.answers` for the output of one step."""
    if codec.target != "class" or len(codec.names) > MAX_LISTED:
        return codec.answers
    return _probabilities


def _probabilities(scores: np.ndarray) -> np.ndarray:
    values = scores.tolist()
    largest = max(values)
    powers = [exp(value - largest) for value in values]
    total = sum(powers)
    return np.array([power / total for power in powers])


def row_scaler(codec: SequenceCodec) -> RowScaler | None:
    """The scaler of a codec whose rows are complete numbers; None for other codecs."""
    columns = codec.channels
    if codec.patch > 1 or codec.static or codec.has_own_scale:
        return None
    if any(c.words or c.unit or c.gappy for c in columns):
        return None
    mean, std = np.array([c.mean for c in columns]), np.array([c.std for c in columns])
    change, limit = np.array([c.change for c in columns]), MAX_SCALED**2
    unit = std * change

    def scale(row: np.ndarray, before: np.ndarray) -> np.ndarray | None:
        scaled = (row - mean) / std
        return scaled.astype(np.float32) if vdot(scaled, scaled) < limit else None

    def scale_with_changes(row: np.ndarray, before: np.ndarray) -> np.ndarray | None:
        inputs = np.empty((len(mean), 2))
        inputs[:, 0] = (row - mean) / std
        inputs[:, 1] = (row - before) / unit
        return inputs.ravel().astype(np.float32) if vdot(inputs, inputs) < limit else None

    if not change.any():
        return scale
    return scale_with_changes if change.all() else None
