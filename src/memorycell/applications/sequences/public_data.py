"""The named public datasets of sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memorycell.application.named_dataset import NamedDataset
from memorycell.applications.sequences.arrays import from_arrays
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


READERS: dict[str, Callable[[Path], SequenceSet]] = {"pendigits": read_pendigits}
"""Sets that no general reader knows."""
