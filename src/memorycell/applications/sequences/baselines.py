"""What a model of sequences is compared with.

most frequent class, mean      of the training sequences
1-NN DTW                       the nearest training sequence (`nearest`)
summary features               logistic or ridge regression on `summary_features`
random convolutions            ridge regression on MiniRocket features (`random_convolutions`)
ridge from a window            at every step, from the inputs of the last steps
ridge of each sequence         the same, fitted to each sequence by itself, where the same
                               sequences are tested at later times
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from memorycell.applications.sequences import metrics
from memorycell.applications.sequences.baselines_inputs import EncodedSteps, StepEncoder
from memorycell.applications.sequences.baselines_linear import (
    QUANTILES,
    FeatureModel,
    WindowModel,
)
from memorycell.applications.sequences.nearest import NearestDtw, pair_cells
from memorycell.applications.sequences.random_convolutions import FEATURES, RandomConvolutions
from memorycell.applications.sequences.sequence_set import SequenceSet, Target
from memorycell.applications.sequences.splits import MAX_CUT_SEQUENCES, known_steps
from memorycell.applications.sequences.summary_features import summary_features
from memorycell.models.quantiles import quantile_levels

MAX_TRAIN = 10_000
"""Training sequences that are fitted; more are subsampled."""
MAX_CONVOLUTION_TRAIN = 2_000
"""From more training sequences on, fewer features are used."""
FEW_FEATURES = 84 * 24
MAX_DTW_CELLS = 1e10
"""Cells of all alignments of one prediction; the training sequences are subsampled to fit."""


class Baseline(Protocol):
    """A fitted baseline; `probabilities`: whether what it gives for classes are any."""

    probabilities: bool

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        """A prediction for each sequence."""


@dataclass
class Baselines:
    """Fitted baselines by name, and notes on what was subsampled or left out."""

    models: Mapping[str, Baseline]
    encoder: StepEncoder
    notes: list[str] = field(default_factory=list)

    def predict(self, data: SequenceSet) -> dict[str, metrics.Prediction]:
        """Name -> prediction; see `metrics`."""
        encoded = self.encoder.encode(data)
        return {name: model.predict(data, encoded) for name, model in self.models.items()}

    def evaluate(self, data: SequenceSet) -> dict[str, dict[str, float]]:
        """Name -> metrics; see `metrics.evaluate`."""
        assert data.target is not None
        return {
            name: metrics.evaluate(
                data.target, prediction, probabilities=self.models[name].probabilities
            )
            for name, prediction in self.predict(data).items()
        }


def fit(train: SequenceSet, *, seed: int = 0) -> Baselines:
    """The baselines for the kind of the target, fitted to the training sequences. Deterministic for
    a seed.
    """
    target = train.target
    assert target is not None
    notes: list[str] = []
    encoder = StepEncoder.fit(train)
    if target.every_step:
        return Baselines(_fit_steps(train, encoder), encoder, notes)
    if len(train) > MAX_TRAIN:
        chosen = np.random.default_rng(seed).permutation(len(train))[:MAX_TRAIN]
        notes.append(f"baselines are fitted to {MAX_TRAIN:,} of {len(train):,} training sequences")
        train = train.select(np.sort(chosen))
        target = train.target
        assert target is not None
    encoded = encoder.encode(train)
    models: dict[str, Baseline] = {
        "mean" if target.kind == "number" else "most frequent class": _Constant(target),
        "1-NN DTW": _Nearest(encoded, target, seed, notes),
        "summary features": _Summary(encoded, target),
        "random convolutions": _Convolutions(encoded, target, seed),
    }
    return Baselines(models, encoder, notes)


def _fit_steps(train: SequenceSet, encoder: StepEncoder) -> dict[str, Baseline]:
    target = train.target
    assert target is not None
    encoded = encoder.encode(train)
    name = "mean" if target.kind == "step_number" else "most frequent class"
    models: dict[str, Baseline] = {
        name: _StepConstant(target, train.names),
        "ridge from a window": _Window(encoded, target),
    }
    if 1 < len(train) <= MAX_CUT_SEQUENCES:
        models["ridge of each sequence"] = _WindowEach(encoded, target, train.names)
    return models


class _Constant:
    """The shares of the classes or labels, or the quantiles of the numbers."""

    probabilities = True

    def __init__(self, target: Target) -> None:
        values = target.array
        if target.kind == "class":
            self.value = np.bincount(values, minlength=len(target.names)) / len(values)
        elif target.kind == "labels":
            self.value = values.mean(0)
        else:
            self.value = np.quantile(values, quantile_levels(QUANTILES), axis=0).T

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        return np.broadcast_to(self.value, (len(data), *self.value.shape)).copy()


class _StepConstant:
    """The same at every step: of the sequence of the same name, otherwise of all together."""

    probabilities = True

    def __init__(self, target: Target, names: list[str]) -> None:
        self.target = target
        self.all = self._value(np.concatenate([v[known_steps(v)] for v in target.values]))
        self.own = {}
        if len(names) <= MAX_CUT_SEQUENCES:
            for name, values in zip(names, target.values, strict=True):
                known = values[known_steps(values)]
                if len(known):
                    self.own[name] = self._value(known)

    def _value(self, values: np.ndarray) -> np.ndarray:
        if self.target.kind == "step_class":
            return np.bincount(values, minlength=len(self.target.names)) / len(values)
        return np.quantile(values, quantile_levels(QUANTILES), axis=0).T

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        values = [self.own.get(name, self.all) for name in data.names]
        return [
            np.broadcast_to(value, (int(size), *value.shape)).copy()
            for value, size in zip(values, data.lengths, strict=True)
        ]


class _Nearest:
    """The target of the nearest training sequence."""

    probabilities = False

    def __init__(self, encoded: EncodedSteps, target: Target, seed: int, notes: list[str]) -> None:
        self.encoded, self.target, self.notes = encoded, target, notes
        self.order = _spread_order(target, seed)
        self._fitted: tuple[int, NearestDtw] | None = None

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        cells = pair_cells(np.concatenate([encoded.lengths, self.encoded.lengths]))
        most = int(MAX_DTW_CELLS / max(cells * len(encoded), 1))
        count = min(len(self.order), max(most, 2 * len(self.target.names)))
        if count < len(self.order):
            note = (
                f"1-NN DTW: compared with {count:,} of {len(self.order):,} training sequences, to"
                " save time"
            )
            self.notes += [note] if note not in self.notes else []
        if self._fitted is None or self._fitted[0] != count:
            chosen = [self.encoded.sequence(k) for k in self.order[:count]]
            self._fitted = (count, NearestDtw(chosen))
        nearest, _ = self._fitted[1].nearest([encoded.sequence(k) for k in range(len(encoded))])
        values = self.target.array[self.order[nearest]]
        if self.target.kind == "class":
            return np.eye(len(self.target.names))[values]
        return values.astype(np.float64) if self.target.kind == "labels" else values[:, :, None]


def _spread_order(target: Target, seed: int) -> np.ndarray:
    """The numbers of the sequences [N] in random order, the classes in turn."""
    order = np.random.default_rng(seed).permutation(len(target.array))
    if target.kind != "class":
        return order
    classes = target.array[order]
    rank = np.zeros(len(order), np.int64)
    for k in range(len(target.names)):
        own = classes == k
        rank[own] = np.arange(int(own.sum()))
    return order[np.argsort(rank, kind="stable")]


class _Summary:
    """Logistic or ridge regression on summary features."""

    probabilities = True

    def __init__(self, encoded: EncodedSteps, target: Target) -> None:
        self.model = FeatureModel(logistic=True).fit(summary_features(encoded), target)

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        return self.model.predict(summary_features(encoded))


class _Convolutions:
    """Ridge regression on random convolutions."""

    probabilities = False

    def __init__(self, encoded: EncodedSteps, target: Target, seed: int) -> None:
        features = FEATURES if len(encoded) <= MAX_CONVOLUTION_TRAIN else FEW_FEATURES
        self.convolutions = RandomConvolutions(features, seed).fit(encoded)
        self.model = FeatureModel(logistic=False).fit(self._features(encoded), target)

    def _features(self, encoded: EncodedSteps) -> np.ndarray:
        found = self.convolutions.transform(encoded)
        lengths = np.log(encoded.lengths)[:, None].astype(np.float32)
        return np.concatenate([found, lengths, encoded.static], 1)

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        chunks = np.array_split(np.arange(len(data)), max(1, -(-len(data) // MAX_TRAIN)))
        parts = [self.model.predict(self._features(_select(encoded, own))) for own in chunks]
        return np.concatenate(parts)


def _select(encoded: EncodedSteps, own: np.ndarray) -> EncodedSteps:
    """Consecutive sequences `own` [n]."""
    begin, end = int(encoded.starts[own[0]]), int(encoded.starts[own[-1] + 1])
    return EncodedSteps(
        encoded.flat[begin:end],
        encoded.starts[own[0] : own[-1] + 2] - begin,
        encoded.static[own],
        encoded.missing[own],
    )


class _Window:
    """Ridge regression on a window of inputs, one model for all sequences."""

    probabilities = False

    def __init__(self, encoded: EncodedSteps, target: Target) -> None:
        known = np.flatnonzero(known_steps(target.array))
        self.model = WindowModel().fit(encoded, target, known)

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        return self.model.predict(encoded)


class _WindowEach:
    """Ridge regression on a window of inputs, one model for each sequence by its name; that of all
    for other sequences.
    """

    probabilities = False

    def __init__(self, encoded: EncodedSteps, target: Target, names: list[str]) -> None:
        self.all = _Window(encoded, target).model
        self.models = {}
        for k, name in enumerate(names):
            own = target.select(np.array([k]))
            known = np.flatnonzero(known_steps(own.array))
            if len(known) > 1:
                self.models[name] = WindowModel().fit(_select(encoded, np.array([k])), own, known)

    def predict(self, data: SequenceSet, encoded: EncodedSteps) -> metrics.Prediction:
        found: list[np.ndarray] = []
        for k, name in enumerate(data.names):
            model = self.models.get(name, self.all)
            found += model.predict(_select(encoded, np.array([k])))
        return found
