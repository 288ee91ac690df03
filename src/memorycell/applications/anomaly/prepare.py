"""Recordings for training and for evaluation."""

from __future__ import annotations

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.dataset import AnomalyDataset, summary
from memorycell.applications.anomaly.mapped import mapped_files, prepare_files, reopen_files
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.predict import read_recordings
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.source import read_tables
from memorycell.applications.anomaly.splits import TEST, VALID, split_recordings
from memorycell.applications.anomaly.table_fitting import fit_tables
from memorycell.errors import DataError

DEFAULT_DATASET = "skab"


def prepare(data: str | None, settings: AnomalySettings) -> AnomalyDataset:
    """See `Application`. Infer the columns, read the recordings, split them by time, then fit the
    codec on training rows.
    """
    if data is not None and (files := mapped_files(data)) is not None:
        return prepare_files(files, data, settings)
    path, source = locate(data or DEFAULT_DATASET)
    where = source.name if source else str(data)
    settings = with_dataset_settings(settings, source)
    tables, notes = read_tables(
        path, where, settings.label, encoding=settings.encoding, sheet=settings.sheet
    )
    found = fit_tables(tables, where, settings)
    dataset = AnomalyDataset(where, found.recordings, found.splits, found.codec, settings)
    dataset.notes = [*notes, *found.notes, *summary(dataset)]
    return dataset


def reopen(data: str | None, file: ModelFile[Detector, ReadingsCodec]) -> AnomalyDataset:
    """See `Application`. On other data, all rows after the settling rows are tested."""
    settings, codec = file.typed_settings(AnomalySettings), file.codec
    if (files := mapped_files(data or file.data)) is not None:
        own = data is None or data == file.data
        return reopen_files(files, data or file.data, codec, settings, own=own)
    notes: list[str] = []
    recordings, where = read_recordings(codec, data or file.data, notes=notes)
    if data is None or data == file.data:
        splits, _ = split_recordings(recordings, settings, where)
    else:
        splits = [np.where(np.arange(len(r)) < codec.settle, VALID, TEST) for r in recordings]
    pairs = [
        (r, split)
        for r, split in zip(recordings, splits, strict=True)
        if len(r) > max(1, codec.settle)
    ]
    if not pairs:
        raise DataError(f"{where}: no recording is longer than its {codec.settle} settling rows")
    dataset = AnomalyDataset(where, [r for r, _ in pairs], [s for _, s in pairs], codec, settings)
    dataset.notes = notes
    return dataset
