"""Labelled texts as tokens: training, evaluation and baselines."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from memorycell.application import modelfile
from memorycell.application.contract import Dataset, Metrics, ModelFile, Record
from memorycell.application.datasets import locate
from memorycell.applications.sentiment.baselines import TfIdf, class_frequencies
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.examples import Example, Examples, label_counts
from memorycell.applications.sentiment.labels import label_list, one_label, unify_labels
from memorycell.applications.sentiment.limits import Limits, fit_limits
from memorycell.applications.sentiment.mixing import Mixture, fit_mixture
from memorycell.applications.sentiment.negation import negated_examples
from memorycell.applications.sentiment.reading import ReadOptions, read_examples
from memorycell.applications.sentiment.settings import SentimentSettings
from memorycell.applications.sentiment.unknown_texts import separate_texts
from memorycell.errors import DataError, UserError, quote
from memorycell.language.codec import UNKNOWN_ID, TextCodec, fingerprint, fit_text_codec
from memorycell.language.model import LanguageModel
from memorycell.models.batches import PaddedBatch, by_length, padded
from memorycell.models.classifier import Classifier
from memorycell.reading import Losses
from memorycell.signals.unknown import fit_threshold
from memorycell.training import metrics

DEFAULT_DATASET = "sst"
HEAD_ONLY_EPOCHS = 1
"""Epochs in which only the head of a model with initial language model layers is trained."""
MAX_CLASSES = 200
MIN_TEXTS = 5
UNBALANCED = 1.5
"""Ratio of class frequencies above which balance=auto weights the classes."""
SMALLEST = 1e-30
"""Probability of which a logarithm is taken."""
ROUNDING = 1e-5
"""Of a probability: texts are classified in other batches, and the limit is saved in float32."""
EVALUATION_BUDGET = 16_000
"""Steps per batch in evaluation."""


class SentimentDataset(Dataset[Classifier, PaddedBatch]):
    """Labelled texts by split, and their tokens."""

    codec: LabelledCodec

    def __init__(
        self,
        name: str,
        examples: dict[str, Examples],
        codec: LabelledCodec,
        settings: SentimentSettings,
        initial_model: LanguageModel | None = None,
        added: Sequence[Example] = (),
        unknown: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`added`: further training examples; `unknown`: texts without a label, by split."""
        self.name, self.examples, self.codec, self.settings = name, examples, codec, settings
        self.initial_model = initial_model
        self.notes: list[str] = []
        self.fingerprint = fingerprint(
            f"{e.text}\t{e.label}\t{e.confidence}" for part in examples.values() for e in part
        )
        self.limits, self.mixture = Limits(), Mixture()
        class_of = {label: k for k, label in enumerate(codec.labels)}
        self.trained_on = [*examples.get("train", []), *added]
        examples = {**examples, **({"train": self.trained_on} if added else {})}
        self.truth = {
            split: np.array([class_of[e.label] for e in part], np.int64)
            for split, part in examples.items()
        }
        self.unknown = unknown or {}
        self.tokens = {
            split: self._tokens([e.text for e in part]) for split, part in examples.items()
        }
        self._unknown_tokens = {split: self._tokens(part) for split, part in self.unknown.items()}

    def _tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        encode = self.codec.text.encode
        return [np.array(encode(text) or [UNKNOWN_ID], np.int64) for text in texts]

    @cached_property
    def tfidf(self) -> TfIdf | None:
        """A baseline; None without training texts."""
        if "train" not in self.examples:
            return None
        certain = np.array([e.is_certain for e in self.examples["train"]])
        texts = [e.text for e in self.examples["train"] if e.is_certain]
        valid = [e.text for e in self.examples["valid"]]
        truth = self.truth["train"][: len(certain)][certain]
        return TfIdf(texts, truth, valid, self.truth["valid"])

    def build(self) -> Classifier:
        """See `Dataset`: with class weights, and the layers of the initial model."""
        model = Classifier(self.settings.model_config(len(self.codec.text), len(self.codec.labels)))
        balance, counts = self.settings.balance, self._class_counts("train")
        unbalanced = counts.max() > UNBALANCED * max(counts.min(), 1)
        if counts.all() and (balance == "yes" or (balance == "auto" and unbalanced)):
            weights = counts.sum() / (len(counts) * counts)
            weights = np.sqrt(weights) if balance == "auto" else weights
            model.class_weight.copy_(torch.from_numpy(weights))
        for network in model.networks:
            if self.initial_model is not None and network.embedding is not None:
                network.embedding.load_state_dict(self.initial_model.embedding.state_dict())
                network.recurrent.load_state_dict(self.initial_model.recurrent.state_dict())
        return model

    def _class_counts(self, split: str) -> np.ndarray:
        """[classes] int64."""
        counts = label_counts(self.examples.get(split, []))
        return np.array([counts.get(label, 0) for label in self.codec.labels])

    def batches(self, seed: int) -> Iterator[PaddedBatch]:
        """See `Dataset`: texts of similar length, targets [B, classes] float32 of probabilities,
        equal ones of a text without a label.
        """
        tokens, classes = self.tokens["train"], len(self.codec.labels)
        p = np.array([e.confidence for e in self.trained_on], np.float32)[:, None]
        one_hot = np.eye(classes, dtype=np.float32)[self.truth["train"]]
        target = (one_hot * p + (1 - one_hot) * (1 - p) / (classes - 1)).astype(np.float32)
        if unknown := self._unknown_tokens.get("train"):
            tokens = [*tokens, *unknown]
            equal = np.full((len(unknown), classes), 1 / classes, np.float32)
            target = np.concatenate([target, equal])
        for rows in by_length(np.array([len(t) for t in tokens]), self.settings.budget, seed):
            x, lengths = padded([tokens[k] for k in rows])
            yield PaddedBatch(x, lengths, torch.from_numpy(target[rows]))

    def frozen_parameters(self, epoch: int) -> tuple[str, ...]:
        """See `Dataset`: the initial layers at first (Howard & Ruder 2018, arXiv:1801.06146)."""
        if self.initial_model is not None and epoch < HEAD_ONLY_EPOCHS:
            others = [f"others.{k}." for k in range(self.settings.members - 1)]
            return tuple(
                f"{at}{name}" for at in ("", *others) for name in ("embedding", "recurrent")
            )
        return ()

    def p(self, model: Classifier, split: str) -> np.ndarray:
        """Probabilities [N, classes] float64 of a split, with the linear model where it is mixed
        in.
        """
        return self.mixture.mix(np.exp(self.log_p(model, split)), self._texts(split))

    def _texts(self, split: str) -> list[str]:
        return [e.text for e in self.examples[split]]

    @torch.inference_mode()
    def log_p(self, model: Classifier, split: str) -> np.ndarray:
        """Log-probabilities [N, classes] float64 of a split by the network alone."""
        return self._log_p(model, self.tokens[split])

    @torch.inference_mode()
    def _log_p(self, model: Classifier, tokens: list[np.ndarray]) -> np.ndarray:
        model.eval()
        log_p = np.empty((len(tokens), len(self.codec.labels)))
        for rows in by_length(np.array([len(t) for t in tokens]), EVALUATION_BUDGET, 0):
            log_p[rows] = model.classify(*padded([tokens[k] for k in rows])).numpy()
        return log_p

    def evaluate(self, model: Classifier, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`."""
        p = self.p(model, split)
        result = metrics.classification_metrics(self.truth[split], np.log(np.maximum(p, SMALLEST)))
        if (below := self.limits.unknown_below) and self._unknown_tokens.get(split):
            accepted = self._unknown_p(model, split) >= below
            result["false_acceptance"] = float(accepted.mean())
            result["false_rejection"] = float((p.max(1) < below).mean())
        return result

    def _unknown_p(self, model: Classifier, split: str) -> np.ndarray:
        """The probability of the best label of every text without one [N]."""
        p = np.exp(self._log_p(model, self._unknown_tokens[split]))
        return np.asarray(self.mixture.mix(p, list(self.unknown[split])).max(1))

    def calibrate(self, model: Classifier) -> None:
        """See `Dataset`: the temperature of the head, the mixture, and the limits."""
        model.head.temperature.fill_(1.0)
        model.head.calibrate(
            torch.from_numpy(self.log_p(model, "valid")).float(),
            torch.from_numpy(self.truth["valid"]),
        )
        shares = np.array([float((t == UNKNOWN_ID).mean()) for t in self.tokens["valid"]])
        if self.settings.mix and self.tfidf is not None:
            self.mixture, note = fit_mixture(
                self.tfidf,
                np.exp(self.log_p(model, "valid")),
                self._texts("valid"),
                self.truth["valid"],
            )
            self.notes.append(note)
        self.limits, note = fit_limits(self.p(model, "valid"), self.truth["valid"], shares)
        self.notes.append(note)
        if self._unknown_tokens.get("valid"):
            unknown = self._unknown_p(model, "valid")
            below = fit_threshold(unknown, self.settings.false_acceptance)
            below = min(below + ROUNDING, 1.0)  # texts of unknown words alone have equal values
            self.limits = dataclasses.replace(self.limits, unknown_below=below)
            self.notes.append(
                f'below a probability of {below:.2f} the answer is "unknown": of'
                f" {(self.p(model, 'valid').max(1) < below).mean():.0%} of the validation texts"
                f" and all but {(unknown >= below).mean():.0%} of those without a label"
            )

    def arrays(self) -> dict[str, torch.Tensor]:
        """See `Dataset`: the limits, and the linear model where it is mixed in."""
        return {**self.limits.arrays(), **self.mixture.arrays()}

    def details(self, model: Classifier, split: str) -> Record:
        """See `Dataset`: the confusion matrix."""
        log_p = self.p(model, split)
        return {
            "confusion": metrics.labelled_confusion(self.truth[split], log_p, self.codec.labels)
        }

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`: token ids [T, 1]."""
        return np.concatenate(self.tokens["test"])[:steps, None].astype(np.float32)

    def inspection_input(self) -> str:
        """The longest test text."""
        return max((e.text for e in self.examples["test"]), key=len)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        truth = self.truth[split]
        counts = self._class_counts("train" if "train" in self.examples else split)
        log_p = {"most frequent": class_frequencies(counts, len(truth))}
        if self.tfidf is not None:
            log_p["tf-idf"] = self.tfidf.log_probabilities([e.text for e in self.examples[split]])
        return {name: metrics.classification_metrics(truth, value) for name, value in log_p.items()}

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.examples.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def prepare(data: str | None, settings: SentimentSettings) -> SentimentDataset:
    """See `Application`. The labels and the vocabulary are those of the training split."""
    examples, name, notes = _read(data or DEFAULT_DATASET, settings)
    examples, spellings = unify_labels(examples)
    examples, unknown_texts, found = separate_texts(
        examples, settings.unknown, name, settings.encoding
    )
    notes += [*spellings, *found]
    counts = label_counts(examples["train"])
    if len(counts) < 2:
        raise DataError(f"{name}: {one_label(examples, counts)}; at least two are needed")
    if len(counts) > MAX_CLASSES:
        raise DataError(
            f"{name}: {len(counts)} different labels; is this the right column? --set label=COLUMN"
        )
    total = sum(map(len, examples.values()))
    examples, unseen = _with_labels(examples, set(counts))
    unseen.check(total, name, settings.lossy)
    notes += unseen.notes(total)
    for split, part in examples.items():
        if len(part) < MIN_TEXTS:
            raise DataError(
                f"{name}: too few texts: {len(part)} in the {split} split; add more rows"
            )
    negated = negated_examples(examples["train"]) if settings.negations else []
    if negated:
        notes.append(f"added to the training split: {len(negated):,} negated phrases")
    initial_model = None
    if settings.start is None:
        texts = [e.text for e in examples["train"]]
        codec = fit_text_codec(texts, settings.unit, vocabulary=settings.vocabulary, lower=True)
    else:
        settings, initial_model, codec = _from_language_model(settings, settings.start)
    labels = tuple(sorted(counts))
    dataset = SentimentDataset(
        name,
        examples,
        LabelledCodec(codec, labels),
        settings,
        initial_model,
        negated,
        unknown_texts,
    )
    unknown = float(np.concatenate([t == UNKNOWN_ID for t in dataset.tokens["valid"]]).mean())
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in examples.items())
    dataset.notes = [
        *notes,
        f"texts: {sizes}; labels: {label_list(counts)}",
        (
            f"vocabulary: {len(codec) - codec.num_special:,} {settings.unit}s; unknown in the"
            f" validation split: {unknown:.2%}"
        ),
    ]
    return dataset


def reopen(data: str | None, file: ModelFile[Classifier, LabelledCodec]) -> SentimentDataset:
    """See `Application`: the test split of the model's own data, or all texts of other data that
    are not in its training split. Texts with unknown labels are left out.
    """
    settings = file.typed_settings(SentimentSettings)
    examples, notes = _read_known(data or file.data, settings, file.codec.labels)
    note = "evaluated on the held-out test split"
    if data is not None:
        try:
            own = _read_known(file.data, settings, file.codec.labels)[0]
        except UserError as error:
            own = {}
            note = f"evaluated on all texts; the training data are not available ({error})"
        if own != examples:
            trained_on = {e.text for e in own.get("train", [])}
            given = [e for part in examples.values() for e in part]
            new = [e for e in given if e.text not in trained_on]
            note = note if not own else f"evaluated on {len(new):,} texts of other data"
            if len(new) < len(given):
                note += f"; left out: {len(given) - len(new):,} that the model was trained on"
            examples = {**own, "test": new}
    if not examples["test"]:
        raise DataError(
            f"{data}: no text with one of the model's labels"
            f" ({quote(', '.join(file.codec.labels))})"
        )
    apart: dict[str, list[str]] = {}
    if settings.unknown is not None and data in (None, file.data):
        own = unify_labels(_read(file.data, settings)[0], file.codec.labels)[0]
        _, apart, found = separate_texts(own, settings.unknown, file.data, settings.encoding)
        notes += found
    dataset = SentimentDataset(data or file.data, examples, file.codec, settings, unknown=apart)
    dataset.limits, dataset.mixture = Limits.of(file.arrays), Mixture.of(file.arrays)
    dataset.notes = [note, *notes]
    if data is None and dataset.fingerprint != file.fingerprint:
        dataset.notes.append(f"{file.data} has changed since the model was trained")
    return dataset


def _read_known(
    data: str, settings: SentimentSettings, labels: Sequence[str]
) -> tuple[dict[str, Examples], list[str]]:
    """(split -> examples with a model's labels, notes on the others)"""
    examples, spellings = unify_labels(_read(data, settings)[0], labels)
    examples, losses = _with_labels(examples, set(labels))
    total = sum(map(len, examples.values())) + sum(losses.skipped.values())
    return examples, [*spellings, *losses.notes(total)]


def _with_labels(
    examples: dict[str, Examples], labels: set[str]
) -> tuple[dict[str, Examples], Losses]:
    """(the examples with one of the labels, a count of the others)"""
    losses = Losses("texts")
    kept = {split: [e for e in part if e.label in labels] for split, part in examples.items()}
    others = Counter(e.label for part in examples.values() for e in part if e.label not in labels)
    if others:
        some = ", ".join(quote(label) for label, _ in others.most_common(3))
        losses.skip(f"labels without a training text: {some}", others.total())
    return kept, losses


def _read(data: str, settings: SentimentSettings) -> tuple[dict[str, Examples], str, list[str]]:
    """(split -> examples, name, notes) of a path or a named dataset."""
    path, named = locate(data)
    name = named.name if named else str(data)
    fields = {field.name for field in dataclasses.fields(ReadOptions)}
    options = ReadOptions(**{k: v for k, v in vars(settings).items() if k in fields})
    examples, notes = read_examples(path, name, options)
    return examples, name, notes


def _from_language_model(
    settings: SentimentSettings, path: str
) -> tuple[SentimentSettings, LanguageModel, TextCodec]:
    """(settings with the sizes of a language model, the model, its codec)."""
    file = modelfile.load(path)
    model, codec = file.model, file.codec
    if not (isinstance(model, LanguageModel) and isinstance(codec, TextCodec)):
        raise UserError(f"--set start={path}: expected a model of the task text, got {file.task}")
    settings = dataclasses.replace(
        settings,
        direction="forward",
        hidden=model.config.hidden_size,
        layers=model.config.num_layers,
        embedding=model.config.embedding_size,
        cell=model.config.cell,
        unit=codec.unit,
    )
    return settings, model, codec
