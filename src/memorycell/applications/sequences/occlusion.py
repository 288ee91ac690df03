"""Which steps and channels mattered: occlusion over time and channel (Zeiler & Fergus 2014,
arXiv:1311.2901).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from memorycell.applications.sequences.answering import answers
from memorycell.applications.sequences.codec import SequenceCodec
from memorycell.applications.sequences.model import SequenceModel

MAX_SEGMENTS = 24
MAX_CHANNELS = 12


class Occlusion(NamedTuple):
    """The effect of hiding a channel during a part of the sequence.

    edges     [S + 1] first row of each segment, and the end
    channels  names of the C channels that were hidden, those that vary most first
    effect    [C, S]: how much the probability of the answer falls; of numbers, by how much the
              median changes, in the units of the table
    """

    edges: np.ndarray
    channels: list[str]
    effect: np.ndarray


def occlude(
    model: SequenceModel, codec: SequenceCodec, values: np.ndarray, static: np.ndarray | None
) -> Occlusion:
    """The rows [T, F] of a sequence with each channel in each segment replaced by its training
    mean, or by no category. At a target of every step, the effect is the mean over all steps.
    """
    rows, own_static = codec.rows(values), codec.static_inputs(static)
    segments = min(MAX_SEGMENTS, len(rows))
    edges = np.round(np.linspace(0, len(rows), segments + 1)).astype(int)
    spread = [float(np.nanstd(values[:, k])) for k in range(values.shape[1])]
    relative = [
        s / c.std if not c.words else 1.0 for s, c in zip(spread, codec.channels, strict=True)
    ]
    chosen = np.argsort(relative, kind="stable")[::-1][:MAX_CHANNELS]
    begins = np.cumsum([0, *(column.size for column in codec.channels)])
    hidden = []
    for k in chosen:
        for begin, end in itertools.pairwise(edges):
            copy = rows.copy()
            copy[begin:end, begins[k] : begins[k + 1]] = 0
            hidden.append(codec.steps(copy, own_static))
    found = answers(model, codec, [codec.steps(rows, own_static), *hidden])
    score = _Effect(codec, found[0])
    effect = np.array([score(one) for one in found[1:]])
    names = [codec.channels[k].name for k in chosen]
    return Occlusion(edges, names, effect.reshape(len(chosen), segments))


class _Effect:
    """The fall of the probability of the answer, or the change of the medians."""

    def __init__(self, codec: SequenceCodec, whole: np.ndarray) -> None:
        self._codec, self._whole = codec, whole
        self._best = None if codec.numeric else whole.argmax(-1)

    def __call__(self, other: np.ndarray) -> float:
        """Of the answer to a sequence with something hidden."""
        if self._codec.numeric:
            middle = self._whole.shape[-1] // 2
            return float(np.abs(other[..., middle] - self._whole[..., middle]).mean())
        index = np.asarray(self._best)[..., None]
        before = np.take_along_axis(self._whole, index, -1)
        return float((before - np.take_along_axis(other, index, -1)).mean())
