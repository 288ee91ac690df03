"""Texts as token sequences: training, evaluation and the n-gram baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, Record
from memorycell.application.datasets import locate
from memorycell.applications.text.dynamic_evaluation import dynamic_nats
from memorycell.applications.text.limits import fit_limit
from memorycell.applications.text.settings import TextSettings
from memorycell.errors import DataError
from memorycell.language.codec import (
    END_ID,
    TextCodec,
    fingerprint,
)
from memorycell.language.evaluation import stepped_nats
from memorycell.language.files import is_blank, read_file, unpacked_name
from memorycell.language.mixing import Sequences
from memorycell.language.model import LanguageModel
from memorycell.language.ngram import KneserNey, fit_kneser_ney
from memorycell.language.ngram_fitting import mix_where_better
from memorycell.models.batches import LaneBatch, lanes
from memorycell.models.heads import IGNORE
from memorycell.reading import Losses
from memorycell.training.splits import SPLITS

TEXT_SUFFIXES = (".txt", ".md")
TEST_FRACTION = 0.1
MIN_CHARS = 2000
VALID_LANES, MIN_LANE_TOKENS = 8, 1000
"""The validation split is evaluated in parallel lanes, where they are long enough."""
MAX_INSPECTION_CHARS = 3000


class TextDataset(Dataset[LanguageModel, LaneBatch]):
    """Texts, each split by position into train, valid and test, and their tokens."""

    codec: TextCodec
    geometric_means: tuple[str, ...] = ("perplexity",)
    stored_baselines = False

    def __init__(
        self, name: str, texts: dict[str, list[str]], codec: TextCodec, settings: TextSettings
    ) -> None:
        self.name, self.texts, self.codec, self.settings = name, texts, codec, settings
        self.notes: list[str] = []
        self.limits: dict[str, torch.Tensor] = {}
        self.tokens = {split: token_sequence(codec, parts) for split, parts in texts.items()}
        self.fingerprint = fingerprint([part for parts in texts.values() for part in parts])

    @cached_property
    def ngram(self) -> KneserNey | None:
        """The baseline, its order selected on the validation split; None without training text."""
        if "train" not in self.tokens:
            return None
        return fit_kneser_ney(self.tokens["train"], self.tokens["valid"], len(self.codec))

    def build(self) -> LanguageModel:
        """See `Dataset`."""
        return LanguageModel(self.settings.model_config(len(self.codec)))

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `Dataset`: lanes that begin at a random position."""
        x, y = self.tokens["train"][:-1], self.tokens["train"][1:]
        s = self.settings
        shift = int(np.random.default_rng(seed).integers(len(x)))
        count = max(1, min(s.lanes, len(x) // s.bptt))
        return lanes(x, y, x == END_ID, count=count, bptt=s.bptt, shift=shift)

    def evaluate(self, model: LanguageModel, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: nats per token, perplexity, bits_per_character; network: nats per token
        of the network alone, where the n-gram model is mixed in; "test" also has those of dynamic
        evaluation, where the settings ask for it.
        """
        if precision != "float32":
            return self._loss_metrics(stepped_nats(model, self.tokens[split], precision), split)
        data = self._sequences(split)
        network = model.network_nats(data.x, data.target, data.reset)
        nats = network if model.ngram is None else model.ngram.nats(network, data)
        counted = data.target != IGNORE
        result = self._loss_metrics(nats[counted].double().numpy(), split)
        if model.ngram is not None:
            result["network"] = float(network[counted].double().mean())
        if split == "test" and self.settings.dynamic:
            tokens = torch.from_numpy(self.tokens[split])
            result["dynamic"] = dynamic_nats(model, tokens, self.settings.dynamic)
        return result

    def weights(self, split: str) -> dict[str, float]:
        """See `Combinable`."""
        tokens = float(len(self.tokens[split]) - 1)
        per_token = dict.fromkeys(("nats", "perplexity", "network", "dynamic"), tokens)
        return {**per_token, "bits_per_character": float(sum(map(len, self.texts[split])))}

    def _sequences(self, split: str) -> Sequences:
        """The tokens of a split in one sequence; of a long validation split in parallel lanes."""
        tokens = torch.from_numpy(self.tokens[split])
        parallel = split == "valid" and len(tokens) > VALID_LANES * MIN_LANE_TOKENS
        rows = VALID_LANES if parallel else 1
        length = -(-(len(tokens) - 1) // rows)
        missing = rows * length + 1 - len(tokens)
        x = torch.cat([tokens[:-1], tokens.new_full((missing,), END_ID)]).view(rows, length)
        y = torch.cat([tokens[1:], tokens.new_full((missing,), IGNORE)]).view(rows, length)
        return Sequences(x, y, x == END_ID)

    def calibrate(self, model: LanguageModel) -> None:
        """See `Dataset`: the n-gram model is mixed in, where that is better."""
        if self.settings.mix and self.ngram is not None:
            self.notes.append(mix_where_better(model, self.ngram, [self._sequences("valid")]))
        data = self._sequences("valid")
        nats = model.nats(data.x, data.target, data.reset)[data.target != IGNORE]
        self.limits, note = fit_limit(nats.double().numpy())
        self.notes.append(note)

    def arrays(self) -> dict[str, torch.Tensor]:
        """See `Dataset`: from when a text is unlike the training text."""
        return self.limits

    def _loss_metrics(self, nats: np.ndarray, split: str) -> Metrics:
        """The metrics of a split from the nats of every token but the first."""
        characters = sum(len(text) for text in self.texts[split])
        mean = float(nats.mean())
        return {
            "nats": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "bits_per_character": float(nats.sum()) / math.log(2) / characters,
        }

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`: token ids [T, 1]."""
        return self.tokens["test"][:steps, None].astype(np.float32)

    def inspection_input(self) -> str:
        """The beginning of the first test text."""
        return self.texts["test"][0][:MAX_INSPECTION_CHARS]

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if self.ngram is None:
            return {}
        nats = -np.log(self.ngram.probabilities(self.tokens[split])[1:])
        return {f"{self.ngram.order}-gram": self._loss_metrics(nats, split)}

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: sum(map(len, parts)) for split, parts in self.texts.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": f"nats per {self.settings.unit}",
        }


def read_texts(data: str, settings: TextSettings) -> tuple[list[str], str, list[str]]:
    """(texts, name, notes) of a file, of the .txt and .md files of a folder (also gzipped, .gz), or
    of a named dataset.
    """
    path, named = locate(data)
    name = named.name if named else str(data)
    notes: list[str] = []
    if path.is_dir():
        texts = _read_folder(path, settings, notes)
    else:
        texts = [read_file(path, settings.encoding, notes)]
    size = sum(map(len, texts))
    if size < MIN_CHARS:
        raise DataError(
            f"{path}: {size:,} characters; a language model needs at least {MIN_CHARS:,}"
        )
    return texts, name, notes


def _read_folder(folder: Path, settings: TextSettings, notes: list[str]) -> list[str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    paths = [p for p in files if unpacked_name(p).endswith(TEXT_SUFFIXES)]
    if not paths:
        raise DataError(f"{folder}: no .txt or .md file in this folder")
    losses = Losses("files")
    with_text = [p for p in paths if not is_blank(p)]
    losses.skip("without text", len(paths) - len(with_text))
    losses.check(len(paths), str(folder), settings.lossy)
    losses.repair("not .txt or .md, not read", len(files) - len(paths))
    notes += losses.notes(len(paths))
    return [read_file(p, settings.encoding, notes) for p in with_text]


def split_texts(texts: list[str], valid: float) -> dict[str, list[str]]:
    """Split -> its part of every text: the last 10% test, the fraction `valid` before it."""
    ends = [split_ends(len(t), valid) for t in texts]
    return {
        name: [t[e[k] : e[k + 1]] for t, e in zip(texts, ends, strict=True)]
        for k, name in enumerate(SPLITS)
    }


def split_ends(chars: int, valid: float) -> list[int]:
    """Where the splits of a text begin, and its end."""
    return [0, int((1 - TEST_FRACTION - valid) * chars), int((1 - TEST_FRACTION) * chars), chars]


def token_sequence(codec: TextCodec, texts: list[str]) -> np.ndarray:
    """All texts as one sequence [N] int64, with `END_ID` before, between and after them."""
    encoded = [np.array([*codec.encode(text), END_ID], np.int64) for text in texts]
    return np.concatenate([np.array([END_ID], np.int64), *encoded])
