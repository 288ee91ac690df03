"""Training batches: augmented segments of recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from memorycell.applications.anomaly.augmentation import (
    add_offset,
    inject_level_shifts,
    insert_foreign_rows,
    random_drift,
)
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.score_fitting import WARM_UP_ROWS
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.splits import SplitRecording
from memorycell.models.batches import LaneBatch

MIN_SEGMENTS_PER_EPOCH = 640
SEGMENT_QUARTERS = 4


class SegmentBatches:
    """Batches of `lanes` segments of at most `bptt` training rows, each with an initial state of
    its own, augmented at random.
    """

    def __init__(
        self,
        recordings: Sequence[SplitRecording],
        codec: ReadingsCodec,
        settings: AnomalySettings,
    ) -> None:
        self._recordings, self._codec, self._settings = recordings, codec, settings
        self._train_rows = [r.train_rows for r in recordings]
        self._change = np.array(codec.change)
        has_categories = bool(codec.categories)
        self._corruption = settings.corruption_probability(has_categories)
        drift = settings.drift_scale(has_categories)
        self._drift = slow_variation(recordings, settings.bptt) * drift if drift else None

    def epoch(self, seed: int) -> Iterator[LaneBatch]:
        """One pass over the training rows, or several over few rows."""
        rng = np.random.default_rng(seed)
        segments = self._segments(rng)
        order = rng.permutation(len(segments))
        for begin in range(0, len(order), self._settings.lanes):
            yield self._batch(
                [segments[k] for k in order[begin : begin + self._settings.lanes]], rng
            )

    def _segments(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(recording, first row) of each segment."""
        bptt = self._settings.bptt
        segments: list[tuple[int, int]] = []
        while len(segments) < MIN_SEGMENTS_PER_EPOCH:
            count = len(segments)
            for k, rows in enumerate(self._train_rows):
                shift = int(rng.integers(max(1, min(bptt, rows)))) if rows > bptt else 0
                segments += [
                    (k, begin)
                    for begin in range(shift, rows, bptt)
                    if rows - begin > WARM_UP_ROWS or rows <= bptt
                ]
            if len(segments) == count:
                break
        return segments

    def _batch(self, segments: list[tuple[int, int]], rng: np.random.Generator) -> LaneBatch:
        codec = self._codec
        longest = max(self._train_rows[k] - begin for k, begin in segments)
        length = min(self._settings.bptt, longest)
        x = np.zeros((len(segments), length, codec.input_size), np.float32)
        target = np.full((len(segments), length, len(codec.names)), np.nan, np.float32)
        for lane, (k, begin) in enumerate(segments):
            rows = min(length, self._train_rows[k] - begin)
            self._fill_segment(x[lane, :rows], target[lane, :rows], k, begin, rng)
        reset = torch.zeros(x.shape[:2], dtype=torch.bool)
        return LaneBatch(torch.from_numpy(x), torch.from_numpy(target), reset, carry=False)

    def _fill_segment(
        self, x: np.ndarray, target: np.ndarray, k: int, begin: int, rng: np.random.Generator
    ) -> None:
        """Write the inputs [n, F] and targets [n, K + C] of n rows of a recording."""
        n, numbers = len(x), len(self._codec.columns)
        has_categories = bool(self._codec.categories)
        recording = self._recordings[k]
        source, foreign = insert_foreign_rows(n, rng, self._corruption if has_categories else 0.0)
        source += begin
        x[:] = recording.encoded.x[source]
        end = begin + n
        target[:] = recording.targets(np.minimum(source + 1, end - 1))
        target[source + 1 >= end] = np.nan
        if foreign.any():
            other = int(rng.integers(len(self._recordings)))
            picked = rng.integers(max(self._train_rows[other], 1), size=int(foreign.sum()))
            x[foreign] = self._recordings[other].encoded.x[picked]
        if self._drift is not None:
            drift = random_drift(n, self._drift, rng)
            add_offset(x, drift, self._change)
            target[: n - 1, :numbers] += drift[1:]
        if self._corruption and not has_categories:
            inject_level_shifts(x, self._change, rng, self._corruption)


def slow_variation(recordings: Sequence[SplitRecording], bptt: int) -> np.ndarray:
    """[K]: the fraction of each column's variance within segments of `bptt` training rows, or of as
    many as there are, that is between the means of their quarters, without what independent noise
    would cause.
    """
    rows = min(bptt, max(r.train_rows for r in recordings))
    size = max(rows // SEGMENT_QUARTERS, 10)
    length = SEGMENT_QUARTERS * size
    columns = recordings[0].encoded.z.shape[1]
    slow, total = np.zeros(columns), np.zeros(columns)
    for recording in recordings:
        z = recording.encoded.filled[: recording.train_rows]
        for begin in range(0, len(z) - length + 1, length):
            quarters = z[begin : begin + length].reshape(SEGMENT_QUARTERS, size, -1)
            noise = np.diff(quarters, axis=1).var((0, 1)) / 2 / size
            slow += np.maximum(quarters.mean(1).var(0) - noise, 0)
            total += quarters.reshape(length, -1).var(0)
    return np.clip(slow / np.maximum(total, 1e-9), 0, 1)
