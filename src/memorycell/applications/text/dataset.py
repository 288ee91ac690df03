"""text: the next character, word or piece of a word; generation, completion, scoring."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.application.contract import Dataset, Metrics
from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.errors import DataError, UserError
from memorycell.language.codec import UNITS, TextCodec, fingerprint, fit, read_text
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.language.ngram import KneserNey, best_order
from memorycell.models.batches import LaneBatch, lanes
from memorycell.settings import check_choices, check_counts
from memorycell.training.splits import SPLITS

TEST_SHARE = 0.1
LEAST = 2000
"""Characters a text must have at least."""


@dataclass(frozen=True)
class TextSettings:
    """What --set can say about a language model.

    unit         char, word or piece (a part of a word, learnt by sentencepiece)
    vocabulary   tokens at most
    encoding     of the files, where it is not UTF-8
    valid        share of every text that is held out for validation, before the last 10%, which is
                 for the test
    cell, hidden, layers   the recurrent part; embedding: the size of a token's vector (where not
                           said: 64 for
                 characters, else like hidden)
    dropout, variational, weight_drop, embedding_dropout, noise, zoneout   probabilities; see
    `LanguageConfig` activation, slowness   weights of AR and TAR lanes, bptt  sequences side by
    side in a batch, and steps a gradient flows back
    dynamic      learning rate of dynamic evaluation (Krause et al. 2018, arXiv:1709.07432): also
                 score a model that goes on learning from the text it has just been scored on; 0
                 leaves it out
    """

    unit: str = "char"
    vocabulary: int = 8000
    encoding: str | None = None
    valid: float = 0.05
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int | None = None
    dropout: float = 0.1
    variational: float = 0.0
    weight_drop: float = 0.0
    embedding_dropout: float = 0.0
    noise: float = 0.0
    zoneout: float = 0.0
    activation: float = 0.0
    slowness: float = 0.0
    lanes: int = 16
    bptt: int = 64
    dynamic: float = 0.0

    def __post_init__(self) -> None:
        check_choices(self, unit=UNITS)
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "lanes", "bptt")
        if not 0.001 <= self.valid <= 0.4:
            raise ValueError(f"valid={self.valid}: expected a share from 0.001 to 0.4")
        if not 0 <= self.dynamic < 10:
            raise ValueError(f"dynamic={self.dynamic}: expected a learning rate")
        self.model_config(10)  # says what is wrong with the rest

    def model_config(self, vocabulary: int) -> LanguageConfig:
        """The sizes of the model these settings ask for."""
        words = self.unit != "char"
        return LanguageConfig(
            vocabulary=vocabulary,
            embedding_size=self.embedding or (self.hidden if words else min(self.hidden, 64)),
            tied=words,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            variational_dropout=self.variational,
            weight_drop=self.weight_drop,
            embedding_dropout=self.embedding_dropout,
            noise=self.noise,
            zoneout=self.zoneout,
            activation=self.activation,
            slowness=self.slowness,
        )


class TextDataset(Dataset):
    """Texts, each cut into train, valid and test by place, as tokens."""

    def __init__(
        self, name: str, texts: dict[str, list[str]], codec: TextCodec, settings: TextSettings
    ) -> None:
        self.name, self.texts, self.codec, self.settings = name, texts, codec, settings
        self.notes: list[str] = []
        self.tokens = {split: sequence(codec, parts) for split, parts in texts.items()}
        self.fingerprint = fingerprint([part for parts in texts.values() for part in parts])

    @cached_property
    def ngram(self) -> KneserNey | None:
        """The n-gram model, its order chosen on the validation part; None where the training text
        is not here.
        """
        if "train" not in self.tokens:
            return None
        return best_order(self.tokens["train"], self.tokens["valid"], len(self.codec))

    # ---- what training asks for ------------------------------------------------------------------

    def build(self) -> LanguageModel:
        """A language model sized by the settings."""
        return LanguageModel(self.settings.model_config(len(self.codec)))

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """The training part in lanes, shifted at random."""
        x, y = self.tokens["train"][:-1], self.tokens["train"][1:]
        s = self.settings
        shift = int(np.random.default_rng(seed).integers(len(x)))
        count = max(1, min(s.lanes, len(x) // s.bptt))
        return lanes(x, y, x == 1, count=count, bptt=s.bptt, shift=shift)

    def evaluate(self, model: LanguageModel, split: str, precision: str = "float32") -> Metrics:
        """The model's metrics on a split, read from its beginning to its end (valid: in eight
        pieces side by side).
        """
        tokens = torch.from_numpy(self.tokens[split])
        if precision != "float32":
            return self.measure(stepped(model, self.tokens[split], precision), split)
        rows = 8 if split == "valid" and len(tokens) > 8000 else 1
        length = -(-(len(tokens) - 1) // rows)
        padded = torch.cat([tokens, tokens.new_ones(rows * length + 1 - len(tokens))])
        x, y = padded[:-1].view(rows, length), padded[1:].view(rows, length)
        nats = model.nats(x, y, x == 1).flatten()[: len(tokens) - 1]
        found = self.measure(nats.double().numpy(), split)
        if split == "test" and self.settings.dynamic:
            found["dynamic"] = float(dynamic_nats(model, tokens, self.settings.dynamic))
        return found

    def measure(self, nats: np.ndarray, split: str) -> Metrics:
        """Nats (a token), perplexity, bits_per_character, from the nats of every token of a split
        after the first.
        """
        characters = sum(len(text) for text in self.texts[split])
        mean = float(nats.mean())
        return {
            "nats": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "bits_per_character": float(nats.sum()) / math.log(2) / characters,
        }

    def sample(self, steps: int) -> np.ndarray:
        """Tokens [T, 1] from where the test part begins."""
        return self.tokens["test"][:steps, None].astype(np.float32)

    def inspection_input(self) -> str:
        """See `Dataset`."""
        return self.texts["test"][0][:3000]

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The n-gram model's metrics on a split."""
        if self.ngram is None:
            return {}
        nats = -np.log(self.ngram.probabilities(self.tokens[split])[1:])
        return {f"{self.ngram.order}-gram": self.measure(nats, split)}

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {
                split: sum(len(text) for text in parts) for split, parts in self.texts.items()
            },
            "settings": dataclasses.asdict(self.settings),
            "unit": f"nats a {self.settings.unit}",
        }


