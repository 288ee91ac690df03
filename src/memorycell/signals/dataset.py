"""What speech and handwriting share: sequences of features that people made, each with a class or a
text.
"""

from __future__ import annotations

import dataclasses
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from memorycell.application.contract import Dataset, Metrics
from memorycell.application.modelfile import ModelFile
from memorycell.errors import DataError, UserError
from memorycell.language.codec import fingerprint
from memorycell.models.batches import PaddedBatch, by_length, padded
from memorycell.models.classifier import POOLINGS, Classifier, ClassifierConfig
from memorycell.settings import check_choices, check_counts
from memorycell.signals import ctc
from memorycell.signals.codec import SignalCodec, frames_needed
from memorycell.signals.transcriber import Transcriber, TranscriberConfig
from memorycell.training import metrics
from memorycell.training.splits import SPLITS, part_of

FEW, OFTEN = 200, 3
"""Where what is said is one of so few, each so often in the mean, they are classes."""
SEARCHES = [(weight, bonus) for weight in (0.5, 1.0, 1.5) for bonus in (-1.0, 0.0, 1.0)]
"""What is tried on the validation texts: the language model's weight, and what a word earns."""
TRIED = 60
"""Validation texts that it is tried on."""
SHOWN = 12


@dataclass(frozen=True)
class Example:
    """`raw` is what the codec reads; `said` its class or text; `fields` where it comes from
    (writer, speaker, …).
    """

    raw: Any
    said: str
    name: str
    fields: Mapping[str, str] = field(default_factory=dict)


Parts = dict[str, list[Example]]


@dataclass(frozen=True)
class SignalSettings:
    """What --set can say about a model that reads signals.

    head         classes (one for the whole), text (CTC), or auto: classes where there are few and
                 each comes often
    held_out     what is tested on: "writer>15", "index<5", "group=theo" by a part of the examples'
                 names; where not said a share by a hash (of the text; for classes, of the name)
    checked      the same for what is validated on; where not said a share of the rest by a hash
    test_share   how large these shares are
    unit         of a text: char, or piece (a part of a word, learnt by sentencepiece); vocabulary:
                 at most so many
    direction    forward: can run live; both: reads both ways, better
    pooling      how a sequence becomes one vector: attention, max or last
    cell, hidden, layers   the recurrent part
    dropout, weight_drop, smoothing   probabilities
    budget       steps in a batch, padding included
    """

    head: str = "auto"
    held_out: str | None = None
    checked: str | None = None
    test_share: float = 0.1
    unit: str = "char"
    vocabulary: int = 200
    direction: str = "forward"
    pooling: str = "attention"
    cell: str = "lstm"
    hidden: int = 128
    layers: int = 2
    dropout: float = 0.3
    weight_drop: float = 0.0
    smoothing: float = 0.0
    budget: int = 1500

    def __post_init__(self) -> None:
        check_choices(
            self,
            head=("auto", "classes", "text"),
            direction=("forward", "both"),
            pooling=POOLINGS,
            unit=("char", "piece"),
        )
        check_counts(self, "vocabulary", "hidden", "layers", "budget")
        if not 0.02 <= self.test_share <= 0.34:
            raise ValueError(f"test_share={self.test_share}: expected 0.02 to 0.34")
        for rule in (self.held_out, self.checked):
            if rule is not None:
                Rule.read(rule)
        self.model_config(10, 3, classes=True)  # says what is wrong with the rest

    def model_config(
        self, inputs: int, outputs: int, *, classes: bool
    ) -> ClassifierConfig | TranscriberConfig:
        """The sizes of the model these settings ask for."""
        same: dict[str, Any] = {
            "input_size": inputs,
            "hidden_size": self.hidden,
            "cell": self.cell,
            "num_layers": self.layers,
            "dropout": self.dropout,
            "weight_drop": self.weight_drop,
            "bidirectional": self.direction == "both",
        }
        if classes:
            return ClassifierConfig(
                vocabulary=0,
                classes=outputs,
                pooling=self.pooling,
                smoothing=self.smoothing,
                **same,
            )
        return TranscriberConfig(vocabulary=outputs, **same)


