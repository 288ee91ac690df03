"""Many Parquet files of sequences: for data larger than memory.

All rows of a sequence are in one file. With up to `SAMPLE_ROWS` rows everything is as in one file.
With more, the sequences of a sample are read into memory, random ones of up to `MAX_SAMPLE_FILES`
evenly spaced files: they decide what the columns are and how they are scaled,
they are split, and validation, test and baselines are theirs alone. The other sequences are encoded
into memory-mapped arrays, and are trained on. At no time is more than one file in memory, besides
the sample and the names of all sequences.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.array_folder import ArrayFolder, ArrayWriter, array_folder, file_states
from memorycell.application.contract import Record
from memorycell.applications.sequences.batches import TrainingBatches
from memorycell.applications.sequences.codec import SequenceCodec, static_rows
from memorycell.applications.sequences.dataset import SequencesDataset
from memorycell.applications.sequences.sequence_set import SequenceSet, Target
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.applications.sequences.splits import TRAIN
from memorycell.applications.sequences.tables_order import SEQUENCE_NAMES
from memorycell.errors import DataError, counted, quote
from memorycell.tables.column_lists import split_names
from memorycell.tables.parquet_files import ParquetTable, parquet_files
from memorycell.tables.table import read_table

if TYPE_CHECKING:
    import polars as pl

SAMPLE_ROWS, MIN_SAMPLE, MAX_SAMPLE_FILES = 200_000, 50, 100
"""Rows of the sample, about, unless they are fewer sequences; files that they are read from."""

ReadFrame = Callable[["pl.DataFrame", str], SequenceSet]
"""Reads the labelled sequences of a table with its name, with the columns of the sample."""


def mapped_files(data: str) -> list[Path] | None:
    """The files of a pattern such as "rows/*.parquet"; None for other data: in a folder every file
    is a sequence. Raises `DataError` where no file matches.
    """
    files = parquet_files(data)
    return None if files is None or Path(data).is_dir() else files


class SequenceFiles:
    """The sequences of several files. Raises `DataError`.

    settings   with the columns that name the sequences
    small      all rows are the sample
    """

    def __init__(self, files: Sequence[Path], data: str, settings: SequencesSettings) -> None:
        table = ParquetTable(files)
        self.files = [path for path, rows in zip(files, table.rows, strict=True) if rows]
        self.data, self.settings = data, settings
        if not self.files:
            raise DataError(f"{data}: no file has a row")
        self.small = table.height <= SAMPLE_ROWS
        if self.small:
            return
        self._keys = self._key_columns(table.columns)
        if settings.sequence is None:
            self.settings = replace(settings, sequence=self._keys[-1])
        self._index = self._read_index()
        step = -(-len(self.files) // MAX_SAMPLE_FILES)
        near = self._index.filter(self._index["file"] % step == 0)
        every = min(-(-int(near["rows"].sum()) // SAMPLE_ROWS), max(1, near.height // MIN_SAMPLE))
        # Evenly spaced ones could all be of one class.
        order = np.random.default_rng(0).permutation(near.height)
        self._chosen = near[np.sort(order[: near.height // every])]

    @property
    def base(self) -> Path:
        """The folder in which other tables are looked for."""
        return self.files[0].parent

    @property
    def sizes(self) -> tuple[int, int]:
        """(sequences, of which in the sample)"""
        return self._index.height, self._chosen.height

    def sample(self) -> pl.DataFrame:
        """The rows of the sample."""
        import polars as pl

        if self.small:
            return pl.concat([read_table(path) for path in self.files], how="vertical_relaxed")
        files = sorted(set(self._chosen["file"].to_list()))
        return pl.concat([self._rows(k, "semi") for k in files], how="vertical_relaxed")

    def others(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """(name, the rows that are not in the sample) of each file."""
        for k, path in enumerate(self.files):
            frame = self._rows(k, "anti")
            if frame.height:
                yield str(path), frame

    def _rows(self, number: int, how: Any) -> pl.DataFrame:
        frame = read_table(self.files[number])
        chosen = self._chosen.filter(self._chosen["file"] == number)["key"].struct.unnest()
        return frame.join(
            chosen, left_on=self._names(), right_on=chosen.columns, how=how, maintain_order="left"
        )

    def _key_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The group, where it is a column, and what names the sequence in it."""
        settings, where = self.settings, self.files[0]
        group = [name for name in (settings.group,) if name is not None and name in columns]
        named = settings.sequence
        if named is not None:
            keys = (named,) if named in columns else split_names(named)
            if missing := [name for name in keys if name not in columns]:
                has = quote(", ".join(columns))[1:-1]
                raise DataError(f"{where}: no column {quote(missing[0])}; it has {has}")
            return (*(g for g in group if g not in keys), *keys)
        taken = {settings.group, settings.part, settings.time, *split_names(settings.target or "")}
        by_lower = {c.strip().lower(): c for c in reversed(columns) if c not in taken}
        found = [by_lower[name] for name in SEQUENCE_NAMES if name in by_lower]
        if not found:
            raise DataError(
                f"{where}: name the column that tells sequences apart: --set sequence=COLUMN"
            )
        return (*group, found[0])

    def _names(self) -> list[pl.Expr]:
        """The words that name a sequence, as `TableOrder` has them."""
        import polars as pl

        return [pl.col(name).cast(pl.String).str.strip_chars() for name in self._keys]

    def _read_index(self) -> pl.DataFrame:
        """A row per sequence, in order: its key, its file and its rows."""
        import polars as pl

        parts = []
        for k, path in enumerate(self.files):
            key = pl.struct(e.alias(f"{n}") for n, e in enumerate(self._names())).alias("key")
            keys = [piece.frame.select(key) for piece in ParquetTable([path]).pieces(self._keys)]
            counted = pl.concat(keys).group_by("key", maintain_order=True).agg(rows=pl.len())
            parts.append(counted.with_columns(file=pl.lit(k, pl.Int32)))
        index = pl.concat(parts)
        again = (
            index.group_by("key").agg(pl.col("file").sort()).filter(pl.col("file").list.len() > 1)
        )
        if again.height:
            key, (one, two, *_) = again.row(0)
            name = quote("/".join(str(word) for word in key.values()))
            raise DataError(
                f"{self.files[two]}: sequence {name} is also in {self.files[one]}; write all rows"
                " of a sequence to one file, or name more columns: --set sequence=A,B"
            )
        return index


