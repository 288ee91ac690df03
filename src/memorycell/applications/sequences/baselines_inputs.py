"""Sequences as the baselines read them: filled, scaled and with categories one-hot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memorycell.applications.sequences.sequence_set import Channel, SequenceSet


@dataclass
class EncodedSteps:
    """The ΣT_i steps of N sequences.

    flat     float32 [ΣT_i, E], z-scores of the numbers and one-hot categories, without NaN
    starts   int64 [N + 1]: the first step of each sequence, and ΣT_i
    static   float32 [N, S] likewise; S may be 0
    missing  float32 [N, F]: the share of missing values of each channel
    """

    flat: np.ndarray
    starts: np.ndarray
    static: np.ndarray
    missing: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each sequence, int64 [N]."""
        return np.diff(self.starts)

    def sequence(self, k: int) -> np.ndarray:
        """[T_k, E]"""
        return self.flat[self.starts[k] : self.starts[k + 1]]

    def by_length(self, max_values: int = 1 << 24) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers [n] of sequences of one length, their steps [n, T, E]), of up to about
        `max_values` values each.
        """
        lengths = self.lengths
        order = np.argsort(lengths, kind="stable")
        edges = np.flatnonzero(np.diff(lengths[order])) + 1
        for members in np.split(order, edges):
            size = int(lengths[members[0]])
            count = max(1, max_values // max(size * self.flat.shape[1], 1))
            for begin in range(0, len(members), count):
                own = members[begin : begin + count]
                yield own, self.flat[self.starts[own][:, None] + np.arange(size)]


@dataclass
class StepEncoder:
    """Encodes sequences by the means and deviations of the training sequences."""

    channels: list[Channel]
    static_channels: list[Channel]
    mean: np.ndarray
    std: np.ndarray
    static_mean: np.ndarray
    static_std: np.ndarray

    @classmethod
    def fit(cls, train: SequenceSet) -> StepEncoder:
        """Of the training sequences."""
        mean, std = _mean_std(np.concatenate(train.values))
        static = np.zeros((len(train), 0)) if train.static is None else train.static
        return cls(train.channels, train.static_channels, mean, std, *_mean_std(static))

    def encode(self, data: SequenceSet) -> EncodedSteps:
        """Missing values are the last known one, the next one at the beginning, else the mean."""
        starts = np.concatenate([[0], np.cumsum(data.lengths)]).astype(np.int64)
        values = np.concatenate(data.values)
        unknown = np.isnan(values)
        missing = np.add.reduceat(unknown, starts[:-1], 0, dtype=np.float32)
        missing /= data.lengths[:, None]
        if unknown.any():
            values = _filled(values, unknown, starts)
        flat = _encoded(values, data.channels, self.channels, self.mean, self.std)
        static = np.zeros((len(data), 0), np.float32)
        if data.static is not None:
            scales = (self.static_mean, self.static_std)
            static = _encoded(data.static, data.static_channels, self.static_channels, *scales)
        return EncodedSteps(flat, starts, static, missing.astype(np.float32))


def _mean_std(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    std = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / count)
    return mean, np.where(std > 0, std, 1.0)


def _filled(values: np.ndarray, unknown: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Values [R, F] with the last known value of the sequence, or the next one, where missing."""
    steps = np.arange(len(values))
    first = np.repeat(starts[:-1], np.diff(starts))
    last = np.repeat(starts[1:] - 1, np.diff(starts))
    result = values.copy()
    for k in np.flatnonzero(unknown.any(0)):
        lack = unknown[:, k]
        before = np.maximum.accumulate(np.where(lack, -1, steps))
        after = np.minimum.accumulate(np.where(lack, len(values), steps)[::-1])[::-1]
        use = np.where(before >= first, before, np.where(after <= last, after, steps))
        result[:, k] = values[use, k]
    return result


def _encoded(
    values: np.ndarray,
    channels: list[Channel],
    known: list[Channel],
    mean: np.ndarray,
    std: np.ndarray,
) -> np.ndarray:
    """float32 [R, E]; categories by their words, so that data sets may number them differently."""
    columns = []
    for k, (channel, own) in enumerate(zip(channels, known, strict=True)):
        if own.words is None:
            columns.append(np.nan_to_num((values[:, k] - mean[k]) / std[k]).astype(np.float32))
            continue
        place = {word: j for j, word in enumerate(channel.words or ())}
        columns += [(values[:, k] == place.get(w, -1)).astype(np.float32) for w in own.words]
    return np.stack(columns, 1) if columns else np.zeros((len(values), 0), np.float32)