@dataclass(frozen=True)
class Rule:
    """Which examples: those whose field is a value, below a number or above it."""

    field: str
    sign: str
    value: str

    @classmethod
    def read(cls, text: str) -> Rule:
        """Of "index<5", "writer>15" or "group=theo". Raises ValueError."""
        match = re.fullmatch(r"\s*(\w+)\s*([<>=])\s*(\S+)\s*", text)
        if match is None or (match[2] != "=" and not match[3].lstrip("-").isdigit()):
            raise ValueError(
                f"{text}: expected FIELD=VALUE, FIELD<NUMBER or FIELD>NUMBER, such as index<5"
            )
        return cls(match[1], match[2], match[3])

    def holds(self, example: Example) -> bool:
        """Raises `DataError` for an example without the field."""
        value = example.fields.get(self.field)
        if value is None or (self.sign != "=" and not value.lstrip("-").isdigit()):
            known = ", ".join(f"{k}={v}" for k, v in example.fields.items()) or "nothing"
            raise DataError(
                f"{example.name}: {self.field}{self.sign}{self.value} cannot be told; it has"
                f" {known}"
            )
        if self.sign == "=":
            return value == self.value
        return int(value) < int(self.value) if self.sign == "<" else int(value) > int(self.value)


def parted(
    examples: Sequence[Example], settings: SignalSettings, *, classes: bool, where: str
) -> Parts:
    """The examples in train, valid and test; see `SignalSettings`."""
    test, valid = (
        None if rule is None else Rule.read(rule) for rule in (settings.held_out, settings.checked)
    )
    parts: Parts = {split: [] for split in SPLITS}
    for example in examples:
        by_hash = part_of(example.name if classes else example.said, round(1 / settings.test_share))
        if by_hash == "test" and test is not None:
            by_hash = "train"
        if by_hash == "valid" and valid is not None:
            by_hash = "train"
        if test is not None and test.holds(example):
            parts["test"].append(example)
        elif valid is not None and valid.holds(example):
            parts["valid"].append(example)
        else:
            parts[by_hash].append(example)
    for split, part in parts.items():
        if len(part) < 5:
            raise DataError(
                f"{where}: too few examples: {len(part)} in the {split} part; bring more, or see"
                " held_out"
            )
    return parts


def head_of(examples: Sequence[Example], settings: SignalSettings, *, written: bool) -> str:
    """Classes or text, where the settings leave it open. `written`: what was said was told in
    words, not by a name.
    """
    if settings.head != "auto":
        return settings.head
    kinds = len({example.said for example in examples})
    spaced = any(" " in example.said for example in examples)
    return (
        "classes"
        if not written or (kinds <= FEW and len(examples) >= OFTEN * kinds and not spaced)
        else "text"
    )