def prepare(data: str | None, settings: TextSettings) -> TextDataset:
    """Read the texts, cut them, and only then make the vocabulary, from the training part."""
    texts, where = read(data or "tinyshakespeare", settings)
    parts = cut(texts, settings.valid)
    codec = fit(parts["train"], settings.unit, vocabulary=settings.vocabulary)
    dataset = TextDataset(where, parts, codec, settings)
    unknown = float((dataset.tokens["valid"] == 0).mean())
    sizes = ", ".join(f"{len(tokens) - 1:,} {split}" for split, tokens in dataset.tokens.items())
    dataset.notes = [
        (
            f"{len(texts)} {'text' if len(texts) == 1 else 'texts'}, {sum(map(len, texts)):,}"
            f" characters; {settings.unit}s: {sizes}"
        ),
        f"vocabulary: {len(codec) - codec.marks:,}; unknown in the validation part: {unknown:.2%}",
    ]
    return dataset


def reopen(data: str | None, file: ModelFile) -> TextDataset:
    """The same for a trained model. Its own text: the held-out last part. Another text: all of it."""
    settings: TextSettings = file.settings(TextSettings)
    trained, print_ = str(file.info["data"]), str(file.info["fingerprint"])
    assert isinstance(file.codec, TextCodec)
    texts, where = read(data or trained, settings)
    parts = cut(texts, settings.valid)
    if fingerprint([part for pieces in parts.values() for part in pieces]) == print_:
        dataset = TextDataset(where, parts, file.codec, settings)
        dataset.notes = [f"scored: the last {TEST_SHARE:.0%}, which it never saw"]
        return dataset
    try:
        own = cut(read(trained, settings)[0], settings.valid)
    except UserError as error:
        own = {}
        note = f"no n-gram model beside it: the text it learnt from is not here ({error})"
    else:
        note = f"the n-gram model beside it has learnt from {trained}, as the model has"
    dataset = TextDataset(where, {**own, "test": texts}, file.codec, settings)
    dataset.notes = [
        f"scored: {len(dataset.tokens['test']) - 1:,} {settings.unit}s of another text",
        note,
    ]
    return dataset