class MappedSequences(Sequence[np.ndarray]):
    """Arrays in memory, and after them those of a mapped array.

    sizes   [N]: rows of each of the latter, one after another; None: one row each, [N, S]
    """

    def __init__(
        self, first: Sequence[np.ndarray], mapped: np.ndarray, sizes: np.ndarray | None
    ) -> None:
        self._first, self._mapped = first, mapped
        self._ends = None if sizes is None else np.concatenate([[0], np.cumsum(sizes)])
        self._count = len(mapped) if sizes is None else len(sizes)

    def __len__(self) -> int:
        return len(self._first) + self._count

    def __getitem__(self, k: Any) -> Any:
        if k < len(self._first):
            return self._first[k]
        k -= len(self._first)
        if self._ends is None:
            return np.array(self._mapped[k])
        return np.asarray(self._mapped[self._ends[k] : self._ends[k + 1]])


class MappedSequencesDataset(SequencesDataset):
    """See `SequencesDataset`: that of a sample, with further sequences to train on."""

    def __init__(self, sample: SequencesDataset, arrays: ArrayFolder, data: str) -> None:
        super().__init__(
            data, sample.fingerprint, sample.parts, sample.codec, sample.settings, sample.notes
        )
        self._arrays = arrays

    def _make_batches(self) -> TrainingBatches:
        arrays, sizes = self._arrays, np.array(self._arrays["sizes"])

        def more(name: str, own: Any) -> Any:
            if name == "static":
                return MappedSequences(own, arrays["static"], None)
            if name == "targets" and not self.codec.every_step:
                return np.concatenate([np.asarray(own), arrays["target"]])
            return MappedSequences(own, arrays["target" if name == "targets" else name], sizes)

        return super()._make_batches().extended(more, sizes)

    def info(self) -> Record:
        """See `Dataset`."""
        split = self.parts.sizes()
        split["train"] += len(self._arrays["sizes"])
        fingerprint = f"{self.fingerprint}+{self._arrays.notes['fingerprint']}"
        return {**super().info(), "split": split, "fingerprint": fingerprint}