class SignalDataset(Dataset):
    """Examples by split, and the codec that makes features of them."""

    def __init__(
        self, name: str, parts: Parts, codec: SignalCodec, settings: Any, notes: Sequence[str] = ()
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.classes = codec.text is None
        self.notes = list(notes)
        self.features: dict[str, list[np.ndarray]] = {}
        self.parts: Parts = {}
        impossible: list[str] = []
        for split, part in parts.items():
            encoded = [self.encode(example) for example in part]
            kept = [
                k
                for k, (x, e) in enumerate(zip(encoded, part, strict=True))
                if self._possible(x, e)
            ]
            impossible += [part[k].name for k in sorted(set(range(len(part))) - set(kept))]
            self.parts[split] = [part[k] for k in kept]
            self.features[split] = [encoded[k] for k in kept]
        if impossible:
            self.notes.append(
                f"left out: {len(impossible):,} too short to hold what they say (the first:"
                f" {impossible[0]})"
            )
        for split, part in self.parts.items():
            if not part:
                raise DataError(f"{name}: nothing is left in the {split} part; see above")
        self.fingerprint = fingerprint(
            f"{e.name}\t{e.said}" for part in parts.values() for e in part
        )

    def _possible(self, x: np.ndarray, example: Example) -> bool:
        return len(x) > 0 and (
            self.classes or len(x) >= max(1, frames_needed(self.codec.targets(example.said)))
        )

    # ---- what a task adds ------------------------------------------------------------------------

    @abstractmethod
    def encode(self, example: Example) -> np.ndarray:
        """Features [T, F] float32."""

    @abstractmethod
    def varied(self, example: Example, rng: np.random.Generator) -> np.ndarray:
        """Features of the example as it might have been as well: what is trained on."""

    def respelled(self, example: Example, rng: np.random.Generator) -> Example:
        """The example, or one in its place: what is trained on before it is varied."""
        return example

    @abstractmethod
    def nearest(self) -> Callable[[str], np.ndarray]:
        """Of a split, the class of the nearest training example by dynamic time warping [N] int64."""

    # ---- what training asks for ------------------------------------------------------------------

    def build(self) -> Classifier | Transcriber:
        """A classifier or a transcriber sized by the settings."""
        config = self.settings.model_config(
            self.codec.input_size, self.codec.outputs_size, classes=self.classes
        )
        return Classifier(config) if isinstance(config, ClassifierConfig) else Transcriber(config)

    @cached_property
    def truth(self) -> dict[str, np.ndarray]:
        """[N] int64 of every split: the classes."""
        return {
            s: np.array([self._numbers[e.said] for e in part], np.int64)
            for s, part in self.parts.items()
        }

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {label: k for k, label in enumerate(self.codec.labels)}

    def _batch(self, features: Sequence[np.ndarray], said: Sequence[str]) -> PaddedBatch:
        x, lengths = padded(features)
        if self.classes:
            numbers = [self._numbers[name] for name in said]
            return PaddedBatch(
                x,
                lengths,
                torch.from_numpy(np.eye(len(self.codec.labels), dtype=np.float32)[numbers]),
            )
        return PaddedBatch(
            x, lengths, padded([np.array(self.codec.targets(text), np.int64) for text in said])[0]
        )

    def batches(self, seed: int) -> Iterator[PaddedBatch]:
        """The training examples, each varied, gathered by length."""
        part = self.parts["train"]
        for rows in by_length(
            np.array([len(x) for x in self.features["train"]]), self.settings.budget, seed
        ):
            drawn = []
            for k in rows:
                rng = np.random.default_rng((seed, int(k)))
                example = self.respelled(part[k], rng)
                x = self.varied(example, rng)
                if self._possible(x, example):
                    drawn.append((x, example.said))
            if drawn:
                yield self._batch(*zip(*drawn, strict=True))

    @torch.inference_mode()
    def log_p(self, model: Any, split: str, precision: str = "float32") -> list[np.ndarray]:
        """Of every example: [classes], or [T, V] letters at every step; at a lower precision run as
        a stream is.
        """
        model.eval()
        features = self.features[split]
        if precision != "float32":
            ready = model.stepper(precision)
            walked = [
                ready.walk(np.zeros((1, ready.layout.width), np.float32), 0, x)[0] for x in features
            ]
            return [y[-1] for y in walked] if self.classes else walked
        out: list[np.ndarray] = [np.zeros(0)] * len(features)
        for rows in by_length(np.array([len(x) for x in features]), 16_000, 0):
            x, lengths = padded([features[k] for k in rows])
            found = (
                model.classify(x, lengths) if self.classes else model.transcribe(x, lengths)
            ).numpy()
            for k, one, length in zip(rows, found, lengths.tolist(), strict=True):
                out[k] = one if self.classes else one[:length]
        return out

    def evaluate(self, model: Any, split: str, precision: str = "float32") -> Metrics:
        """The metrics on a split. Of a text: greedily, and on "test" with the lexicon and the
        language model too.
        """
        found = self.log_p(model, split, precision)
        if self.classes:
            return metrics.of_classes(self.truth[split], np.array(found))
        said = [e.said for e in self.parts[split]]
        told = metrics.of_texts(said, [self.read(p) for p in found])
        targets = [np.array(self.codec.targets(text), np.int64) for text in said]
        nats = -sum(_likelihood(p, t) for p, t in zip(found, targets, strict=True))
        told["log_loss"] = nats / max(1, sum(map(len, targets)))
        weight, bonus = model.search.tolist()
        if split == "test" and weight >= 0:
            search = ctc.search_of(self.codec, weight, bonus)
            beside = metrics.of_texts(said, [search.find(p) for p in found])
            told |= {f"{name}_searched": beside[name] for name in ("cer", "wer")}
        return told

    def read(self, log_p: np.ndarray) -> str:
        """The likeliest letters of log_p [T, V] as a text."""
        return ctc.text(self.codec, ctc.greedy(log_p))

    def calibrate(self, model: Any) -> None:
        """On the validation part: calibrate, or choose how much the language model counts."""
        if isinstance(model, Classifier):
            model.head.temperature.fill_(1.0)
            log_p = torch.from_numpy(np.array(self.log_p(model, "valid")))
            model.head.calibrate(log_p.float(), torch.from_numpy(self.truth["valid"]))
        else:
            found, said = (
                self.log_p(model, "valid")[:TRIED],
                [e.said for e in self.parts["valid"]][:TRIED],
            )

            def error(search: tuple[float, float]) -> float:
                seeker = ctc.search_of(self.codec, *search)
                return metrics.of_texts(said, [seeker.find(p) for p in found])["cer"]

            best = min(SEARCHES, key=error)
            by_ear = metrics.of_texts(said, [self.read(p) for p in found])["cer"]
            model.search.copy_(torch.tensor(best if error(best) < by_ear else (-1.0, 0.0)))

    def details(self, model: Any, split: str) -> dict[str, Any]:
        """The confusion table, where it is small; texts as they were read."""
        found = self.log_p(model, split)
        if not self.classes:
            pairs = list(zip(self.parts[split], found, strict=True))[:SHOWN]
            return {
                "examples": [
                    {"source": e.name, "ours": self.read(p), "wanted": e.said} for e, p in pairs
                ]
            }
        table = metrics.confusion_of(self.truth[split], np.array(found), self.codec.labels)
        return (
            {"confusion": table} if len(self.codec.labels) <= 20 else {"mistaken": mistaken(table)}
        )

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`: the features of the test part, one example after another."""
        return np.concatenate(self.features["test"])[:steps]

    def inspection_input(self) -> np.ndarray:
        """See `Dataset`: the longest example."""
        return max(self.features["test"], key=len)

    # ---- the simple methods ----------------------------------------------------------------------

    @cached_property
    def _nearest(self) -> Callable[[str], np.ndarray]:
        return self.nearest()

    def baselines(self, split: str) -> dict[str, Metrics]:
        """Classes: the most frequent one, the nearest by warping. Texts: the most frequent words."""
        if "train" not in self.parts:
            return {}
        if not self.classes:
            said = [e.said for e in self.parts[split]]
            return {
                "most frequent words": metrics.of_texts(said, [self.frequent_words] * len(said))
            }
        truth = self.truth[split]
        often = np.bincount(self.truth["train"]).argmax()
        answers = {
            "most frequent": np.full(len(truth), often),
            "nearest (dtw)": self._nearest(split),
        }
        return {
            name: metrics.of_answers(truth, found, len(self.codec.labels))
            for name, found in answers.items()
        }

    @cached_property
    def frequent_words(self) -> str:
        """The most frequent words of training, as many as make the fewest errors in them."""
        said = [e.said for e in self.parts["train"]][:300]
        often = [
            word
            for word, _ in Counter(
                w for e in self.parts["train"] for w in e.said.split()
            ).most_common(12)
        ]
        tries = [" ".join(often[:k]) for k in range(1, len(often) + 1)]
        return min(tries, key=lambda text: metrics.of_texts(said, [text] * len(said))["cer"])

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.parts.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def _likelihood(log_p: np.ndarray, target: np.ndarray) -> float:
    """Log p of a text's letters given log_p [T, V]."""
    lengths = torch.tensor([len(log_p)]), torch.tensor([len(target)])
    letters = torch.from_numpy(target)[None]
    return -float(F.ctc_loss(torch.from_numpy(log_p)[:, None], letters, *lengths, reduction="sum"))


def mistaken(table: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """What was taken for something else most often."""
    wrong = [(n, a, b) for a, row in table.items() for b, n in row.items() if a != b and n]
    return [
        {"was": a, "read": b, "times": n}
        for n, a, b in sorted(wrong, key=lambda w: (-w[0], w[1:]))[:SHOWN]
    ]


# ---- reading -------------------------------------------------------------------------------------


def known_classes(parts: Parts, labels: Sequence[str]) -> tuple[Parts, list[str]]:
    """Without the examples of classes that are not in training, and a note of them."""
    unseen = sorted({e.said for part in parts.values() for e in part} - set(labels))
    kept = {split: [e for e in part if e.said in set(labels)] for split, part in parts.items()}
    return kept, (
        [f"left out: classes that are not in the training part: {', '.join(unseen)}"]
        if unseen
        else []
    )


def outputs_in_words(codec: SignalCodec) -> str:
    """A note of what comes out."""
    if codec.text is None:
        shown = ", ".join(codec.labels[:12]) + (" …" if len(codec.labels) > 12 else "")
        return f"{len(codec.labels)} classes: {shown}"
    lexicon = {word for sentence in codec.sentences for word in sentence.split()}
    return (
        f"text of {len(codec.text) - codec.text.marks} {codec.text.unit}s; a lexicon of"
        f" {len(lexicon):,} words"
    )


def reopen(
    data: str | None,
    file: ModelFile,
    kind: type,
    dataset: type,
    read: Callable[[str, Any], tuple[list[Example], str]],
) -> Any:
    """The dataset of a trained model. Its own data: the held-out test part. Others: all of them
    that it did not learn from.

    read   (name, settings) -> (examples, the data's name)
    """
    settings = file.settings(kind)
    trained, print_ = str(file.info["data"]), str(file.info["fingerprint"])
    codec: SignalCodec = file.codec
    classes = codec.text is None

    def of_its_own() -> Parts:
        examples, where = read(trained, settings)
        parts = parted(examples, settings, classes=classes, where=where)
        return known_classes(parts, codec.labels)[0] if classes else parts

    if data is None or data == trained:
        made = dataset(trained, of_its_own(), codec, settings, ["scored: the held-out test part"])
        if made.fingerprint != print_:
            made.notes.append(f"{trained} has changed since the model was trained")
        return made
    examples, where = read(data, settings)
    if classes:
        examples = [e for e in examples if e.said in set(codec.labels)]
    try:
        own = {split: part for split, part in of_its_own().items() if split != "test"}
    except UserError as error:
        own, note = {}, f"no simple method beside it: what it learnt from is not here ({error})"
    else:
        note = f"the simple methods beside it have learnt from {trained}, as the model has"
    if not examples:
        raise DataError(f"{data}: holds nothing that the model knows ({outputs_in_words(codec)})")
    return dataset(
        where,
        {**own, "test": examples},
        codec,
        settings,
        [f"scored: all {len(examples):,} of another set", note],
    )
