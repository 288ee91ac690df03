"""The dataset of speech and handwriting: features of labelled examples."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from memorycell.application.contract import Dataset, Metrics, Record
from memorycell.errors import DataError
from memorycell.language.codec import fingerprint
from memorycell.models.batches import PaddedBatch, by_length, padded
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.reading import Losses
from memorycell.signals import ctc
from memorycell.signals.baselines import constant_text, frequent_words, majority_class
from memorycell.signals.codec import SignalCodec, min_ctc_steps
from memorycell.signals.drawings import shown_name
from memorycell.signals.examples import Example, R, Splits
from memorycell.signals.lexicon import lexicon_search
from memorycell.signals.recognise import SignalModel
from memorycell.signals.settings import SignalSettings
from memorycell.signals.transcriber import Transcriber
from memorycell.signals.unknown import describe_unknown, fit_threshold
from memorycell.training import metrics

SEARCH_WEIGHTS = [(weight, bonus) for weight in (0.5, 1.0, 1.5) for bonus in (-1.0, 0.0, 1.0)]
"""Candidates for the language model weight and the word bonus of the lexicon search."""
MAX_SEARCH_EXAMPLES = 60
"""Validation examples on which they are compared."""
MAX_CONFUSION_CLASSES = 20
MAX_DETAILS = 12
"""Examples or confusions among the details."""
EVALUATION_BUDGET = 16_000
"""Steps per batch in evaluation."""

C = TypeVar("C", bound=SignalCodec)


class SignalDataset(Dataset[SignalModel, PaddedBatch], Generic[R, C]):
    """Labelled examples by split, and the codec that encodes them.

    An application implements `encode`, `augment` and `fit_dtw`.

    unknown   examples of classes without a label, by split, or none; see `signals.unknown`
    """

    codec: C
    settings: SignalSettings

    def __init__(
        self,
        name: str,
        splits: Splits[R],
        codec: C,
        settings: SignalSettings,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.classes = codec.text is None
        self.notes = list(notes)
        self.unknown: Splits[R] = {}
        self._unknown_features: dict[str, list[np.ndarray]] = {}
        self.splits: Splits[R] = {}
        self.features: dict[str, list[np.ndarray]] = {}
        too_short: list[str] = []
        for split, examples in splits.items():
            pairs = [(example, self.encode(example)) for example in examples]
            too_short += [e.name for e, x in pairs if not self._long_enough(x, e)]
            pairs = [(e, x) for e, x in pairs if self._long_enough(x, e)]
            self.splits[split] = [e for e, _ in pairs]
            self.features[split] = [x for _, x in pairs]
        total = sum(map(len, splits.values()))
        if too_short:
            losses = Losses("examples")
            first = f"too short for their label (the first: {shown_name(too_short[0])})"
            losses.skip(first, len(too_short))
            losses.check(total, shown_name(name), settings.lossy)
            self.notes += losses.notes(total)
        for split, examples in self.splits.items():
            if not examples:
                raise DataError(f"{name}: no example is left in the {split} split; see the notes")
        self.fingerprint = fingerprint(
            f"{e.name}\t{e.label}" for examples in splits.values() for e in examples
        )

    def _long_enough(self, x: np.ndarray, example: Example[R]) -> bool:
        if self.classes or len(x) == 0:
            return len(x) > 0
        return len(x) >= min_ctc_steps(self.codec.targets(example.label))

    # ---- for the application to implement --------------------------------------------------------

    @abstractmethod
    def encode(self, example: Example[R]) -> np.ndarray:
        """Features [T, F] float32."""

    @abstractmethod
    def augment(self, example: Example[R], rng: np.random.Generator) -> np.ndarray:
        """Features of a randomly modified example, for training."""

    def substitute(self, example: Example[R], rng: np.random.Generator) -> Example[R]:
        """The training example, or a synthetic one to train on instead, before `augment`."""
        return example

    @abstractmethod
    def fit_dtw(self) -> Callable[[str], np.ndarray]:
        """Fit a nearest-neighbour DTW classifier; returns split -> classes [N] int64."""

    # ---- training and evaluation -----------------------------------------------------------------

    def build(self) -> SignalModel:
        """See `Dataset`: a classifier or a transcriber."""
        config = self.settings.model_config(
            self.codec.input_size, self.codec.output_size, classes=self.classes
        )
        return Classifier(config) if isinstance(config, ClassifierConfig) else Transcriber(config)

    def labels(self, split: str) -> list[str]:
        """The class names or transcripts of a split."""
        return [example.label for example in self.splits[split]]

    @cached_property
    def truth(self) -> dict[str, np.ndarray]:
        """Split -> classes [N] int64."""
        return {
            split: np.array([self._class_ids[e.label] for e in examples], np.int64)
            for split, examples in self.splits.items()
        }

    @cached_property
    def _class_ids(self) -> dict[str, int]:
        return {label: k for k, label in enumerate(self.codec.labels)}

    def batches(self, seed: int) -> Iterator[PaddedBatch]:
        """See `Dataset`: augmented examples of similar length."""
        unknown = self.unknown.get("train", [])
        examples = [*self.splits["train"], *unknown]
        features = [*self.features["train"], *self._unknown_features.get("train", [])]
        lengths = np.array([len(x) for x in features])
        for rows in by_length(lengths, self.settings.budget, seed):
            batch, labels = [], []
            for k in rows:
                rng = np.random.default_rng((seed, int(k)))
                example = self.substitute(examples[k], rng)
                x = self.augment(example, rng)
                if self._long_enough(x, example):
                    batch.append(x)
                    labels.append(example.label)
            if batch:
                yield self._batch(batch, labels)

    def _batch(self, features: Sequence[np.ndarray], labels: Sequence[str]) -> PaddedBatch:
        x, lengths = padded(features)
        if self.classes:
            one_hot = np.eye(len(self.codec.labels), dtype=np.float32)
            any_class = np.full(len(one_hot), 1 / len(one_hot), np.float32)
            rows = [
                one_hot[self._class_ids[label]] if label in self._class_ids else any_class
                for label in labels
            ]
            target = torch.from_numpy(np.stack(rows))
        else:
            target, _ = padded([np.array(self.codec.targets(t), np.int64) for t in labels])
        return PaddedBatch(x, lengths, target)

    @torch.inference_mode()
    def log_p(self, model: SignalModel, split: str, precision: str = "float32") -> list[np.ndarray]:
        """Log-probabilities of every example: [classes], or per step [T, V].

        At a lower precision the model runs step by step, as a session does.
        """
        return self._log_p(model, self.features[split], precision)

    @torch.inference_mode()
    def unknown_p(self, model: SignalModel, split: str, precision: str = "float32") -> np.ndarray:
        """The probability of the best class of every unknown example [N]."""
        log_p = self._log_p(model, self._unknown_features[split], precision)
        return np.exp(np.array(log_p).max(1))

    def _log_p(
        self, model: SignalModel, features: Sequence[np.ndarray], precision: str
    ) -> list[np.ndarray]:
        model.eval()
        if precision != "float32":
            stepper = model.stepper(precision)
            zeros = np.zeros((1, stepper.layout.width), np.float32)
            stepped = [stepper.step_one(zeros.copy(), 0, x)[0] for x in features]
            return [y[-1] for y in stepped] if self.classes else stepped
        run = model.classify if isinstance(model, Classifier) else model.transcribe
        results: list[np.ndarray] = [np.zeros(0)] * len(features)
        for rows in by_length(np.array([len(x) for x in features]), EVALUATION_BUDGET, 0):
            x, lengths = padded([features[k] for k in rows])
            for k, y, length in zip(rows, run(x, lengths).numpy(), lengths.tolist(), strict=True):
                results[k] = y if self.classes else y[:length]
        return results

    def evaluate(self, model: SignalModel, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`. Transcripts are decoded greedily; on "test" also by lexicon search."""
        log_p = self.log_p(model, split, precision)
        if isinstance(model, Classifier):
            result = metrics.classification_metrics(self.truth[split], np.array(log_p))
            if self.unknown and self.codec.unknown_below:
                below = self.codec.unknown_below
                accepted = self.unknown_p(model, split, precision) >= below
                result["false_acceptance"] = float(accepted.mean())
                result["false_rejection"] = float((np.exp(np.array(log_p).max(1)) < below).mean())
            return result
        transcripts = self.labels(split)
        result = metrics.transcription_metrics(transcripts, [self.greedy_text(p) for p in log_p])
        targets = [np.array(self.codec.targets(text), np.int64) for text in transcripts]
        nats = sum(_ctc_nats(p, target) for p, target in zip(log_p, targets, strict=True))
        result["log_loss"] = nats / max(1, sum(map(len, targets)))
        weight, bonus = model.search.tolist()
        if split == "test" and weight >= 0:
            search = lexicon_search(self.codec, weight, bonus)
            searched = metrics.transcription_metrics(transcripts, [search.decode(p) for p in log_p])
            result |= {f"{name}_searched": searched[name] for name in ("cer", "wer")}
        return result

    def greedy_text(self, log_p: np.ndarray) -> str:
        """The text of log_p [T, V] by greedy decoding."""
        return ctc.letters_to_text(self.codec, ctc.greedy_letters(log_p))

    def calibrate(self, model: SignalModel) -> None:
        """See `Dataset`: the temperature of a classifier and the probability below which its answer
        is "unknown"; the search weights of a transcriber.
        """
        if isinstance(model, Classifier):
            model.head.temperature.fill_(1.0)
            log_p = torch.from_numpy(np.array(self.log_p(model, "valid")))
            model.head.calibrate(log_p.float(), torch.from_numpy(self.truth["valid"]))
            if self.unknown:
                p = self.unknown_p(model, "valid")
                below = fit_threshold(p, self.settings.false_acceptance)
                self.codec = dataclasses.replace(self.codec, unknown_below=below)
        else:
            model.search.copy_(torch.tensor(self._select_search(model)))

    def _select_search(self, model: Transcriber) -> tuple[float, float]:
        """The best of `SEARCH_WEIGHTS`; (-1, 0) where greedy decoding makes fewer errors."""
        log_p = self.log_p(model, "valid")[:MAX_SEARCH_EXAMPLES]
        transcripts = self.labels("valid")[:MAX_SEARCH_EXAMPLES]

        def error(decode: Callable[[np.ndarray], str]) -> float:
            return metrics.transcription_metrics(transcripts, [decode(p) for p in log_p])["cer"]

        errors = {w: error(lexicon_search(self.codec, *w).decode) for w in SEARCH_WEIGHTS}
        best = min(errors, key=errors.__getitem__)
        return best if errors[best] < error(self.greedy_text) else (-1.0, 0.0)

    def details(self, model: SignalModel, split: str) -> Record:
        """See `Dataset`: decoded examples, or the confusion matrix or the frequent confusions."""
        log_p = self.log_p(model, split)
        if not self.classes:
            pairs = list(zip(self.splits[split], log_p, strict=True))[:MAX_DETAILS]
            return {
                "examples": [
                    {"source": e.name, "ours": self.greedy_text(p), "wanted": e.label}
                    for e, p in pairs
                ]
            }
        table = metrics.labelled_confusion(self.truth[split], np.array(log_p), self.codec.labels)
        if len(self.codec.labels) <= MAX_CONFUSION_CLASSES:
            return {"confusion": table}
        return {"mistaken": frequent_confusions(table)}

    def split_sizes(self) -> str:
        """The number of examples of every split, for notes."""
        return ", ".join(f"{len(examples):,} {name}" for name, examples in self.splits.items())

    def set_unknown(self, unknown: Splits[R]) -> None:
        """Examples of classes that the model does not learn, with a note; those without a step are
        left out. Raises `DataError` for a split without any.
        """
        for split, examples in unknown.items():
            pairs = [(e, x) for e in examples if len(x := self.encode(e))]
            if not pairs:
                raise DataError(f"{self.name}: every unknown example for {split} is too short")
            self.unknown[split] = [e for e, _ in pairs]
            self._unknown_features[split] = [x for _, x in pairs]
        if unknown:
            self.notes.append(describe_unknown(self.unknown))

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`: the features of the test examples one after another."""
        return np.concatenate(self.features["test"])[:steps]

    def inspection_input(self) -> np.ndarray:
        """The features [T, F] of the longest test example."""
        return max(self.features["test"], key=len)

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(examples) for split, examples in self.splits.items()},
            "settings": dataclasses.asdict(self.settings),
        }

    # ---- baselines -------------------------------------------------------------------------------

    @cached_property
    def _dtw(self) -> Callable[[str], np.ndarray]:
        return self.fit_dtw()

    @cached_property
    def _frequent_words(self) -> str:
        return frequent_words(self.labels("train"))

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`: none without the training split."""
        if "train" not in self.splits:
            return {}
        if not self.classes:
            return {"most frequent words": constant_text(self.labels(split), self._frequent_words)}
        truth = self.truth[split]
        answers = {
            "most frequent": majority_class(self.truth["train"], len(truth)),
            "nearest (dtw)": self._dtw(split),
        }
        return {
            name: metrics.prediction_metrics(truth, answer, len(self.codec.labels))
            for name, answer in answers.items()
        }


def frequent_confusions(table: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """The most frequent errors of a confusion matrix."""
    errors = [(n, a, b) for a, row in table.items() for b, n in row.items() if a != b and n]
    return [
        {"was": a, "read": b, "times": n}
        for n, a, b in sorted(errors, key=lambda error: (-error[0], error[1:]))[:MAX_DETAILS]
    ]


def _ctc_nats(log_p: np.ndarray, target: np.ndarray) -> float:
    """Negative log-likelihood of a target given log_p [T, V]."""
    lengths = torch.tensor([len(log_p)]), torch.tensor([len(target)])
    tokens = torch.from_numpy(target)[None]
    return float(F.ctc_loss(torch.from_numpy(log_p)[:, None], tokens, *lengths, reduction="sum"))
