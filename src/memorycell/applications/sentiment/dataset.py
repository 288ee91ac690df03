"""sentiment: what a text is, one of a few labels; with the words that mattered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from memorycell.application import modelfile
from memorycell.application.contract import Dataset, Metrics
from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.applications.sentiment import codec as labelled
from memorycell.applications.sentiment.baselines import TfIdf
from memorycell.applications.sentiment.codec import Examples, LabelledCodec, counted
from memorycell.errors import DataError, UserError
from memorycell.language.codec import TextCodec, fingerprint, fit_text_codec
from memorycell.language.model import LanguageModel
from memorycell.models.batches import PaddedBatch, by_length, padded
from memorycell.models.classifier import POOLINGS, Classifier, ClassifierConfig
from memorycell.settings import check_choices, check_counts
from memorycell.training import metrics

HEAD_ALONE = 1
"""Epochs in which a model that starts from a language model trains its head alone."""


@dataclass(frozen=True)
class SentimentSettings:
    """What --set can say about a classifier of texts.

    text, label  the columns, where they are not found
    trees        of the Stanford treebank: binary (neutral sentences left out, neutral phrases half
                 of both) or five classes
    unit         word, piece or char; vocabulary: tokens at most
    direction    both ways, or "forward": can be run live, word by word
    pooling      attention, max or last
    pairs        a linear path of words and pairs of words beside the recurrent one: yes or no
    balance      classes count alike however rare (yes, no; "auto": where one is over 1.5 times as
                 frequent as another)
    start        a model file of the task `text` to start from: its codec, embedding and layers
                 (reads forward only)
    budget       steps in a batch, padding included
    """

    text: str | None = None
    label: str | None = None
    trees: str = "binary"
    unit: str = "word"
    vocabulary: int = 20_000
    direction: str = "both"
    pooling: str = "attention"
    pairs: str = "yes"
    balance: str = "auto"
    start: str | None = None
    cell: str = "lstm"
    hidden: int = 128
    layers: int = 1
    embedding: int = 128
    dropout: float = 0.5
    embedding_dropout: float = 0.0
    word_dropout: float = 0.1
    weight_drop: float = 0.0
    smoothing: float = 0.0
    budget: int = 4000

    def __post_init__(self) -> None:
        check_choices(
            self,
            direction=("both", "forward"),
            pooling=POOLINGS,
            balance=("auto", "yes", "no"),
            pairs=("yes", "no"),
            trees=("binary", "five"),
            unit=("word", "piece", "char"),
        )
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "budget")
        self.model_config(10, 2)  # says what is wrong with the rest

    def model_config(self, vocabulary: int, classes: int) -> ClassifierConfig:
        """The sizes of the model these settings ask for."""
        return ClassifierConfig(
            vocabulary=vocabulary,
            input_size=self.embedding,
            classes=classes,
            pooling=self.pooling,
            pairs=self.pairs == "yes",
            bidirectional=self.direction == "both",
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            embedding_dropout=self.embedding_dropout,
            word_dropout=self.word_dropout,
            weight_drop=self.weight_drop,
            smoothing=self.smoothing,
        )


class SentimentDataset(Dataset):
    """Texts with labels, split, as tokens."""

    def __init__(
        self,
        name: str,
        examples: dict[str, Examples],
        codec: LabelledCodec,
        settings: SentimentSettings,
        start: LanguageModel | None = None,
    ) -> None:
        self.name, self.examples, self.codec, self.settings, self.start = (
            name,
            examples,
            codec,
            settings,
            start,
        )
        self.notes: list[str] = []
        self.fingerprint = fingerprint(
            f"{e.text}\t{e.label}\t{e.sure}" for part in examples.values() for e in part
        )
        number = {label: k for k, label in enumerate(codec.labels)}
        self.truth = {
            s: np.array([number[e.label] for e in part], np.int64) for s, part in examples.items()
        }
        self.tokens = {
            s: [np.array(codec.text.encode(e.text) or [0], np.int64) for e in part]
            for s, part in examples.items()
        }

    @cached_property
    def words(self) -> TfIdf | None:
        """The simple method; None where the texts it learns from are not here."""
        if "train" not in self.examples:
            return None
        sure = np.array([e.sure > 0.5 for e in self.examples["train"]])
        texts, valid = (
            [e.text for e in self.examples["train"] if e.sure > 0.5],
            [e.text for e in self.examples["valid"]],
        )
        return TfIdf(texts, self.truth["train"][sure], valid, self.truth["valid"])

    # ---- what training asks for ------------------------------------------------------------------

    def build(self) -> Classifier:
        """A classifier sized by the settings; its layers those of the language model it starts
        from, if there is one.
        """
        model = Classifier(self.settings.model_config(len(self.codec.text), len(self.codec.labels)))
        known = counted(self.examples.get("train", []))
        counts = np.array([known.get(label, 0) for label in self.codec.labels])
        uneven = counts.max() > 1.5 * max(counts.min(), 1)
        if counts.all() and (
            self.settings.balance == "yes" or (self.settings.balance == "auto" and uneven)
        ):
            weights = counts.sum() / (len(counts) * counts)
            model.class_weight.copy_(
                torch.from_numpy(np.sqrt(weights) if self.settings.balance == "auto" else weights)
            )
        if self.start is not None and model.embedding is not None:
            model.embedding.load_state_dict(self.start.embedding.state_dict())
            model.recurrent.load_state_dict(self.start.recurrent.state_dict())
        return model

    def batches(self, seed: int) -> Iterator[PaddedBatch]:
        """The training texts, gathered by length."""
        tokens, classes = self.tokens["train"], len(self.codec.labels)
        sure = np.array([e.sure for e in self.examples["train"]], np.float32)[:, None]
        target = np.eye(classes, dtype=np.float32)[self.truth["train"]]
        target = (target * sure + (1 - target) * (1 - sure) / (classes - 1)).astype(np.float32)
        for rows in by_length(np.array([len(t) for t in tokens]), self.settings.budget, seed):
            x, lengths = padded([tokens[k] for k in rows])
            yield PaddedBatch(x, lengths, torch.from_numpy(target[rows]))

    def frozen_parameters(self, epoch: int) -> tuple[str, ...]:
        """Started from a language model, the head learns alone first (Howard & Ruder 2018,
        arXiv:1801.06146).
        """
        return ("embedding", "recurrent") if self.start is not None and epoch < HEAD_ALONE else ()

    @torch.inference_mode()
    def log_p(self, model: Classifier, split: str) -> np.ndarray:
        """[N, classes] of a split."""
        model.eval()
        tokens = self.tokens[split]
        out = np.empty((len(tokens), len(self.codec.labels)))
        for rows in by_length(np.array([len(t) for t in tokens]), 16_000, 0):
            out[rows] = model.classify(*padded([tokens[k] for k in rows])).numpy()
        return out

    def evaluate(self, model: Classifier, split: str, precision: str = "float32") -> Metrics:
        """The model's metrics on a split."""
        return metrics.classification_metrics(self.truth[split], self.log_p(model, split))

    def calibrate(self, model: Classifier) -> None:
        """Calibrate on the validation texts."""
        model.head.temperature.fill_(1.0)
        model.head.calibrate(
            torch.from_numpy(self.log_p(model, "valid")).float(),
            torch.from_numpy(self.truth["valid"]),
        )

    def details(self, model: Classifier, split: str) -> dict[str, Any]:
        """The confusion table."""
        return {
            "confusion": metrics.labelled_confusion(
                self.truth[split], self.log_p(model, split), self.codec.labels
            )
        }

    def sample(self, steps: int) -> np.ndarray:
        """Tokens [T, 1] of the test texts, one after another."""
        return np.concatenate(self.tokens["test"])[:steps, None].astype(np.float32)

    def inspection_input(self) -> str:
        """See `Dataset`: the longest text."""
        return max((e.text for e in self.examples["test"]), key=len)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The simple methods' metrics on a split."""
        truth = self.truth[split]
        known = counted(self.examples.get("train", self.examples[split]))
        learnt = np.array([known.get(label, 0) for label in self.codec.labels])
        shares = np.log(np.maximum(learnt, 1e-3) / learnt.sum())
        found = {
            "most frequent": metrics.classification_metrics(truth, np.tile(shares, (len(truth), 1)))
        }
        if self.words is not None:
            found["tf-idf"] = metrics.classification_metrics(
                truth, self.words.log_probabilities([e.text for e in self.examples[split]])
            )
        return found

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.examples.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def prepare(data: str | None, settings: SentimentSettings) -> SentimentDataset:
    """Read the texts, split them, and only then make the vocabulary, from the training part."""
    examples, where, notes = _read(data or "sst", settings)
    counts = counted(examples["train"])
    if len(counts) < 2:
        raise DataError(
            f"{where}: every text has the label {next(iter(counts), 'none')!r}; two labels or more"
            " are needed"
        )
    if len(counts) > 200:
        raise DataError(
            f"{where}: {len(counts)} different labels; is the right column named? --set"
            " label=COLUMN"
        )
    unseen = {e.label for split in ("valid", "test") for e in examples[split]} - set(counts)
    if unseen:
        notes.append(
            f"left out: labels too rare to be in the training part: {', '.join(sorted(unseen))}"
        )
        examples = {s: [e for e in part if e.label in counts] for s, part in examples.items()}
    for split, part in examples.items():
        if len(part) < 5:
            raise DataError(
                f"{where}: too few texts: {len(part)} in the {split} part; bring more rows"
            )
    start, codec = None, None
    if settings.start is not None:
        settings, start, codec = _started(settings)
    codec = codec or fit_text_codec(
        [e.text for e in examples["train"]],
        settings.unit,
        vocabulary=settings.vocabulary,
        lower=True,
    )
    dataset = SentimentDataset(
        where, examples, LabelledCodec(codec, tuple(sorted(counts))), settings, start
    )
    unknown = float(np.concatenate([t == 0 for t in dataset.tokens["valid"]]).mean())
    dataset.notes = [
        *notes,
        "texts: "
        + ", ".join(f"{len(part):,} {split}" for split, part in examples.items())
        + "; labels: "
        + ", ".join(f"{label} {n:,}" for label, n in counts.items()),
        (
            f"vocabulary: {len(codec) - codec.num_special:,} {settings.unit}s; unknown in the validation"
            f" part: {unknown:.2%}"
        ),
    ]
    return dataset


