"""Levels, split by time, with the baseline."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, ModelFile, Record
from memorycell.errors import DataError
from memorycell.models.batches import LaneBatch, lanes
from memorycell.setting_fields import check_counts
from tides.codec import TideCodec, read_levels
from tides.model import TideConfig, TideModel, predictions

SPLITS = {"train": (0.0, 0.7), "valid": (0.7, 0.8), "test": (0.8, 1.0)}
"""Split -> shares of the time at which it begins and ends."""
MIN_LEVELS = 100


@dataclass(frozen=True)
class TideSettings:
    """What --set can change.

    hidden   units of the recurrent layer
    cell     its cell
    bptt     steps that gradients flow back
    """

    hidden: int = 16
    cell: str = "lstm"
    bptt: int = 48

    def __post_init__(self) -> None:
        check_counts(self, "hidden", "bptt")
        self.model_config()  # raises ValueError for an unknown cell

    def model_config(self) -> TideConfig:
        """The sizes of the model."""
        return TideConfig(hidden_size=self.hidden, cell=self.cell)


class TideDataset(Dataset[TideModel, LaneBatch]):
    """See `Dataset`."""

    codec: TideCodec

    def __init__(
        self, name: str, levels: np.ndarray, codec: TideCodec, settings: TideSettings
    ) -> None:
        self.name, self.levels, self.codec, self.settings = name, levels, codec, settings
        self.inputs = codec.encode(levels)
        self.notes = [f"{len(levels):,} levels"]

    def build(self) -> TideModel:
        """See `Dataset`."""
        return TideModel(self.settings.model_config())

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `Dataset`."""
        _, end = split_of(len(self.levels), "train")
        x, target = self.inputs[: end - 1], self.inputs[1:end]
        reset = np.zeros(len(x), bool)
        shift = int(np.random.default_rng(seed).integers(len(x)))
        return lanes(x, target, reset, count=8, bptt=self.settings.bptt, shift=shift)

    def evaluate(self, model: TideModel, split: str, precision: str = "float32") -> Metrics:
        """The mean absolute error of the next level; the state is carried from the beginning."""
        y = self.codec.decode(predictions(model, torch.from_numpy(self.inputs)))
        return self._mae(y, split)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        return {"the last level": self._mae(self.levels, split)}

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return self.inputs[split_of(len(self.levels), "test")[0] :][:steps]

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": hashlib.sha256(self.levels.tobytes()).hexdigest()[:16],
            "split": {split: list(split_of(len(self.levels), split)) for split in SPLITS},
            "settings": dataclasses.asdict(self.settings),
        }

    def _mae(self, predicted: np.ndarray, split: str) -> Metrics:
        """Of predictions of the next level after every step [T]."""
        begin, end = split_of(len(self.levels), split)
        errors = np.abs(predicted[begin : end - 1] - self.levels[begin + 1 : end])
        return {"mae": float(errors.mean())}


def split_of(size: int, split: str) -> tuple[int, int]:
    """Where a split begins and ends, in steps."""
    begin, end = SPLITS[split]
    return int(begin * size), int(end * size)


def prepare(data: str | None, settings: TideSettings) -> TideDataset:
    """Read and split the levels; the scaling is fitted on the training split alone."""
    name = data or "levels.txt"
    levels = read_levels(name)
    if len(levels) < MIN_LEVELS:
        raise DataError(f"{name}: {len(levels)} levels; at least {MIN_LEVELS} are needed")
    train = levels[: split_of(len(levels), "train")[1]]
    if train.std() == 0:
        raise DataError(f"{name}: all levels are the same")
    codec = TideCodec(float(train.mean()), float(train.std()))
    return TideDataset(name, levels, codec, settings)


def reopen(data: str | None, file: ModelFile[TideModel, TideCodec]) -> TideDataset:
    """The same for a trained model, with its scaling."""
    name = data or file.data
    return TideDataset(name, read_levels(name), file.codec, file.typed_settings(TideSettings))
