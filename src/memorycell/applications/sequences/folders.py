"""Folders of files, one sequence each, and pairs of files with an official test part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.reading_tables import TableSource
from memorycell.applications.sequences.splits import TEST, TRAIN
from memorycell.errors import DataError, quote
from memorycell.tables.table import TABLE_SUFFIXES, read_table

if TYPE_CHECKING:
    import polars as pl

LABEL_FILES = ("labels.csv", "labels.tsv", "labels.xlsx", "labels.parquet", "labels.jsonl")
"""Names of the table of labels in a folder."""
PAIR_SUFFIXES = (".ts", ".arff", ".tsv", ".txt", *TABLE_SUFFIXES)
"""Of files with an official part, in order of preference."""
PART_OF_NAME = re.compile(r"(?P<stem>.*)_(?P<part>TRAIN|TEST)", re.IGNORECASE | re.DOTALL)


def find_pair(path: Path) -> tuple[Path, Path] | None:
    """(training file, test file) where a path names one of NAME_TRAIN.ts and NAME_TEST.ts, what
    they have in common, or their folder; None where there is no such pair.
    """
    if path.is_dir():
        names = {m["stem"] for f in path.iterdir() if (m := PART_OF_NAME.fullmatch(f.stem))}
        for stem in sorted(names, key=lambda name: (name.lower() != path.name.lower(), name)):
            if pair := _pair(path, stem, None):
                return pair if len(names) == 1 or stem.lower() == path.name.lower() else None
        return None
    match = PART_OF_NAME.fullmatch(path.stem)
    if path.exists():
        return _pair(path.parent, match["stem"], path.suffix) if match else None
    return _pair(path.parent, path.name, None) if path.parent.is_dir() else None


def _pair(folder: Path, stem: str, suffix: str | None) -> tuple[Path, Path] | None:
    suffixes = PAIR_SUFFIXES if suffix is None else (suffix,)
    for own in suffixes:
        for words in (("TRAIN", "TEST"), ("train", "test"), ("Train", "Test")):
            train, test = (folder / f"{stem}_{word}{own}" for word in words)
            if train.is_file() and test.is_file():
                return train, test
    return None


def read_folder(path: Path, where: str, options: ReadOptions) -> TableSource:
    """The tables in a folder and its subfolders, a sequence each, with the table of labels.

    Without one the subfolders are the classes, where there are two or more and no target is named.
    Raises `DataError`.
    """
    labels = next((path / name for name in LABEL_FILES if (path / name).is_file()), None)
    if options.labels is not None:
        labels = None  # the reader of tables finds it
    named = {Path(options.labels).name} if options.labels else set()
    static = {Path(options.static).name} if options.static else set()
    files = sorted(
        f
        for f in path.rglob("*")
        if f.name.lower().endswith(TABLE_SUFFIXES)
        and not f.name.startswith(".")
        and f != labels
        and f.name not in named | static
    )
    if not files:
        raise DataError(
            f"{where}: a folder without tables ({', '.join(TABLE_SUFFIXES)}) and without a pair"
            " NAME_TRAIN.ts and NAME_TEST.ts"
        )
    notes: list[str] = []
    frames, firsts, start = [], [], 0
    for file in files:
        frame = read_table(file, encoding=options.encoding, sheet=options.sheet, notes=notes)
        frames.append(frame)
        firsts.append((file.relative_to(path).as_posix(), start))
        start += frame.height
    folders = None
    parents = [file.relative_to(path).parent.as_posix() for file in files]
    if labels is None and options.labels is None and options.target is None:
        folders = parents if len(set(parents)) > 1 and "." not in parents else None
    return TableSource(
        frame=stacked(frames, [name for name, _ in firsts], where, notes),
        where=where,
        base=path,
        files=firsts,
        labels=labels,
        folders=folders,
        notes=notes,
    )


def read_pair(train: Path, test: Path, where: str, options: ReadOptions) -> TableSource:
    """The rows of two tables with official parts. Raises `DataError`."""
    notes: list[str] = []
    frames = [
        read_table(file, encoding=options.encoding, sheet=options.sheet, notes=notes)
        for file in (train, test)
    ]
    heights = [frame.height for frame in frames]
    names = [train.name, test.name]
    return TableSource(
        frame=stacked(frames, names, where, notes),
        where=where,
        base=train.parent,
        parts=np.repeat(np.array([TRAIN, TEST], np.int8), heights),
        notes=notes,
    )


def stacked(
    frames: list[pl.DataFrame], names: list[str], where: str, notes: list[str]
) -> pl.DataFrame:
    """The rows of all tables, with the columns that all of them have. Raises `DataError` where
    their types differ.
    """
    import polars as pl

    shared = set(frames[0].columns).intersection(*(f.columns for f in frames[1:]))
    common = [c for c in frames[0].columns if c in shared]
    left_out = {c for f in frames for c in f.columns} - shared
    if not common:
        raise DataError(f"{where}: {names[0]} and other tables have no column in common")
    if left_out:
        columns = quote(", ".join(sorted(left_out)))
        notes.append(f"columns that some tables lack are left out: {columns[1:-1]}")
    try:
        return pl.concat([f.select(common) for f in frames], how="vertical_relaxed", rechunk=True)
    except pl.exceptions.PolarsError as error:
        reason = quote((str(error).splitlines() or [""])[0])
        raise DataError(f"{where}: the columns of its tables differ ({reason[1:-1]})") from None
