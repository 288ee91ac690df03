"""Pairs of texts as tokens: training, evaluation and baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, ModelFile, Record
from memorycell.applications.translation.cleaning import Pairs
from memorycell.applications.translation.codec import PairCodec, fit_pair_codec
from memorycell.applications.translation.memory import Memory
from memorycell.applications.translation.memory_fitting import Compared, fit_memory
from memorycell.applications.translation.metrics import metric_signatures, translation_metrics
from memorycell.applications.translation.model import PairBatch, Translator
from memorycell.applications.translation.pairs import source_key
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.applications.translation.sources import (
    Sources,
    read_other_sources,
    read_sources,
    repeated,
)
from memorycell.errors import DataError, UserError
from memorycell.language.codec import fingerprint
from memorycell.language.nearest import NearestText
from memorycell.models.batches import by_length, padded
from memorycell.models.heads import IGNORE

DEFAULT_DATASET = "multi30k-de-en"
MIN_PAIRS = {"train": 200, "valid": 5, "test": 5}
NUM_EXAMPLES = 5
EVALUATION_BUDGET = 8000
"""Tokens per batch in evaluation."""
MIN_SHARED_LETTERS = 0.8
"""Share of the target's letters that occur in the source, above which joint=auto is yes."""
LETTER_SAMPLE = 5000
"""Pairs that are searched for letters."""