def map_others(
    files: SequenceFiles, sample: SequencesDataset, read: ReadFrame
) -> MappedSequencesDataset:
    """The dataset of files, of which there is the sample's."""
    settings = files.settings
    reading = [settings.target, settings.group, settings.part, settings.time, settings.labels]
    made_from = [file_states(files.files), sample.codec.to_json(), reading, sample.fingerprint]
    arrays = array_folder(
        "sequences-rows", made_from, lambda writer: _write(writer, files, sample, read)
    )
    dataset = MappedSequencesDataset(sample, arrays, files.data)
    count, chosen = files.sizes
    dataset.notes = [
        f"{len(files.files):,} files with {count:,} sequences; {len(arrays['sizes']):,} are trained"
        f" on from disk; a sample of {chosen:,} decides columns and scaling, and is split",
        *arrays.notes["left out"],
        f"of the sample of {chosen:,} sequences:",
        *sample.notes,
    ]
    return dataset


def _write(
    writer: ArrayWriter, files: SequenceFiles, sample: SequencesDataset, read: ReadFrame
) -> dict[str, Any]:
    codec, digest, sizes = sample.codec, hashlib.sha256(), list[int]()
    evaluated = {
        group
        for name, part in sample.parts.sets.items()
        if name != "train"
        for group in part.groups or ()
    }
    left_out: Counter[str] = Counter()
    for where, frame in files.others():
        part = read(frame, where)
        assert part.target is not None
        target = _known_labels(part.target, codec, where)
        known = np.ones(len(part), bool)
        if codec.target == "class":
            known = _counted(target.array >= 0, known, "its class is not among them", left_out)
        if part.split is not None:
            known = _counted(part.split == TRAIN, known, "not of the training part", left_out)
        if part.groups is not None:
            trained = np.array([group not in evaluated for group in part.groups])
            known = _counted(trained, known, "validated or tested on their group", left_out)
        scaled, static = codec.scaled_target(target), static_rows(part)
        for k in np.flatnonzero(known).tolist():
            rows = codec.rows(part.values[k])
            writer.append("rows", rows)
            writer.append("static", codec.static_inputs(static[k])[None])
            own = np.asarray(scaled[k])
            writer.append("target", own if codec.every_step else own[None])
            digest.update(rows.tobytes())
            digest.update(own.tobytes())
            sizes.append(len(rows))
    if not sizes:
        raise DataError(f"{files.data}: no sequence is left to train on but those of the sample")
    writer.append("sizes", np.array(sizes, np.int64))
    return {
        "fingerprint": digest.hexdigest()[:16],
        "left out": [
            f"{counted(count, 'others')} left out: {why}" for why, count in left_out.items()
        ],
    }


def _counted(
    condition: np.ndarray, known: np.ndarray, why: str, left_out: Counter[str]
) -> np.ndarray:
    """Those that are known and meet a condition; the others are counted."""
    if lost := int((known & ~condition).sum()):
        left_out[why] += lost
    return known & condition


def _known_labels(target: Target, codec: SequenceCodec, where: str) -> Target:
    """A target with the names of a codec. Of several labels per sequence, those that a file lacks
    are not set, and others are dropped.
    """
    if target.kind != "labels" or not isinstance(target.values, np.ndarray):
        return codec.matched(target, where)
    table = np.zeros((len(target.values), len(codec.names)), np.float32)
    for k, name in enumerate(codec.names):
        if name in target.names:
            table[:, k] = target.values[:, target.names.index(name)]
    return Target(target.kind, codec.names, table)
