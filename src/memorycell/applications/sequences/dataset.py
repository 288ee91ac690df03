"""The dataset of sequences: parts that are split and encoded, and the baselines fitted on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metric, Metrics, Record
from memorycell.applications.sequences import metrics
from memorycell.applications.sequences.answering import (
    Prediction,
    answers,
    answers_over_time,
    left_out_outputs,
)
from memorycell.applications.sequences.augmentation import LEVELS
from memorycell.applications.sequences.batches import TrainingBatches
from memorycell.applications.sequences.codec import SequenceCodec, static_rows
from memorycell.applications.sequences.earliness import Early, decide, fit_threshold
from memorycell.applications.sequences.intervals import conformal_scale
from memorycell.applications.sequences.many_rows import rows_of_many
from memorycell.applications.sequences.model import SequenceBatch, SequenceModel
from memorycell.applications.sequences.sequence_set import SequenceSet, Target
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.applications.sequences.temperature import SPREADS, at_temperature
from memorycell.applications.sequences.unknown import UNLABELLED
from memorycell.models.quantiles import quantile_levels
from memorycell.signals.unknown import fit_threshold as fit_unknown_threshold

if TYPE_CHECKING:
    from memorycell.applications.sequences.baselines import Baselines

METRICS = {
    "class": Metric("accuracy", higher_is_better=True),
    "labels": Metric("macro_f1", higher_is_better=True),
    "number": Metric("mae"),
    "step_class": Metric("accuracy", higher_is_better=True),
    "step_number": Metric("nse", higher_is_better=True),
}
"""Kind of target -> the metric to compare by."""
UNKNOWN = "unknown "
"""Before the name of a part: its sequences of none of the classes."""
LOSS = "loss"
"""The metric that selects the best epoch: nats, or CRPS in standard deviations of the target."""
MIN_CALIBRATION = 20
"""Validation sequences from which on a temperature is fitted."""
MAX_CONFUSION_CLASSES, MAX_GROUPS = 30, 50
"""Of the details."""
MAX_WEIGHT = 10.0
"""Of a class, relative to the most frequent one."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """Sequences by part, targets with the codec's names, and how the training part is used.

    sets      "train", "valid" and "test", those there are
    left_out  of each training sequence, the member that does not learn from it: it is then
              validated by that member; None: "valid" is a part of its own
    unknown   by part, sequences of none of the classes, without targets
    uncut     the training sequences, where "train" are blocks of them; for the baselines
    """

    sets: dict[str, SequenceSet]
    left_out: np.ndarray | None = None
    unknown: dict[str, SequenceSet] = dataclasses.field(default_factory=dict)
    uncut: SequenceSet | None = None

    def sizes(self) -> dict[str, int]:
        """Part -> number of sequences."""
        return {name: len(part) for name, part in self.sets.items()}


class SequencesDataset(Dataset[SequenceModel, SequenceBatch]):
    """See `Dataset`."""

    codec: SequenceCodec

    def __init__(
        self,
        name: str,
        fingerprint: str,
        parts: Parts,
        codec: SequenceCodec,
        settings: SequencesSettings,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.fingerprint, self.parts = name, fingerprint, parts
        self.codec, self.settings, self.notes = codec, settings, list(notes)
        self._inputs: dict[str, list[np.ndarray]] = {}
        self._rows: dict[str, list[np.ndarray]] = {}

    def with_settings(self, settings: SequencesSettings) -> SequencesDataset:
        """The same data with other settings of the model."""
        codec = dataclasses.replace(self.codec, patch=settings.patch or self.codec.patch)
        other = SequencesDataset(
            self.name, self.fingerprint, self.parts, codec, settings, self.notes
        )
        other._rows = self._rows
        if codec.patch == self.codec.patch:
            other._inputs = self._inputs
        return other

    def with_parts(self, parts: Parts) -> SequencesDataset:
        """Other sequences with the same codec and settings."""
        return SequencesDataset(
            self.name, self.fingerprint, parts, self.codec, self.settings, self.notes
        )

    # ---- parts -----------------------------------------------------------------------------------

    @property
    def members(self) -> int:
        """Networks that are averaged."""
        return self.settings.members or 1

    def target(self, split: str) -> Target:
        """The target of a part."""
        target = self.part(split).target
        assert target is not None
        return target

    def part(self, split: str) -> SequenceSet:
        """The sequences of a part; "valid" are training ones that a member leaves out."""
        if split == "valid" and self.parts.left_out is not None:
            return self.parts.sets["train"].select(self._validated)
        if split.startswith(UNKNOWN):
            return self.parts.unknown[split.removeprefix(UNKNOWN)]
        return self.parts.sets[split]

    @cached_property
    def _validated(self) -> np.ndarray:
        """The training sequences that one of the members leaves out, int64 [n]."""
        assert self.parts.left_out is not None
        return np.flatnonzero(self.parts.left_out < self.members)

    def inputs(self, split: str) -> list[np.ndarray]:
        """The inputs [n_i, I] of each sequence of a part."""
        if split == "valid" and self.parts.left_out is not None:
            return [self.inputs("train")[k] for k in self._validated]
        if split not in self._inputs:
            self._inputs[split] = self.codec.encode(self.part(split))
        return self._inputs[split]

    def _training_rows(self, split: str) -> list[np.ndarray]:
        """The inputs [T_i, R] of the rows of each sequence of a part."""
        if split not in self._rows:
            self._rows[split] = rows_of_many(self.codec, self.part(split).values)
        return self._rows[split]

    def metric(self, usual: Metric) -> Metric:
        """See `Dataset`; it depends on the kind of target."""
        return METRICS[self.codec.target]

    # ---- training --------------------------------------------------------------------------------

    def build(self) -> SequenceModel:
        """See `Dataset`."""
        codec = self.codec
        model = SequenceModel(
            self.settings.model_config(
                codec.target,
                codec.input_size,
                len(codec.names),
                members=self.members,
                patch=codec.patch,
                row_size=codec.row_size,
            )
        )
        if self.settings.balance and not codec.numeric and "train" in self.parts.sets:
            model.class_weight.copy_(torch.from_numpy(self._class_weights()))
        return model

    def _class_weights(self) -> np.ndarray:
        """Of each class, by its rarity in training; of a label, negatives over positives."""
        values = self.target("train").array
        if self.codec.target == "labels":
            positive = np.nansum(values, 0)
            ratio = (len(values) - positive) / np.maximum(positive, 1)
            return np.clip(ratio, 1, MAX_WEIGHT).astype(np.float32)
        counts = np.bincount(values[values >= 0], minlength=len(self.codec.names))
        return np.clip(counts.max() / np.maximum(counts, 1), 1, MAX_WEIGHT).astype(np.float32)

    def batches(self, seed: int) -> Iterator[SequenceBatch]:
        """See `Dataset`."""
        return self._batches.epoch(seed)

    @cached_property
    def _batches(self) -> TrainingBatches:
        return self._make_batches()

    def _make_batches(self) -> TrainingBatches:
        part, codec, settings = self.part("train"), self.codec, self.settings
        weight = np.ones((len(part), self.members))
        if self.parts.left_out is not None:
            weight[self._validated, self.parts.left_out[self._validated]] = 0
        rows, static = self._training_rows("train"), list(static_rows(part))
        targets = codec.scaled_target(self.target("train"))
        if self.parts.unknown and isinstance(targets, np.ndarray):
            others = self.part(f"{UNKNOWN}train")
            rows = [*rows, *self._training_rows(f"{UNKNOWN}train")]
            static = [*static, *static_rows(others)]
            targets = np.concatenate([targets, np.full(len(others), UNLABELLED)])
            weight = np.concatenate([weight, np.ones((len(others), self.members))])
        return TrainingBatches(
            codec,
            rows,
            [codec.static_inputs(own) for own in static],
            targets,
            weight,
            batch=settings.batch,
            window=settings.window,
            warm_up=settings.warm_up,
            how=LEVELS[settings.augment or "none"],
        )

    def validate(self, model: SequenceModel) -> Metrics:
        """See `Dataset`: the metrics, and the loss."""
        prediction = self.predictions(model, "valid")
        found = metrics.evaluate(self.target("valid"), prediction)
        return {LOSS: self._loss(prediction, self.target("valid")), **_finite(found)}

    def _loss(self, prediction: Prediction, target: Target) -> float:
        """Nats of the true class, or label; CRPS in standard deviations of the target."""
        p = prediction if isinstance(prediction, np.ndarray) else np.concatenate(prediction)
        values = target.array
        if self.codec.numeric:
            scale = np.array(self.codec.target_std)
            error = (values[..., None] - p) / scale[:, None]
            levels = np.array(quantile_levels(p.shape[-1]))
            return float(np.nanmean(2 * np.maximum(levels * error, (levels - 1) * error)))
        p = np.clip(p, 1e-7, 1.0)
        if self.codec.target == "labels":
            return float(-np.mean(np.log(np.where(values > 0.5, p, np.maximum(1 - p, 1e-7)))))
        known = values >= 0
        return float(-np.mean(np.log(p[known, values[known]])))

    def calibrate(self, model: SequenceModel) -> None:
        """See `Dataset`: the temperature or the width of intervals, the mixture, the threshold of
        an early answer and the probability below which a class is unknown.

        Where members leave out sequences, the temperature of classes is at most 1: each sequence is
        validated by one member, and their average is less certain than one.
        """
        from memorycell.applications.sequences.mixing import held_out_paths, mix

        if len(self.part("valid")) >= MIN_CALIBRATION or self.codec.every_step:
            self._fit_temperature(model)
        fitted = mix(self, model)
        if self.codec.target == "class" and not self.settings.bidirectional:
            model.sure.fill_(fit_threshold(*held_out_paths(self, model, fitted)))
        if self.parts.unknown:
            p = self._unknown_p(model, "valid")
            below = fit_unknown_threshold(p, self.settings.false_acceptance)
            self.codec = dataclasses.replace(self.codec, unknown_below=below)

    def unknown_inputs(self, split: str) -> list[np.ndarray]:
        """The inputs of the sequences of none of the classes; none where no class is unknown."""
        return self.inputs(f"{UNKNOWN}{split}") if self.parts.unknown else []

    def _unknown_p(
        self, model: SequenceModel, split: str, precision: str = "float32"
    ) -> np.ndarray:
        """The highest probability of each of those sequences [N]."""
        found = answers(model, self.codec, self.unknown_inputs(split), precision)
        return np.asarray(found).max(1)

    def _fit_temperature(self, model: SequenceModel) -> None:
        model.temperature.fill_(1.0)
        prediction, target = self.predictions(model, "valid"), self.target("valid")
        p = prediction if isinstance(prediction, np.ndarray) else np.concatenate(prediction)
        if self.codec.numeric:
            unit = np.array(self.codec.target_std)
            model.temperature.fill_(conformal_scale(p, target.array, unit))
            return
        labels = self.codec.target == "labels"
        losses = [self._loss(at_temperature(p, t, labels=labels), target) for t in SPREADS]
        best = float(SPREADS[int(np.argmin(losses))])
        if self.parts.left_out is not None:
            best = min(best, 1.0)
        model.temperature.fill_(best)

    # ---- evaluation ------------------------------------------------------------------------------

    @property
    def left_out(self) -> np.ndarray | None:
        """Of each training sequence, the member that leaves it out; None where none does."""
        return self.parts.left_out

    @property
    def own_member(self) -> list[int] | None:
        """The same of the sequences of "valid"."""
        left_out = self.parts.left_out
        return None if left_out is None else [int(k) for k in left_out[self._validated]]

    def predictions(
        self, model: SequenceModel, split: str, precision: str = "float32"
    ) -> Prediction:
        """The answers to the sequences of a part; see `answering.Prediction`."""
        own = self.own_member
        if split == "valid" and own is not None:
            outputs = left_out_outputs(model, self.inputs("valid"), own)
            found = [self.codec.answers(y) for y in outputs]
            return found if self.codec.every_step else np.stack(found)
        return answers(model, self.codec, self.inputs(split), precision)

    def evaluate(self, model: SequenceModel, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`; of classes also `early_accuracy` and `seen`: the accuracy of a decision as
        soon as the answer is sure, and the share of a sequence that is read for it; and where there
        are unknown classes, `false_acceptance` and `false_rejection`: the share of their sequences
        that get a label, and of the others that get none.
        """
        prediction = self.predictions(model, split, precision)
        found = metrics.evaluate(self.target(split), prediction)
        if split == "test" and self._can_be_early(model):
            early = self.early(model, split)
            found |= {"early_accuracy": early.accuracy, "seen": early.seen}
        below = self.codec.unknown_below
        if split == "test" and self.parts.unknown and below:
            assert isinstance(prediction, np.ndarray)
            accepted = self._unknown_p(model, split, precision) >= below
            found["false_acceptance"] = float(accepted.mean())
            found["false_rejection"] = float((prediction.max(1) < below).mean())
        return _finite(found)

    def _can_be_early(self, model: SequenceModel) -> bool:
        return self.codec.target == "class" and not model.config.bidirectional

    def early(self, model: SequenceModel, split: str) -> Early:
        """Decisions on a part as soon as the answer is sure."""
        paths = answers_over_time(model, self.codec, self.inputs(split))
        return decide(paths, self.target(split).array, float(model.sure))

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`: none without the training part. Where members leave out sequences, the
        baselines are validated on those that the first member leaves out.
        """
        if "train" not in self.parts.sets:
            return {}
        left_out = self.parts.left_out
        if split == "valid" and left_out is not None:
            from memorycell.applications.sequences.baselines import fit

            train = self.parts.sets["train"]
            fitted = fit(train.select(left_out != 0))
            return fitted.evaluate(train.select(left_out == 0))
        return self._fitted_baselines.evaluate(self.part(split))

    @cached_property
    def _fitted_baselines(self) -> Baselines:
        from memorycell.applications.sequences.baselines import fit

        fitted = fit(self.parts.uncut or self.part("train"))
        self.notes += [note for note in fitted.notes if note not in self.notes]
        return fitted

    def details(self, model: SequenceModel, split: str) -> Record:
        """See `Dataset`: the confusion matrix, and the metrics by class and group."""
        part = self.part(split)
        prediction = self.predictions(model, split)
        target, found = self.target(split), Record()
        if self.codec.target in ("class", "step_class"):
            table = metrics.confusion(target, prediction)
            if len(table) <= MAX_CONFUSION_CLASSES:
                found["confusion"] = table
        if not self.codec.numeric:
            found["per_class"] = metrics.per_class(target, prediction)
        if part.groups is not None and len(set(part.groups)) <= MAX_GROUPS:
            found["per_group"] = metrics.per_group(target, prediction, part.groups)
        if self.codec.target == "step_number" and len(part) <= MAX_GROUPS:
            found["per_sequence"] = metrics.per_group(target, prediction, part.names)
        if self._can_be_early(model):
            found["sure"] = float(model.sure)
        return found

    # ---- samples ---------------------------------------------------------------------------------

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`: the inputs of the test sequences one after another."""
        return np.concatenate(self.inputs("test"))[:steps]

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": self.parts.sizes(),
            "settings": dataclasses.asdict(self.settings),
        }


def _finite(found: Metrics) -> Metrics:
    """The metrics that are numbers: an area under a curve needs two classes."""
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}
