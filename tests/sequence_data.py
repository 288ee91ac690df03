"""Small labelled sequences and models trained on them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.sequences import APPLICATION
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.training import loop as training

TINY = {"hidden": 8, "dropout": 0.0, "augment": "none", "mix": False}
HOW = TrainSettings(epochs=4, lr=0.03, average=0.9)


def write_table(path: Path, *, count: int, seed: int, target: str = "class") -> Path:
    """A long table of sequences of 9 to 15 steps: the sign of `a` in the second half decides; `b`
    is noise with gaps, `mode` a word, `site` constant in a sequence.
    """
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["recording", "step", "a", "b", "mode", "site", "y"])
        for k in range(count):
            length, sign = int(rng.integers(9, 16)), 1 if k % 2 else -1
            site = round(float(rng.normal()), 3)
            total = 0.0
            for t in range(length):
                a = float(rng.normal()) * 0.3 + (sign if t >= length // 2 else 0.0)
                total = 0.8 * total + a
                b = "" if rng.random() < 0.2 else f"{rng.normal():.4f}"
                y = {
                    "class": "up" if sign > 0 else "down",
                    "number": f"{2.5 * sign + site:.4f}",
                    "step_number": f"{10 + total:.4f}",
                    "step_class": "high" if total > 0 else "low",
                }[target]
                mode = ("rest", "work")[int(rng.integers(2))]
                rows.writerow([f"r{k:03d}", t + 1, f"{a:.4f}", b, mode, site, y])
    return path


def train(path: Path, out: Path, how: TrainSettings = HOW, **settings):
    """(result, model file) of a small model."""
    given = {"sequence": "recording", "time": "step", "target": "y", "static": "site", **TINY}
    own = SequencesSettings(**{**given, **settings})
    result = training.train(APPLICATION, str(path), own, how, out)
    return result, modelfile.load(out)


@pytest.fixture(scope="session")
def class_model(tmp_path_factory):
    """(result, model file, table) of a classifier of two networks that read patches of 3 rows."""
    folder = tmp_path_factory.mktemp("sequence_classes")
    table = write_table(folder / "classes.csv", count=44, seed=0)
    return *train(table, folder / "m.safetensors", members=2, patch=3), table


@pytest.fixture(scope="session")
def number_model(tmp_path_factory):
    """(result, model file, table) of a model of one number with an interval."""
    folder = tmp_path_factory.mktemp("sequence_numbers")
    table = write_table(folder / "numbers.csv", count=40, seed=1, target="number")
    return *train(table, folder / "m.safetensors", members=2, patch=1, pooling="mean"), table


@pytest.fixture(scope="session")
def steps_model(tmp_path_factory):
    """(result, model file, table) of a model of a number at every step."""
    folder = tmp_path_factory.mktemp("sequence_steps")
    table = write_table(folder / "steps.csv", count=30, seed=2, target="step_number")
    return *train(table, folder / "m.safetensors", members=1, quantiles=5, window=20), table