class TranslationDataset(Dataset[Translator, PairBatch]):
    """Pairs of texts by split, and their tokens."""

    codec: PairCodec

    def __init__(self, sources: Sources, codec: PairCodec, settings: TranslationSettings) -> None:
        self.name, self.pairs, self.parts = sources.name, sources.pairs, sources.parts
        self.codec, self.settings = codec, settings
        pairs = self.pairs
        self.notes: list[str] = []
        self.fingerprint = fingerprint(f"{a}\t{b}" for part in pairs.values() for a, b in part)
        self.tokens = {
            split: [codec.encode_pair(*pair) for pair in part] for split, part in pairs.items()
        }
        self.memory = Memory.of({})
        self._translations: dict[tuple[int, str], list[str]] = {}
        self._remembered = 0

    @cached_property
    def nearest(self) -> NearestText | None:
        """A baseline; None without training pairs."""
        if "train" not in self.pairs:
            return None
        sources, targets = zip(*self.pairs["train"], strict=True)
        return NearestText(sources, targets)

    def build(self) -> Translator:
        """See `Dataset`."""
        source_vocabulary = 0 if self.codec.shared else len(self.codec.source)
        return Translator(self.settings.model_config(len(self.codec.target), source_vocabulary))

    def batches(self, seed: int) -> Iterator[PairBatch]:
        """See `Dataset`: pairs of similar length."""
        pairs = self.tokens["train"]
        if self.settings.sampling and self.settings.unit == "piece":
            import sentencepiece

            sentencepiece.set_random_generator_seed(seed % 2**32)
            pairs = [
                self.codec.encode_pair(*pair, self.settings.sampling)
                for pair in self.pairs["train"]
            ]
        order = repeated(self.parts["train"], self.settings.balance, seed)
        return self._batches([pairs[k] for k in order], self.settings.budget, seed)

    def _batches(
        self, pairs: list[tuple[np.ndarray, np.ndarray]], budget: int, seed: int
    ) -> Iterator[PairBatch]:
        for rows in by_length(np.array([len(a) + len(b) for a, b in pairs]), budget, seed):
            source, lengths = padded([pairs[k][0] for k in rows])
            x, _ = padded([pairs[k][1][:-1] for k in rows])
            target, _ = padded([pairs[k][1][1:] for k in rows], IGNORE)
            yield PairBatch(source, lengths, x, target)

    @torch.inference_mode()
    def nats(self, model: Translator, split: str) -> float:
        """Mean negative log-likelihood per target token, given the tokens before it."""
        model.eval()
        total = count = 0.0
        for batch in self._batches(self.tokens[split], EVALUATION_BUDGET, 0):
            total += float(model.loss(batch, None)[0]) * batch.steps
            count += batch.steps
        return total / count

    def validate(self, model: Translator) -> Metrics:
        """See `Dataset`: the loss only; translating takes longer than an epoch."""
        return {"nats": self.nats(model, "valid")}

    def calibrate(self, model: Translator) -> None:
        """See `Dataset`: from when the nearest sentence is better than the network."""
        if self.settings.memory and self.nearest is not None:
            s = self.settings
            self.memory, note = fit_memory(
                model,
                self.codec,
                self.nearest,
                Compared(self.pairs["valid"], self.parts["valid"], self.name.split("+")),
                (s.beam, s.alpha, s.coverage),
            )
            self.notes.append(note)

    def arrays(self) -> dict[str, torch.Tensor]:
        """See `Dataset`: the translation memory."""
        return self.memory.arrays(self.pairs.get("train", []))

    def translations(self, model: Translator, split: str) -> list[str]:
        """The model's translations of the sources of a split; those of the last call are cached."""
        key = (id(model), split)
        if key not in self._translations:
            sources = [source for source, _ in self.pairs[split]]
            s = self.settings
            search = (s.beam, s.alpha, s.coverage)
            found = self.memory.translate(model, self.codec, sources, search)
            self._remembered = sum(t.similarity is not None for t in found)
            self._translations = {key: [translation.text for translation in found]}
        return self._translations[key]

    def evaluate(self, model: Translator, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: chrf, bleu and nats per target token."""
        references = [target for _, target in self.pairs[split]]
        result = translation_metrics(self.translations(model, split), references)
        return {**result, "nats": self.nats(model, split)}

    def details(self, model: Translator, split: str) -> Record:
        """See `Dataset`: the signatures of the metrics, and some translations."""
        pairs, translations = self.pairs[split], self.translations(model, split)
        examples = [
            {"source": pairs[k][0], "ours": translations[k], "wanted": pairs[k][1]}
            for k in range(0, len(pairs), max(1, len(pairs) // NUM_EXAMPLES))
        ]
        return {
            "signatures": metric_signatures(),
            "examples": examples[:NUM_EXAMPLES],
            "from_memory": round(self._remembered / len(pairs), 4),
        }

    def sample(self, steps: int) -> np.ndarray:
        """Raises `UserError`: a translator has no steps."""
        raise UserError("prove: a translator needs its whole input and has no steps")

    def inspection_input(self) -> str:
        """The longest test source."""
        return max((source for source, _ in self.pairs["test"]), key=len)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        sources, targets = [list(side) for side in zip(*self.pairs[split], strict=True)]
        result = {"source unchanged": translation_metrics(sources, targets)}
        if self.nearest is not None:
            translations = self.nearest.answers(sources)
            result["nearest sentence"] = translation_metrics(translations, targets)
        return result

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.pairs.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def prepare(data: str | None, settings: TranslationSettings) -> TranslationDataset:
    """See `Application`. The vocabulary is that of the training split."""
    sources = read_sources(data or DEFAULT_DATASET, settings)
    pairs = sources.pairs
    for split, part in pairs.items():
        if len(part) < MIN_PAIRS[split]:
            raise DataError(
                f"{sources.name}: too few pairs: {len(part)} in the {split} split; add more"
            )
    joint = settings.joint == "yes" or (settings.joint == "auto" and _share_letters(pairs["train"]))
    codec = fit_pair_codec(
        pairs["train"], settings.unit, vocabulary=settings.vocabulary, joint=joint
    )
    dataset = TranslationDataset(sources, codec, settings)
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in pairs.items())
    count = sum(len(target) - 1 for _, target in dataset.tokens["train"])
    source_size = " for both languages" if joint else f" and {len(codec.source):,} of the source"
    dataset.notes = [
        *sources.notes,
        f"pairs: {sizes}; {count:,} target tokens",
        f"vocabulary: {len(codec.target):,} {settings.unit}s{source_size}",
    ]
    return dataset


def reopen(data: str | None, file: ModelFile[Translator, PairCodec]) -> TranslationDataset:
    """See `Application`: the test split of the model's own data, or all pairs of other data whose
    sources are not in its training split.
    """
    settings = file.typed_settings(TranslationSettings)
    try:
        sources = read_sources(file.data, settings)
    except UserError:
        if data is None:
            raise
        sources = Sources(file.data, {}, {})
    note = "evaluated on the held-out test split"
    notes: list[str] = []
    if data in file.data.split("+") and data != file.data:
        sources = sources.with_test(read_sources(data, settings).pairs["test"], data)
    elif data is not None and data != file.data:
        other = read_other_sources(data, settings)
        notes = other.notes
        others = [pair for part in other.pairs.values() for pair in part]
        trained_on = {source_key(source) for source, _ in sources.pairs.get("train", [])}
        new = [pair for pair in others if source_key(pair[0]) not in trained_on]
        if not new:
            raise DataError(f"{data}: the model was trained on all of these sentences")
        note = (
            f"evaluated on {len(new):,} pairs of other data; left out: {len(others) - len(new):,}"
            " that the model was trained on"
        )
        sources = sources.with_test(new, data)
    dataset = TranslationDataset(sources, file.codec, settings)
    dataset.memory = Memory.of(file.arrays)
    dataset.notes = [note, *notes]
    if data is None and dataset.fingerprint != file.fingerprint:
        dataset.notes.append(f"{file.data} has changed since the model was trained")
    return dataset


def _share_letters(pairs: Pairs) -> bool:
    """Whether most letters of the target occur in the source."""
    source_letters = {c for source, _ in pairs for c in source}
    letters = [c for _, target in pairs[:LETTER_SAMPLE] for c in target if c.isalpha()]
    shared = sum(c in source_letters for c in letters)
    return shared > MIN_SHARED_LETTERS * max(len(letters), 1)
