"""From data to a dataset: read, split, encoded; and the dataset of a trained model."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.application.rendering import printable
from memorycell.applications.sequences import splits
from memorycell.applications.sequences.choices import choose
from memorycell.applications.sequences.codec import SequenceCodec
from memorycell.applications.sequences.codec_fitting import fit_codec
from memorycell.applications.sequences.dataset import Parts, SequencesDataset
from memorycell.applications.sequences.mapped import SequenceFiles, map_others, mapped_files
from memorycell.applications.sequences.model import SequenceModel
from memorycell.applications.sequences.reading import read_frame, read_sequences
from memorycell.applications.sequences.sequence_set import SequenceSet
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.applications.sequences.time_folds import split_blocks
from memorycell.applications.sequences.unknown import separate
from memorycell.errors import DataError, UserError, quote

if TYPE_CHECKING:
    import polars as pl

DEFAULT_DATASET = "pendigits"
PARTS = ("train", "valid", "test")
MAX_CROSS_VALIDATED, MAX_CROSS_VALIDATED_ROWS = 1000, 100_000
"""Training sequences, or their rows, up to which none is kept apart for validation."""
DEFAULT_MEMBERS, FEW_MEMBERS, MAX_FEW = 5, 10, 300
"""Networks that validate each other, and as many for up to `MAX_FEW` training sequences: each then
learns from nine tenths of them.
"""
STEPS = 20
"""Steps of the recurrent part that a typical sequence becomes."""
MAX_PATCH = 64
MAX_VALIDATED = 20_000
"""Validation sequences, so that validation takes a small part of the time; where they are split at
random the others are trained on.
"""
CONVOLVED_STEPS = 128
"""Steps of the convolutions that a typical sequence becomes, at most."""

SequencesFile = ModelFile[SequenceModel, SequenceCodec]


def prepare(data: str | None, settings: SequencesSettings) -> SequencesDataset:
    """See `Application.prepare`."""
    source = data or DEFAULT_DATASET
    if (paths := mapped_files(source)) is not None:
        return prepare_files(SequenceFiles(paths, source, settings))
    return prepare_set(read_sequences(source, settings), settings)


def prepare_files(files: SequenceFiles) -> SequencesDataset:
    """The dataset of many files. Raises `DataError`."""
    settings = files.settings
    if not files.small:
        if settings.unknown:
            raise DataError(
                f"{files.data}: unknown={settings.unknown}: for a table in one file only"
            )
        settings = dataclasses.replace(settings, members=settings.members or 1)
    sample = prepare_set(read_frame(files.sample(), files.data, files.base, settings), settings)
    if files.small:
        return sample

    def read(frame: pl.DataFrame, where: str) -> SequenceSet:
        return _with_columns_of(sample.codec, settings, frame, where, files.base)

    return map_others(files, sample, read)


def prepare_set(read: SequenceSet, settings: SequencesSettings) -> SequencesDataset:
    """The dataset of sequences that were read. Raises `DataError`."""
    found: dict[str, Any] = read.found
    settings = dataclasses.replace(settings, **found)
    if read.target is None:
        raise DataError(f"{read.where}: no target; name it: --set target=COLUMN")
    known, unknown, apart = separate(read, settings.unknown)
    parts, settings, notes = split_parts(known, settings)
    parts = dataclasses.replace(parts, unknown=unknown)
    notes += apart
    train = parts.sets["train"]
    patch, stride = patch_and_stride(train, settings)
    settings = dataclasses.replace(settings, patch=patch, stride=stride)
    column = settings.sequence if "," not in (settings.sequence or "") else None
    codec = fit_codec(train, patch=patch, changes=settings.changes, sequence=column)
    dataset = SequencesDataset(read.where, read.fingerprint, parts, codec, settings)
    dataset.notes = [*read.notes, *notes, *describe(dataset)]
    return choose(dataset)


def split_parts(
    data: SequenceSet, settings: SequencesSettings
) -> tuple[Parts, SequencesSettings, list[str]]:
    """(the parts, the settings with the number of members, notes). The same for the same data and
    settings. Raises `DataError`.
    """
    spans = splits.split_spans(data, settings.shares)
    if spans is not None:
        sets = {n: splits.select_part(data, spans, k) for k, n in enumerate(PARTS)}
        steps = [sum(int((s == k).sum()) for s in spans) for k in range(3)]
        note = (
            f"{len(data)} sequences, each cut in time: {steps[0]:,} steps to train on,"
            f" {steps[1]:,} to validate, {steps[2]:,} to test"
        )
        blocks = _blocks(data, spans, settings)
        if blocks is None:
            settings = dataclasses.replace(settings, members=settings.members or 1)
            return Parts(sets), settings, [note]
        count = int(blocks[1].max()) + 1
        uncut = splits.select_part(data, [np.where(s == splits.VALID, 0, s) for s in spans], 0)
        note = (
            f"{len(data)} sequences, each cut in time: {steps[0] + steps[1]:,} steps to train on,"
            f" {steps[2]:,} to test; {count} networks are averaged, and each is validated on"
            " another block of the time to train on, which it does not learn from"
        )
        parts = Parts({"train": blocks[0], "test": sets["test"]}, blocks[1], uncut=uncut)
        return parts, dataclasses.replace(settings, members=count), [note]
    train, valid, test = settings.shares
    few = _training_count(data, settings) <= MAX_FEW
    members = settings.members or (FEW_MEMBERS if few else DEFAULT_MEMBERS)
    if _cross_validated(data, settings, members):
        split = splits.split_sequences(data, (train + valid, 0.0, test), settings.split_seed)
        own = splits.select_part(data, split, splits.TRAIN)
        folds = splits.folds(own, members, settings.split_seed)
        if len(folds) > 1:
            left_out = np.zeros(len(own), np.int64)
            for k, (_, others) in enumerate(folds):
                left_out[others] = k
            sets = {"train": own, "test": splits.select_part(data, split, splits.TEST)}
            note = (
                f"no validation sequences: {len(folds)} networks are averaged, and each is"
                f" validated on 1 in {len(folds)} of the training sequences, which it does not"
                " learn from"
            )
            settings = dataclasses.replace(settings, members=len(folds))
            return Parts(sets, left_out), settings, [*splits.split_notes(data, split), note]
    split = splits.split_sequences(data, settings.shares, settings.split_seed)
    if not (split == splits.VALID).any():
        raise DataError(
            f"{data.where}: no sequence is left to validate on; add data, or --set"
            " split=0.6,0.2,0.2"
        )
    if data.groups is None and (data.split is None or not (data.split == splits.VALID).any()):
        validated = np.flatnonzero(split == splits.VALID)
        order = np.random.default_rng(settings.split_seed).permutation(len(validated))
        split[validated[order[MAX_VALIDATED:]]] = splits.TRAIN
    sets = {name: splits.select_part(data, split, k) for k, name in enumerate(PARTS)}
    settings = dataclasses.replace(settings, members=settings.members or 1)
    return Parts(sets), settings, splits.split_notes(data, split)


def _blocks(
    data: SequenceSet, spans: list[np.ndarray], settings: SequencesSettings
) -> tuple[SequenceSet, np.ndarray] | None:
    """See `split_blocks`; None where there are too many steps, or none that validate."""
    rows = sum(int((own < splits.TEST).sum()) for own in spans)
    members = settings.members or DEFAULT_MEMBERS
    if members == 1 or rows > MAX_CROSS_VALIDATED_ROWS or settings.shares[1] == 0:
        return None
    return split_blocks(data, spans, members)


def _cross_validated(data: SequenceSet, settings: SequencesSettings, members: int) -> bool:
    """Whether members validate each other: few sequences, none kept apart for validation."""
    if members == 1 or (data.split is not None and bool((data.split == splits.VALID).any())):
        return False
    count = _training_count(data, settings)
    rows = count * float(data.lengths.mean())
    few = count <= MAX_CROSS_VALIDATED or rows <= MAX_CROSS_VALIDATED_ROWS
    return few and settings.shares[1] > 0


def _training_count(data: SequenceSet, settings: SequencesSettings) -> int:
    """Sequences to train and validate on."""
    train, valid, _ = settings.shares
    if data.split is not None and bool((data.split == splits.TEST).any()):
        return int((data.split != splits.TEST).sum())
    return round(len(data) * (train + valid))


def default_patch(train: SequenceSet) -> int:
    """Rows per step with which a sequence of median length has about `STEPS` steps."""
    return int(np.clip(round(float(np.median(train.lengths)) / STEPS), 1, MAX_PATCH))


def patch_and_stride(train: SequenceSet, settings: SequencesSettings) -> tuple[int, int]:
    """Rows per step of the recurrent part, and of the convolutions. Raises `UserError`."""
    assert train.target is not None
    if train.target.every_step:
        return 1, 1
    stride = 1
    while stride < MAX_PATCH and float(np.median(train.lengths)) > stride * CONVOLVED_STEPS:
        stride *= 2
    if settings.patch is None:
        stride = settings.stride or stride
        return max(1, round(default_patch(train) / stride)) * stride, stride
    if settings.stride and settings.patch % settings.stride:
        raise UserError(f"stride={settings.stride}: expected a divisor of patch={settings.patch}")
    return settings.patch, settings.stride or math.gcd(settings.patch, stride)


def describe(dataset: SequencesDataset) -> list[str]:
    """Notes on the size and the kind of a dataset."""
    codec, sizes = dataset.codec, dataset.parts.sizes()
    lengths = dataset.part("train").lengths
    names = ", ".join(codec.names[:8]) + (" …" if len(codec.names) > 8 else "")
    what = {
        "class": f"one of {len(codec.names)} classes: {names}",
        "labels": f"{len(codec.names)} labels: {names}",
        "number": f"numbers: {names}",
        "step_class": f"at every step one of {len(codec.names)} classes: {names}",
        "step_number": f"numbers at every step: {names}",
    }[codec.target]
    channels = f"{len(codec.channels)} channels"
    if codec.static:
        channels += f" and {len(codec.static)} values per sequence"
    notes = [
        ", ".join(f"{count:,} {name}" for name, count in sizes.items())
        + f" sequences of {int(lengths.min()):,} to {int(lengths.max()):,} steps, {channels}",
        f"predicted: {what}",
    ]
    own = [column.name for column in codec.channels if column.floor]
    if own:
        notes.append(
            f"{printable(', '.join(own[:8]))}: the sequences differ much in scale, so values are"
            " also read relative to the mean and deviation of their sequence so far"
        )
    if codec.patch > 1:
        notes.append(f"patch={codec.patch}: {codec.patch} rows are one step of the recurrent part")
    return notes


def reopen(data: str | None, file: SequencesFile) -> SequencesDataset:
    """See `Application.reopen`. Of other data all sequences are evaluated."""
    settings, codec = file.typed_settings(SequencesSettings), file.codec
    if data is None or data == file.data:
        read = _read_evaluated(file, file.data)
        known, unknown, apart = separate(read, settings.unknown)
        parts, settings, notes = split_parts(matched(known, codec), settings)
        parts, notes = dataclasses.replace(parts, unknown=unknown), [*notes, *apart]
        dataset = SequencesDataset(
            file.data, read.fingerprint, parts, codec, settings, [*read.notes, *notes]
        )
        if read.fingerprint != file.fingerprint.partition("+")[0]:  # others are of mapped files
            dataset.notes.append(f"{file.data} has changed since the model was trained")
        return dataset
    other = matched(_read_evaluated(file, data, pair=False), codec)
    parts = Parts({"test": other})
    notes = [*other.notes, f"evaluated on {len(other):,} sequences of other data"]
    try:
        own, _, _ = split_parts(matched(_read_evaluated(file, file.data), codec), settings)
        parts = dataclasses.replace(own, sets={**own.sets, "test": other})
        notes.append(f"the baselines were fitted on {file.data}, like the model")
    except UserError as error:
        notes.append(f"no baselines: the training data are not available ({error})")
    return SequencesDataset(other.where, other.fingerprint, parts, codec, settings, notes)


def _read_evaluated(file: SequencesFile, source: str, *, pair: bool = True) -> SequenceSet:
    """The labelled sequences of `read_for`; of many files with many rows a sample."""
    if (paths := mapped_files(source)) is None:
        return read_for(file, source, pair=pair)
    files = SequenceFiles(paths, source, file.typed_settings(SequencesSettings))
    read = _with_columns_of(file.codec, files.settings, files.sample(), source, files.base)
    if not files.small:
        count, chosen = files.sizes
        read.notes.append(f"{chosen:,} of {count:,} sequences, at random, are evaluated")
    return read


def _with_columns_of(
    codec: SequenceCodec, settings: SequencesSettings, frame: pl.DataFrame, where: str, base: Path
) -> SequenceSet:
    """The labelled sequences of a table, read as in training. Raises `DataError`."""
    return read_frame(
        frame,
        where,
        base,
        dataclasses.replace(settings, kind=codec.target),
        channels=[column.channel for column in codec.channels],
        static_channels=[column.channel for column in codec.static],
    )


def read_for(
    file: SequencesFile, source: str, *, labelled: bool = True, pair: bool = True
) -> SequenceSet:
    """Sequences with the columns of a model, read as in training. Raises `DataError`."""
    codec = file.codec
    settings = dataclasses.replace(file.typed_settings(SequencesSettings), kind=codec.target)
    return read_sequences(
        source,
        settings,
        labelled=labelled,
        pair=pair,
        channels=[column.channel for column in codec.channels],
        static_channels=[column.channel for column in codec.static],
    )


def matched(data: SequenceSet, codec: SequenceCodec) -> SequenceSet:
    """Labelled sequences with the classes of a model; those of other classes are left out, with a
    note. Raises `DataError` where none is left.
    """
    assert data.target is not None
    given, target = data.target, codec.matched(data.target, data.where)
    data = dataclasses.replace(data, target=target, notes=list(data.notes))
    if codec.target != "class" or not isinstance(target.values, np.ndarray):
        return data
    known = target.values >= 0
    if known.all():
        return data
    names = sorted(set(given.names) - set(codec.names))
    unknown = quote(", ".join(names))[1:-1]
    data.notes.append(
        f"{int((~known).sum()):,} of {len(data):,} sequences left out: their class was not in"
        f" training ({unknown})"
    )
    if not known.any():
        raise DataError(f"{data.where}: {data.notes[-1]}")
    return data.select(np.flatnonzero(known))