def reopen(data: str | None, file: ModelFile) -> SentimentDataset:
    """The same for a trained model. Its own data: the held-out test part. Other data: all of them."""
    settings: SentimentSettings = file.settings(SentimentSettings)
    trained, print_ = str(file.info["data"]), str(file.info["fingerprint"])
    known = set(file.codec.labels)

    def opened(name: str) -> dict[str, Examples]:
        examples = _read(name, settings)[0]
        return {s: [e for e in part if e.label in known] for s, part in examples.items()}

    examples, note = opened(data or trained), "scored: the held-out test part"
    if data is not None:
        try:
            own = opened(trained)
        except UserError as error:
            own, note = (
                {},
                (
                    "scored: all texts; no simple method beside it: what it learnt from is not"
                    f" here ({error})"
                ),
            )
        if own != examples:
            learnt = {e.text for e in own.get("train", [])}
            given = [e for part in examples.values() for e in part]
            fresh = [e for e in given if e.text not in learnt]
            note = note if not own else f"scored: {len(fresh):,} texts of another set"
            if len(fresh) < len(given):
                note += f"; {len(given) - len(fresh):,} left out that the model has learnt from"
            examples = {**own, "test": fresh}
    if not examples["test"]:
        raise DataError(
            f"{data}: no text with one of the model's labels ({', '.join(file.codec.labels)})"
        )
    dataset = SentimentDataset(data or trained, examples, file.codec, settings)
    dataset.notes = [note]
    if data is None and dataset.fingerprint != print_:
        dataset.notes.append(f"{trained} has changed since the model was trained")
    return dataset


def _read(data: str, settings: SentimentSettings) -> tuple[dict[str, Examples], str, list[str]]:
    path, source = locate(data)
    where = source.name if source else str(data)
    examples, notes = labelled.read_examples(
        path, where, text=settings.text, label=settings.label, trees=settings.trees
    )
    return examples, where, notes


def _started(settings: SentimentSettings) -> tuple[SentimentSettings, LanguageModel, TextCodec]:
    """The language model to start from; the settings with its sizes."""
    file = modelfile.load(settings.start or "")
    if not isinstance(file.model, LanguageModel):
        raise UserError(
            f"--set start={settings.start}: a model of the task text was expected, got"
            f" {file.info.get('task')}"
        )
    config = file.model.config
    sizes = {
        "hidden": config.hidden_size,
        "layers": config.num_layers,
        "embedding": config.embedding_size,
        "cell": config.cell,
        "unit": file.codec.unit,
    }
    return dataclasses.replace(settings, direction="forward", **sizes), file.model, file.codec
