"""Many Parquet files as recordings in memory-mapped arrays: for readings larger than memory.

Every file is a recording. Columns and codec are fitted on the files of a sample, evenly spaced ones
with up to `SAMPLE_ROWS` rows; the score and the threshold are fitted, and model and baselines
evaluated, on evenly spaced recordings with up to `MAX_SCORED_ROWS` rows. With fewer everything is
as in memory. At no time is more than one file in memory, besides the sample.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application.array_folder import (
    ArrayFolder,
    ArrayWriter,
    array_folder,
    file_states,
)
from memorycell.application.contract import Record
from memorycell.applications.anomaly.batches import SegmentBatches
from memorycell.applications.anomaly.codec import Encoded, ReadingsCodec
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.dataset import AnomalyDataset, summary
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.source import Table
from memorycell.applications.anomaly.splits import (
    TEST,
    VALID,
    SplitRecording,
    split_recordings,
)
from memorycell.applications.anomaly.table_fitting import fit_tables
from memorycell.errors import DataError
from memorycell.tables.parquet_files import ParquetTable, parquet_files
from memorycell.tables.table import read_table
from memorycell.training.splits import SPLITS

MIN_MAPPED_BYTES = 200_000_000
"""Of the files of a folder, from which on they are mapped; those of a pattern always are."""
SAMPLE_ROWS, MAX_SCORED_ROWS = 200_000, 1_000_000


def mapped_files(data: str) -> list[Path] | None:
    """The files of a pattern such as "rows/*.parquet", or of a folder with much data; None for
    other data. Raises `DataError` where no file matches a pattern.
    """
    files = parquet_files(data)
    if files is None or not Path(data).is_dir():
        return files
    return files if sum(f.stat().st_size for f in files) >= MIN_MAPPED_BYTES else None


class MappedAnomalyDataset(AnomalyDataset):
    """See `AnomalyDataset`; `recordings` are those that are scored, in memory, `all_recordings` are
    mapped.
    """

    def __init__(
        self, name: str, arrays: ArrayFolder, codec: ReadingsCodec, settings: AnomalySettings
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.notes, self.scored = [], ()
        self._facts: dict[str, Any] = arrays.notes
        self.all_recordings = _recordings(arrays)
        sizes = [len(r.recording) for r in self.all_recordings]
        kept = evenly_spaced(sizes, MAX_SCORED_ROWS)
        self.recordings = [_in_memory(self.all_recordings[k]) for k in kept]

    @cached_property
    def _batches(self) -> SegmentBatches:
        return SegmentBatches(self.all_recordings, self.codec, self.settings)

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self._facts["fingerprint"],
            "split": self.split_sizes(),
            "settings": asdict(self.settings),
            "unit": "nats per column of a row",
        }

    def split_sizes(self) -> dict[str, int]:
        """Split -> number of rows, of all recordings."""
        return dict(zip(SPLITS, self._facts["split"], strict=True))

    def size_notes(self) -> list[str]:
        """What is read from disk, for people."""
        rows = [len(r.recording) for r in self.recordings]
        notes = [f"{len(self.all_recordings):,} files, read from disk"]
        if len(rows) < len(self.all_recordings):
            notes.append(f"scored: {len(rows):,} recordings with {sum(rows):,} rows, evenly spaced")
        return notes


def evenly_spaced(sizes: Sequence[int], most: int) -> list[int]:
    """Indexes of evenly spaced ones whose sizes are at most `most` together; at least one."""
    for every in range(1, len(sizes) + 1):
        chosen = list(range(0, len(sizes), every))
        if sum(sizes[k] for k in chosen) <= most:
            return chosen
    return [0]


def prepare_files(files: list[Path], data: str, settings: AnomalySettings) -> MappedAnomalyDataset:
    """See `Application.prepare`."""
    if settings.group is not None:
        raise DataError(
            f"{data}: group={settings.group}: of several files, each is one recording; leave it out"
        )
    rows = ParquetTable(files).rows
    sample = [files[k] for k in evenly_spaced(rows, SAMPLE_ROWS)]
    tables = [_table(path, files, data) for path in sample]
    found = fit_tables(tables, data, settings)
    arrays = _arrays(files, data, found.codec, settings, own=True)
    dataset = MappedAnomalyDataset(data, arrays, found.codec, settings)
    notes = [*dataset.size_notes(), *found.notes]
    if len(sample) < len(files):
        notes.append(f"columns and scaling are those of {len(sample):,} files")
    dataset.notes = [*notes, *summary(dataset)]
    return dataset


def reopen_files(
    files: list[Path], data: str, codec: ReadingsCodec, settings: AnomalySettings, *, own: bool
) -> MappedAnomalyDataset:
    """The dataset of a model's own files, or of others, whose rows are all tested."""
    ParquetTable(files)
    dataset = MappedAnomalyDataset(
        data, _arrays(files, data, codec, settings, own=own), codec, settings
    )
    dataset.notes = dataset.size_notes()
    return dataset


