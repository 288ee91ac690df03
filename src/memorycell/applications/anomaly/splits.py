"""Splits of recordings by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memorycell.applications.anomaly.codec import Encoded, ReadingsCodec
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.errors import DataError
from memorycell.training.splits import SPLITS

TRAIN, VALID, TEST = range(len(SPLITS))
TRAIN_SHARE, VALID_SHARE = 0.60, 0.10
VALID_SETTLE_SHARE = 0.15
"""Of the settling rows: the last ones are the validation split."""


@dataclass
class SplitRecording:
    """An encoded recording of N rows, and the split of each, [N] of `TRAIN`, `VALID`, `TEST`. The
    training rows come first.
    """

    recording: Recording
    encoded: Encoded
    split: np.ndarray

    @property
    def train_rows(self) -> int:
        """Number of training rows."""
        return int((self.split == TRAIN).sum())

    @property
    def normal_rows(self) -> int:
        """Number of training and validation rows."""
        return int(self.normal.sum())

    @property
    def normal(self) -> np.ndarray:
        """[N] bool: training and validation rows."""
        return np.asarray(self.split <= VALID)

    @property
    def test_labels(self) -> np.ndarray | None:
        """[n] bool, the labels of the test rows; None without labels or test rows."""
        labels, test = self.recording.labels, self.split == TEST
        return None if labels is None or not test.any() else labels[test]

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """[n, K + C] float64 of rows [n]: z-scores, NaN where missing, and ids of categories."""
        return np.concatenate([self.encoded.z[rows], self.encoded.choices[rows]], 1)

    def tabular(self, codec: ReadingsCodec) -> np.ndarray:
        """[N, K + V] float64: z-scores, and categories one-hot, without missing values."""
        one_hot = [
            np.arange(size) == self.encoded.choices[:, k, None]
            for k, size in enumerate(codec.sizes)
        ]
        return np.concatenate([self.encoded.filled, *one_hot], 1)


def split_recordings(
    recordings: Sequence[Recording], settings: AnomalySettings, where: str
) -> tuple[list[np.ndarray], list[str]]:
    """(the split of each row, [N] per recording; notes).

    With `settle`, the first rows of each recording are for training and validation. With a group
    column, all recordings are split at the same times; otherwise each by its number of rows. Raises
    `DataError` where no recording is longer than `settle`.
    """
    if settings.settle:
        short = sum(len(r) <= settings.settle for r in recordings)
        if short == len(recordings):
            raise DataError(f"{where}: no recording is longer than settle={settings.settle} rows")
        notes = [f"{short} recordings with {settings.settle} rows or fewer are not tested"]
        edges = (round((1 - VALID_SETTLE_SHARE) * settings.settle), settings.settle)
        splits = [np.digitize(np.arange(len(r)), edges) for r in recordings]
        return splits, notes if short else []
    shares = np.array([TRAIN_SHARE, TRAIN_SHARE + VALID_SHARE])
    if settings.group is not None:
        times = np.sort(np.concatenate([r.time for r in recordings]))
        time_edges = times[(shares * len(times)).astype(int)]
        return [np.digitize(r.time, time_edges) for r in recordings], []
    return [np.digitize(np.arange(len(r)), np.round(shares * len(r))) for r in recordings], []
