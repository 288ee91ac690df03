"""The recordings in tables, split by time, and a codec that is fitted on their training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.fitting import fit_codec, without_constant
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.source import Table, infer_columns, joined
from memorycell.applications.anomaly.splits import TRAIN, VALID, split_recordings
from memorycell.errors import DataError


class Fitted(NamedTuple):
    """The recordings with the columns of a fitted codec, the split of each of their rows, notes."""

    recordings: list[Recording]
    splits: list[np.ndarray]
    codec: ReadingsCodec
    notes: list[str]


def fit_tables(tables: Sequence[Table], where: str, settings: AnomalySettings) -> Fitted:
    """Infer the columns, read the recordings, split them by time, then fit the codec on training
    rows. Raises `DataError`.
    """
    columns, column_notes = infer_columns(
        joined(tables),
        tables[0].where,
        columns=settings.column_names,
        time=settings.time,
        time_format=settings.time_format,
        zone=settings.zone,
        group=settings.group,
        label=settings.label,
        gap=settings.gap,
        decimal=settings.decimal,
        thousands=settings.thousands,
    )
    if columns.categories and len(tables) > 1:
        raise DataError(
            f"{where}: categories in a folder of tables are not supported; join them into one table"
        )
    recordings = [r for t in tables for r in columns.read(t.frame, t.where, t.name)]
    splits, split_notes = split_recordings(recordings, settings, where)
    notes = [*column_notes, *split_notes]
    pairs = [(r, split) for r, split in zip(recordings, splits, strict=True) if len(r) > 1]
    train = [r.select(split == TRAIN) for r, split in pairs]
    if not any(len(r) > 1 for r in train):
        raise DataError(f"{where}: no recording has rows to train on; {'; '.join(notes)}")
    columns, kept, constant_notes = without_constant(
        columns, [r for r, _ in pairs], train, where, settings.column_names or ()
    )
    splits = [split for _, split in pairs]
    codec = fit_codec(
        columns,
        settings.settle,
        [r.select(split == TRAIN) for r, split in zip(kept, splits, strict=True)],
        [r.select(split <= VALID) for r, split in zip(kept, splits, strict=True)],
        encoding=settings.encoding,
        sheet=settings.sheet,
    )
    return Fitted(kept, splits, codec, [*notes, *constant_notes])
