"""Reads labelled sequences: tables, folders of them, .ts, .arff and .npz files, named sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.sequences.arff_files import read_arff
from memorycell.applications.sequences.arrays import read_npz, without_padding
from memorycell.applications.sequences.folders import find_pair, read_folder, read_pair
from memorycell.applications.sequences.public_data import READERS
from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.reading_tables import TableSource, sequences_of_table
from memorycell.applications.sequences.reading_targets import read_target
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet, fingerprint
from memorycell.applications.sequences.splits import TEST, TRAIN, known_steps
from memorycell.applications.sequences.tables_rows import Rows
from memorycell.applications.sequences.ts_files import LabelledRows, read_ts, read_ucr_table
from memorycell.errors import DataError, counted, quote
from memorycell.tables.table import read_table

if TYPE_CHECKING:
    import polars as pl

ARCHIVE_READERS: dict[str, Callable[[Path, str | None], LabelledRows]] = {
    ".ts": read_ts,
    ".arff": read_arff,
}
"""Suffix -> reader of files with one sequence per row."""
UCR_SUFFIXES = (".tsv", ".txt")
"""Of pairs of files without a header, as the UCR archive has them."""


def read_sequences(
    source: str,
    options: ReadOptions,
    *,
    labelled: bool = True,
    pair: bool = True,
    channels: Sequence[Channel] | None = None,
    static_channels: Sequence[Channel] | None = None,
) -> SequenceSet:
    """The sequences of a file, a folder or a named set.

    labelled   each sequence has a target; otherwise it is not read, and need not be there
    pair       a file NAME_TRAIN.ts or NAME_TEST.ts is read together with the other one
    channels, static_channels   those of a model: they are read in this order, and none is left out

    Raises `DataError`.
    """
    reader, where, settings = None, str(source), dict[str, str]()
    path = Path(source)
    found = find_pair(path) if pair or not path.is_file() else None
    if found is None or path.is_dir():
        path, dataset = locate(source)
        if dataset is not None:
            known = {k: v for k, v in dataset.settings.items() if k in vars(options)}
            given = options
            options = with_dataset_settings(options, dataclasses.replace(dataset, settings=known))
            settings = {k: getattr(options, k) for k in known if vars(given)[k] != vars(options)[k]}
            reader = READERS.get(dataset.name)
            found = find_pair(path)
    if reader is not None:
        data = reader(path)
    elif found is not None:
        data = _read_pair(*found, where, options, labelled, channels, static_channels)
    elif path.is_dir():
        data = sequences_of_table(
            read_folder(path, where, options),
            options,
            labelled=labelled,
            channels=channels,
            static_channels=static_channels,
        )
    else:
        data = _read_file(path, where, options, labelled, channels, static_channels)
    data.found |= settings
    if not labelled:
        data.target = None
    return _checked(data, training=labelled and channels is None)


def read_frame(
    frame: pl.DataFrame,
    where: str,
    base: Path,
    options: ReadOptions,
    *,
    channels: Sequence[Channel] | None = None,
    static_channels: Sequence[Channel] | None = None,
) -> SequenceSet:
    """The labelled sequences of a table in memory; see `read_sequences`. Raises `DataError`.

    base   the folder in which other tables are looked for
    """
    source = TableSource(frame, where, base)
    data = sequences_of_table(source, options, channels=channels, static_channels=static_channels)
    return _checked(data, training=channels is None)


def _read_file(
    path: Path,
    where: str,
    options: ReadOptions,
    labelled: bool,
    channels: Sequence[Channel] | None,
    static_channels: Sequence[Channel] | None,
) -> SequenceSet:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _with_channels(read_npz(path, options, labelled=labelled), channels)
    if suffix in (".npy", ".pkl", ".pickle"):
        raise DataError(f"{where}: {suffix} is not read; save arrays X and y: numpy.savez")
    if suffix in ARCHIVE_READERS:
        rows = ARCHIVE_READERS[suffix](path, options.encoding)
        return _archive([(rows, "", 0)], where, options, labelled, channels)
    if suffix in UCR_SUFFIXES and _is_ucr_name(path) and _has_no_header(path):
        rows = read_ucr_table(path, options.encoding)
        return _archive([(rows, "", 0)], where, options, labelled, channels)
    notes: list[str] = []
    frame = read_table(path, encoding=options.encoding, sheet=options.sheet, notes=notes)
    return sequences_of_table(
        TableSource(frame, where, path.parent, notes=notes),
        options,
        labelled=labelled,
        channels=channels,
        static_channels=static_channels,
    )


def _read_pair(
    train: Path,
    test: Path,
    where: str,
    options: ReadOptions,
    labelled: bool,
    channels: Sequence[Channel] | None,
    static_channels: Sequence[Channel] | None,
) -> SequenceSet:
    suffix = train.suffix.lower()
    reader = ARCHIVE_READERS.get(suffix)
    if reader is None and suffix in UCR_SUFFIXES and _has_no_header(train):
        reader = read_ucr_table
    if reader is not None:
        files = [
            (reader(train, options.encoding), "TRAIN ", TRAIN),
            (reader(test, options.encoding), "TEST ", TEST),
        ]
        return _archive(files, where, options, labelled, channels)
    return sequences_of_table(
        read_pair(train, test, where, options),
        options,
        labelled=labelled,
        channels=channels,
        static_channels=static_channels,
    )


def _is_ucr_name(path: Path) -> bool:
    return path.stem.upper().endswith(("_TRAIN", "_TEST"))


def _has_no_header(path: Path) -> bool:
    """Whether the first line of a file is of numbers alone."""
    with path.open("rb") as file:
        cells = file.readline(1 << 16).replace(b",", b" ").split()
    try:
        numbers = [float(cell) for cell in cells[:100]]
    except ValueError:
        return False
    return len(numbers) > 1


def _archive(
    files: Sequence[tuple[LabelledRows, str, int]],
    where: str,
    options: ReadOptions,
    labelled: bool,
    channels: Sequence[Channel] | None,
) -> SequenceSet:
    """The sequences of one file of an archive, or of two with their parts."""
    import polars as pl

    values = [v for rows, _, _ in files for v in rows.values]
    sizes = [rows.values[0].shape[1] for rows, _, _ in files]
    if len(set(sizes)) > 1:
        raise DataError(
            f"{where}: {counted(sizes[0], 'channels')} to train on, {sizes[1]} to test on"
        )
    names = [f"{prefix}{k + 1}" for rows, prefix, _ in files for k in range(len(rows.values))]
    parts = np.concatenate([np.full(len(r.values), part, np.int8) for r, _, part in files])
    values, notes = without_padding(values)
    data = SequenceSet(
        where=where,
        names=names,
        channels=[Channel(f"x{k + 1}") for k in range(sizes[0])],
        values=values,
        target=None,
        split=parts if len(files) > 1 and labelled else None,
        notes=[note for rows, _, _ in files for note in rows.notes] + notes,
    )
    keep = np.array([len(v) > 0 for v in values])
    if not keep.all():
        data.notes.append(f"{counted(int((~keep).sum()), 'sequences')} left out: without any value")
    if labelled:
        labels = [rows.labels for rows, _, _ in files]
        if any(own is None for own in labels):
            raise DataError(f"{where}: has no classes and no numbers to predict")
        classes = {rows.classes for rows, _, _ in files}
        name = "target" if classes == {False} else "class"
        texts = pl.Series(name, [label for own in labels for label in own or ()], dtype=pl.String)
        read = read_target(
            [texts],
            Rows.one_each(where, names),
            options.kind,
            classes=classes.pop() if len(classes) == 1 else None,
            min_classes=2 if channels is None else 1,
        )
        data.target = read.target
        data.notes += read.notes
        data.found = {"kind": read.target.kind} if options.kind is None else {}
        keep &= read.labelled
    return _with_channels(data if keep.all() else data.select(keep), channels)


def _with_channels(data: SequenceSet, channels: Sequence[Channel] | None) -> SequenceSet:
    """Data whose channels have no names as those of a model. Raises `DataError`."""
    if channels is None:
        return data
    names = [c.name for c in data.channels]
    wanted = [c.name for c in channels]
    unnamed = names == [f"x{k + 1}" for k in range(len(names))]
    if unnamed and len(names) == len(wanted):
        return dataclasses.replace(data, channels=list(channels))
    if set(wanted) <= set(names) and not unnamed:
        extra = [name for name in names if name not in wanted]
        if extra:
            listed = quote(", ".join(extra))[1:-1]
            data.notes.append(f"channels that the model does not read: {listed}")
        order = [names.index(name) for name in wanted]
        values = [v[:, order] for v in data.values]
        return dataclasses.replace(data, channels=list(channels), values=values)
    raise DataError(
        f"{data.where}: {counted(len(names), 'channels')} ({quote(', '.join(names))[1:-1]});"
        f" the model reads {len(wanted)} ({quote(', '.join(wanted))[1:-1]})"
    )


def _checked(data: SequenceSet, *, training: bool) -> SequenceSet:
    """The data without channels that never have a value, with notes and a fingerprint."""
    if len(data) == 0:
        raise DataError(f"{data.where}: no sequence is left")
    if training:
        data = _without_empty_channels(data)
    lengths = data.lengths
    short = int((lengths == 1).sum())
    if short:
        data.notes.append(
            f"{short:,} of {len(data):,} sequences have one step"
            + ("; is the column that names the sequences right?" if short == len(data) else "")
        )
    target = data.target
    if target is not None and target.every_step:
        unknown = [int((~known_steps(v)).sum()) for v in target.values]
        if any(unknown):
            count = sum(u > 0 for u in unknown)
            data.notes.append(
                f"{sum(unknown):,} of {int(lengths.sum()):,} steps have no target (in {count:,} of"
                f" {len(data):,} sequences): inputs alone"
            )
    data.fingerprint = fingerprint(data)
    return data


def _without_empty_channels(data: SequenceSet) -> SequenceSet:
    known = np.zeros(len(data.channels), bool)
    for values in data.values:
        known |= ~np.isnan(values).all(0)
        if known.all():
            return data
    names = [c.name for c, has in zip(data.channels, known, strict=True) if not has]
    if not known.any():
        raise DataError(f"{data.where}: no channel has a value")
    data.notes.append(
        f"{counted(len(names), 'channels')} left out: without values"
        f" ({quote(', '.join(names))[1:-1]})"
    )
    return dataclasses.replace(
        data,
        channels=[c for c, has in zip(data.channels, known, strict=True) if has],
        values=[v[:, known] for v in data.values],
    )
