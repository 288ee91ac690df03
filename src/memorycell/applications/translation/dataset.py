"""translation: a text in one language into the same in another."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics
from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.applications.translation.baselines import Nearest
from memorycell.applications.translation.codec import (
    PairCodec,
    Pairs,
    fit_pairs,
    hold_both,
    read_pairs,
)
from memorycell.applications.translation.live import translate
from memorycell.applications.translation.model import PairBatch, Translator, TranslatorConfig
from memorycell.errors import DataError, UserError
from memorycell.language.codec import fingerprint
from memorycell.models.batches import by_length, padded
from memorycell.models.heads import IGNORE
from memorycell.settings import check_choices, check_counts
from memorycell.training.splits import SPLITS, split_of


@dataclass(frozen=True)
class TranslationSettings:
    """What --set can say about a translator.

    languages    from-to, as in de-en: the endings of aligned files, or a table's columns
    unit         piece, word or char; vocabulary: tokens at most (of each language where they have
                 one each)
    joint        one vocabulary for both: yes, no, or auto (where they share their letters)
    budget       tokens in a batch, both languages and padding included
    beam, alpha  beams, and how much longer translations are favoured
    """

    languages: str | None = None
    unit: str = "piece"
    vocabulary: int = 4000
    joint: str = "auto"
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int = 256
    dropout: float = 0.2
    embedding_dropout: float = 0.0
    weight_drop: float = 0.0
    smoothing: float = 0.1
    budget: int = 1600
    beam: int = 5
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self, unit=("piece", "word", "char"), joint=("auto", "yes", "no"))
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "budget", "beam")
        if self.languages is not None and not re.fullmatch(r"[^-]+-[^-]+", self.languages):
            raise ValueError(f"languages={self.languages}: expected from-to, as in de-en")
        self.model_config(10, 0)  # says what is wrong with the rest

    def model_config(self, vocabulary: int, source_vocabulary: int) -> TranslatorConfig:
        """The sizes of the model these settings ask for."""
        return TranslatorConfig(
            vocabulary=vocabulary,
            source_vocabulary=source_vocabulary,
            embedding_size=self.embedding,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            embedding_dropout=self.embedding_dropout,
            weight_drop=self.weight_drop,
            smoothing=self.smoothing,
        )

    @property
    def both(self) -> tuple[str, str] | None:
        """(from, to)"""
        if self.languages is None:
            return None
        source, target = self.languages.split("-")
        return source, target


class TranslationDataset(Dataset):
    """Pairs, split, as tokens."""

    def __init__(
        self, name: str, pairs: dict[str, Pairs], codec: PairCodec, settings: TranslationSettings
    ) -> None:
        self.name, self.pairs, self.codec, self.settings = name, pairs, codec, settings
        self.notes: list[str] = []
        self.fingerprint = fingerprint(f"{a}\t{b}" for part in pairs.values() for a, b in part)
        self.tokens = {
            split: [self._tokens(*pair) for pair in part] for split, part in pairs.items()
        }
        self._translated: dict[tuple[int, str], list[str]] = {}

    def _tokens(self, source: str, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Source tokens, and the target's with `END` before and behind."""
        masked, wanted, _ = hold_both(source, target, len(source) + len(target))
        return (
            np.array(self.codec.source.encode(masked) or [0], np.int64),
            np.array([1, *self.codec.target.encode(wanted), 1], np.int64),
        )

    @cached_property
    def nearest(self) -> Nearest | None:
        """The simple method; None where the pairs it knows are not here."""
        if "train" not in self.pairs:
            return None
        sources, targets = zip(*self.pairs["train"], strict=True)
        return Nearest(sources, targets)

    # ---- what training asks for ------------------------------------------------------------------

    def build(self) -> Translator:
        """A translator sized by the settings."""
        own = 0 if self.codec.shared else len(self.codec.source)
        return Translator(self.settings.model_config(len(self.codec.target), own))

    def batches(self, seed: int) -> Iterator[PairBatch]:
        """The training pairs, gathered by length."""
        return self._batches("train", self.settings.budget, seed)

    def _batches(self, split: str, budget: int, seed: int) -> Iterator[PairBatch]:
        pairs = self.tokens[split]
        for rows in by_length(np.array([len(a) + len(b) for a, b in pairs]), budget, seed):
            source, lengths = padded([pairs[k][0] for k in rows])
            x, _ = padded([pairs[k][1][:-1] for k in rows])
            target, _ = padded([pairs[k][1][1:] for k in rows], IGNORE)
            yield PairBatch(source, lengths, x, target)

    @torch.inference_mode()
    def nats(self, model: Translator, split: str) -> float:
        """Mean negative log-likelihood a target token, each given those before it."""
        model.eval()
        total = count = 0.0
        for batch in self._batches(split, 8000, 0):
            total += float(model.loss(batch, None)[0]) * batch.steps
            count += batch.steps
        return total / count

    def validate(self, model: Translator) -> Metrics:
        """Nats a token: translating takes longer than an epoch."""
        return {"nats": self.nats(model, "valid")}

    def translations(self, model: Translator, split: str) -> list[str]:
        """What the model makes of the sources of a split."""
        key = (id(model), split)
        if key not in self._translated:
            file = ModelFile(model, self.codec, {"settings": dataclasses.asdict(self.settings)})
            found = translate(file, [source for source, _ in self.pairs[split]])
            self._translated = {key: [one.text for one in found]}
        return self._translated[key]

    def evaluate(self, model: Translator, split: str, precision: str = "float32") -> Metrics:
        """The model's metrics on a split."""
        found = measure(
            self.translations(model, split), [target for _, target in self.pairs[split]]
        )
        return {**found, "nats": self.nats(model, split)}

    def details(self, model: Translator, split: str) -> dict[str, Any]:
        """Sacrebleu's signatures, and a few translations as they are."""
        shown = range(0, len(self.pairs[split]), max(1, len(self.pairs[split]) // 5))
        ours = self.translations(model, split)
        examples = [
            {"source": self.pairs[split][k][0], "ours": ours[k], "wanted": self.pairs[split][k][1]}
            for k in shown
        ]
        return {"signatures": signatures(), "examples": examples[:5]}

    def sample(self, steps: int) -> np.ndarray:
        """Nothing: a translator has no steps to be proved."""
        raise UserError("prove: a translator reads its input whole and has no steps")

    def inspection_input(self) -> str:
        """See `Dataset`: the longest source."""
        return max((source for source, _ in self.pairs["test"]), key=len)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The simple methods' metrics on a split: the nearest known sentence's translation, and the
        source unchanged.
        """
        sources, targets = [list(side) for side in zip(*self.pairs[split], strict=True)]
        found = {"source unchanged": measure(sources, targets)}
        if self.nearest is not None:
            found["nearest sentence"] = measure(self.nearest.translate(sources), targets)
        return found

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.pairs.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def measure(ours: Sequence[str], wanted: Sequence[str]) -> Metrics:
    """chrf: chrF++ (Popović 2017); bleu (Papineni et al. 2002); both 0 to 100, by sacrebleu (Post
    2018).
    """
    chrf, bleu = _scorers()
    return {
        "chrf": chrf.corpus_score(ours, [wanted]).score,
        "bleu": bleu.corpus_score(ours, [wanted]).score,
    }


def signatures() -> dict[str, str]:
    """What exactly was measured."""
    chrf, bleu = _scorers()
    for scorer in (chrf, bleu):
        scorer.corpus_score(["a"], [["a"]])
    return {"chrf": str(chrf.get_signature()), "bleu": str(bleu.get_signature())}


def _scorers() -> tuple[Any, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2), BLEU()


def prepare(data: str | None, settings: TranslationSettings) -> TranslationDataset:
    """Read the pairs, split them, and only then make the vocabulary, from the training part."""
    pairs, where, notes = _read(data or "multi30k-de-en", settings)
    for split, part in pairs.items():
        if len(part) < (200 if split == "train" else 5):
            raise DataError(f"{where}: too few pairs: {len(part)} in the {split} part; bring more")
    joint = settings.joint == "yes" or (settings.joint == "auto" and _same_letters(pairs["train"]))
    codec = fit_pairs(pairs["train"], settings.unit, vocabulary=settings.vocabulary, joint=joint)
    dataset = TranslationDataset(where, pairs, codec, settings)
    words = sum(len(b) - 1 for _, b in dataset.tokens["train"])
    dataset.notes = [
        *notes,
        "pairs: "
        + ", ".join(f"{len(part):,} {split}" for split, part in pairs.items())
        + f"; {words:,} target tokens",
        f"vocabulary: {len(codec.target):,} {settings.unit}s"
        + (" for both languages" if joint else f" and {len(codec.source):,} of the source"),
    ]
    return dataset


def reopen(data: str | None, file: ModelFile) -> TranslationDataset:
    """The same for a trained model. Its own data: the held-out test part. Other data: all pairs
    that it did not learn.
    """
    settings: TranslationSettings = file.settings(TranslationSettings)
    trained, print_ = str(file.info["data"]), str(file.info["fingerprint"])
    try:
        pairs = _read(trained, settings)[0]
    except UserError:
        if data is None:
            raise
        pairs = {}
    note = "scored: the held-out test part"
    if data is not None and data != trained:
        others = [pair for part in _read(data, settings)[0].values() for pair in part]
        learnt = {_key(source) for source, _ in pairs.get("train", [])}
        fresh = [pair for pair in others if _key(pair[0]) not in learnt]
        if not fresh:
            raise DataError(f"{data}: every sentence of it was learnt from; nothing to evaluate")
        note = (
            f"scored: {len(fresh):,} pairs of another set, {len(others) - len(fresh):,} left out"
            " that were learnt from"
        )
        pairs = {**pairs, "test": fresh}
    dataset = TranslationDataset(data or trained, pairs, file.codec, settings)
    dataset.notes = [note]
    if data is None and dataset.fingerprint != print_:
        dataset.notes.append(f"{trained} has changed since the model was trained")
    return dataset


def _read(data: str, settings: TranslationSettings) -> tuple[dict[str, Pairs], str, list[str]]:
    path, source = locate(data, stem=True)
    where = source.name if source else str(data)
    languages = settings.both or (
        ("de", "en") if source and source.name == "multi30k-de-en" else None
    )
    pairs, notes = read_pairs(path, where, languages)
    return (split(pairs["all"]) if "all" in pairs else pairs), where, notes


def split(pairs: Pairs) -> dict[str, Pairs]:
    """90 / 5 / 5 by a hash of the source without its signs, numbers and capitals: what is said
    alike falls together.
    """
    parts: dict[str, Pairs] = {name: [] for name in SPLITS}
    for pair in pairs:
        parts[split_of(_key(pair[0]), 20)].append(pair)
    return parts


def _key(source: str) -> str:
    return " ".join(re.sub(r"[\W\d_]+", " ", source.lower()).split()) or source


def _same_letters(pairs: Pairs) -> bool:
    """Whether most letters of the target stand in the source too."""
    letters = {c for source, _ in pairs for c in source}
    target = [c for _, text in pairs[:5000] for c in text if c.isalpha()]
    return sum(c in letters for c in target) > 0.8 * max(len(target), 1)