def read(data: str, settings: TextSettings) -> tuple[list[str], str]:
    """The texts of a file, of a folder's .txt and .md files, or of a named set; and its name."""
    path, source = locate(data)
    files = (
        sorted(p for p in path.rglob("*") if p.suffix in (".txt", ".md"))
        if path.is_dir()
        else [path]
    )
    if not files:
        raise DataError(f"{path}: no .txt or .md file in this folder")
    texts = [read_text(file, settings.encoding) for file in files]
    if sum(map(len, texts)) < LEAST:
        raise DataError(
            f"{path}: {sum(map(len, texts)):,} characters; a language model needs {LEAST:,} or more"
        )
    return texts, source.name if source else str(data)


def cut(texts: list[str], valid: float) -> dict[str, list[str]]:
    """Every text in three by place: the last 10% test, the share `valid` before it, what is before
    that train.
    """
    ends = [
        [0, int((1 - TEST_SHARE - valid) * len(t)), int((1 - TEST_SHARE) * len(t)), len(t)]
        for t in texts
    ]
    return {
        name: [t[e[k] : e[k + 1]] for t, e in zip(texts, ends, strict=True)]
        for k, name in enumerate(SPLITS)
    }


def sequence(codec: TextCodec, texts: list[str]) -> np.ndarray:
    """All texts as one sequence [N] int64, `END` before, between and after them."""
    return np.concatenate([[1], *(np.array([*codec.encode(text), 1], np.int64) for text in texts)])


def dynamic_nats(
    model: LanguageModel, tokens: Tensor, lr: float, piece: int = 32, decay: float = 0.0005
) -> float:
    """Mean nats a token of a model that learns as it reads: after each piece a step down its
    gradient, and a pull back towards where the weights began. Krause et al. (2018),
    arXiv:1709.07432, with plain gradient steps.
    """
    began = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    state = None
    total = 0.0
    try:
        for begin in range(0, len(tokens) - 1, piece):
            x, y = tokens[None, begin : begin + piece], tokens[None, begin + 1 : begin + piece + 1]
            x = x[:, : y.shape[1]]
            hidden, after = model.hidden(x, None if state is None else state.detach(), x == 1)
            scores = model.head(hidden, model.embedding.weight)
            loss = F.cross_entropy(scores[0], y[0])
            total += float(loss.detach()) * y.shape[1]
            state = after
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for (name, parameter), gradient in zip(
                    model.named_parameters(), gradients, strict=True
                ):
                    parameter.add_(decay * (began[name] - parameter) - lr * gradient)
    finally:
        model.load_state_dict(began)
    return total / (len(tokens) - 1)


def stepped(model: LanguageModel, tokens: np.ndarray, precision: str) -> np.ndarray:
    """Nats of every token after the first, run a piece at a time as a stream does, each text from
    the beginning.
    """
    ready = model.stepper(precision)
    ring = np.zeros((1, ready.layout.width), np.float32)
    x, y = tokens[:-1], tokens[1:]
    parts = []
    for piece in np.split(
        np.arange(len(x)), np.union1d(np.flatnonzero(x == 1), np.arange(0, len(x), 2048))[1:]
    ):
        if x[piece[0]] == 1:
            ring[:] = 0
        scores, _ = ready.step_one(ring, 0, x[piece, None].astype(np.float32))
        parts.append(-np.take_along_axis(scores, y[piece, None], 1)[:, 0])
    return np.concatenate(parts).astype(np.float64)