def _table(path: Path, files: Sequence[Path], data: str) -> Table:
    top = os.path.commonpath([f.absolute().parent for f in files])
    return Table(path.absolute().relative_to(top).as_posix(), str(path), read_table(path))


def _arrays(
    files: list[Path], data: str, codec: ReadingsCodec, settings: AnomalySettings, *, own: bool
) -> ArrayFolder:
    """The rows of all recordings, and what the codec makes of them."""
    made_from = [file_states(files), codec.to_json(), settings.settle, own]

    def write(writer: ArrayWriter) -> dict[str, Any]:
        digest, names, sizes, labelled = hashlib.sha256(), [], [], []
        split_sizes = np.zeros(len(SPLITS), np.int64)
        for path in files:
            table = _table(path, files, data)
            for r in codec.read(table.frame, table.where, table.name):
                if len(r) <= (1 if own else max(1, settings.settle)):
                    continue
                if own:
                    (split,), _ = split_recordings([r], settings, data)
                else:
                    split = np.where(np.arange(len(r)) < codec.settle, VALID, TEST)
                encoded = codec.encode(r)
                writer.append("time", r.time.astype(np.int64))
                writer.append("values", r.values)
                writer.append("rows", r.rows.astype(np.int64))
                writer.append("labels", np.zeros(len(r), bool) if r.labels is None else r.labels)
                writer.append("split", split.astype(np.int8))
                writer.append("x", encoded.x)
                writer.append("z", encoded.z)
                digest.update(r.values.tobytes().hex().encode() + b"\0")
                names.append(r.name)
                sizes.append(len(r))
                labelled.append(r.labels is not None)
                split_sizes += np.bincount(split, minlength=len(SPLITS))
        if not sizes:
            raise DataError(f"{data}: no recording is longer than its settling rows")
        return {
            "names": names,
            "sizes": sizes,
            "labelled": labelled,
            "split": split_sizes.tolist(),
            "fingerprint": digest.hexdigest()[:16],
        }

    return array_folder("anomaly-rows", made_from, write)


def _recordings(arrays: ArrayFolder) -> list[SplitRecording]:
    facts, found, begin = arrays.notes, [], 0
    for name, size, labelled in zip(facts["names"], facts["sizes"], facts["labelled"], strict=True):
        part = slice(begin, begin + size)
        recording = Recording(
            name,
            arrays["time"][part],
            arrays["values"][part],
            np.empty((size, 0), object),
            arrays["labels"][part] if labelled else None,
            arrays["rows"][part],
        )
        encoded = Encoded(arrays["x"][part], arrays["z"][part], np.zeros((size, 0), np.int64))
        found.append(SplitRecording(recording, encoded, arrays["split"][part]))
        begin += size
    return found


def _in_memory(mapped: SplitRecording) -> SplitRecording:
    r, encoded = mapped.recording, mapped.encoded
    labels = None if r.labels is None else np.array(r.labels)
    recording = Recording(
        r.name, np.array(r.time), np.array(r.values), r.words, labels, np.array(r.rows)
    )
    x, z = np.array(encoded.x), np.array(encoded.z)
    return SplitRecording(recording, Encoded(x, z, encoded.choices), np.array(mapped.split))
