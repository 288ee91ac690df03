"""chat: what is answered; a language model of dialogues, the turns marked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics
from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.applications.chat.dialogues import ME, YOU, Dialogue, read_dialogues
from memorycell.applications.chat.live import Conversation, Replying
from memorycell.errors import DataError, UserError
from memorycell.language.codec import UNITS, TextCodec, fingerprint, fit_text_codec
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.language.ngram import KneserNey, fit_kneser_ney
from memorycell.models.batches import LaneBatch, by_length, padded
from memorycell.models.heads import IGNORE
from memorycell.settings import check_choices, check_counts
from memorycell.training.splits import SPLITS, split_of


@dataclass(frozen=True)
class ChatSettings:
    """What --set can say about a model of dialogues.

    unit         word, piece or char; vocabulary: tokens at most
    cell, hidden, layers, embedding   the recurrent part, and the size of a token's vector
    dropout, variational, weight_drop, embedding_dropout, noise   probabilities; see
    `LanguageConfig`
    budget       tokens in a batch, padding included
    """

    unit: str = "piece"
    vocabulary: int = 1200
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int = 192
    dropout: float = 0.5
    variational: float = 0.3
    weight_drop: float = 0.5
    embedding_dropout: float = 0.1
    noise: float = 0.15
    budget: int = 1500

    def __post_init__(self) -> None:
        check_choices(self, unit=UNITS)
        check_counts(self, "vocabulary", "hidden", "layers", "embedding", "budget")
        self.model_config(10)  # says what is wrong with the rest

    def model_config(self, vocabulary: int) -> LanguageConfig:
        """The sizes of the model these settings ask for."""
        return LanguageConfig(
            vocabulary=vocabulary,
            embedding_size=self.embedding,
            tied=True,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            variational_dropout=self.variational,
            weight_drop=self.weight_drop,
            embedding_dropout=self.embedding_dropout,
            noise=self.noise,
        )


class ChatDataset(Dataset):
    """Dialogues, split, as tokens: END <you> … <me> … <you> … END."""

    def __init__(
        self,
        name: str,
        dialogues: dict[str, list[Dialogue]],
        codec: TextCodec,
        settings: ChatSettings,
    ) -> None:
        self.name, self.dialogues, self.codec, self.settings = name, dialogues, codec, settings
        self.notes: list[str] = []
        self.fingerprint = fingerprint(
            "\t".join(turns) for part in dialogues.values() for turns in part
        )
        self.tokens = {
            split: [marked(codec, turns) for turns in part] for split, part in dialogues.items()
        }

    @cached_property
    def ngram(self) -> KneserNey | None:
        """The n-gram model, its order chosen on the validation part; None where the dialogues it
        counts are not here.
        """
        if "train" not in self.tokens:
            return None
        train, valid = (np.concatenate(self.tokens[split]) for split in ("train", "valid"))
        return fit_kneser_ney(train, valid, len(self.codec))

    # ---- what training asks for ------------------------------------------------------------------

    def build(self) -> LanguageModel:
        """A language model sized by the settings."""
        return LanguageModel(self.settings.model_config(len(self.codec)))

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """The training dialogues, gathered by length; what the person says is learnt too."""
        tokens = self.tokens["train"]
        for rows in by_length(np.array([len(t) for t in tokens]), self.settings.budget, seed):
            x, _ = padded([tokens[k][:-1] for k in rows])
            y, _ = padded([tokens[k][1:] for k in rows], IGNORE)
            yield LaneBatch(x, y, torch.zeros(x.shape, dtype=torch.bool), carry=False)

    def evaluate(self, model: LanguageModel, split: str, precision: str = "float32") -> Metrics:
        """The model's metrics on the answers of a split."""
        parts = []
        for tokens in self.tokens[split]:
            sequence = torch.from_numpy(tokens)[None]
            parts.append(model.nats(sequence[:, :-1], sequence[:, 1:])[0].double().numpy())
        return self.measure(np.concatenate(parts), split)

    def measure(self, nats: np.ndarray, split: str) -> Metrics:
        """Perplexity and nats a token of the answers, their ends included, from the nats of all
        tokens but each first.
        """
        answers = np.concatenate([of_answers(tokens)[1:] for tokens in self.tokens[split]])
        mean = float(nats[answers].mean())
        return {"perplexity": math.exp(min(mean, 700.0)), "nats": mean}

    def sample(self, steps: int) -> np.ndarray:
        """Tokens [T, 1] of the test dialogues, one after another."""
        return np.concatenate(self.tokens["test"])[:steps, None].astype(np.float32)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The n-gram model's metrics on the answers of a split."""
        if self.ngram is None:
            return {}
        nats = -np.log(self.ngram.probabilities(np.concatenate(self.tokens[split])))
        first = np.cumsum([0, *(len(t) for t in self.tokens[split][:-1])])
        return {f"{self.ngram.order}-gram": self.measure(np.delete(nats, first), split)}

    def details(self, model: LanguageModel, split: str) -> dict[str, Any]:
        """A few answers as they are."""
        file = ModelFile(model, self.codec, {"task": "chat"})
        shown = self.dialogues[split][:: max(1, len(self.dialogues[split]) // 6)][:6]
        examples = []
        for turns in shown:
            reply = Conversation(file).say(turns[0], Replying())
            examples.append({"source": turns[0], "ours": reply["reply"], "wanted": turns[1]})
        return {"examples": examples}

    def inspection_input(self) -> str:
        """See `Dataset`: the longest dialogue."""
        return "\n".join(max(self.dialogues["test"], key=lambda turns: sum(map(len, turns))))

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.dialogues.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": f"a {self.settings.unit} of the answers",
        }


def marked(codec: TextCodec, turns: Dialogue) -> np.ndarray:
    """[T] int64: a dialogue's tokens, marks before the turns and `END` around."""
    tokens = [1]
    for k, turn in enumerate(turns):
        tokens += [codec.token_ids[ME if k % 2 else YOU], *codec.encode(turn)]
    return np.array([*tokens, 1], np.int64)


def of_answers(tokens: np.ndarray) -> np.ndarray:
    """[T] bool: the tokens of the answers, what ends them included, without the marks that begin
    them.
    """
    mark = np.isin(tokens, (1, 2, 3))
    speaker = np.maximum.accumulate(np.where(mark, np.arange(len(tokens)), 0))
    mine = tokens[speaker] == 3  # of the last mark up to and with each token
    ends = mark & np.concatenate([[False], mine[:-1]])
    return np.asarray((mine & ~mark) | ends)


def prepare(data: str | None, settings: ChatSettings) -> ChatDataset:
    """Read the dialogues, split them by what is said first, and only then make the vocabulary."""
    dialogues, where, notes = _read(data or "chatterbot")
    parts = split(dialogues)
    for name, part in parts.items():
        if len(part) < (50 if name == "train" else 5):
            raise DataError(
                f"{where}: too few dialogues: {len(part)} in the {name} part; bring more"
            )
    turns = [turn for part in parts["train"] for turn in part]
    codec = fit_text_codec(
        turns, settings.unit, vocabulary=settings.vocabulary, special_tokens=(YOU, ME), lower=True
    )
    dataset = ChatDataset(where, parts, codec, settings)
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    dataset.notes = [*notes, f"dialogues: {sizes}; vocabulary: {len(codec):,} {settings.unit}s"]
    return dataset


def reopen(data: str | None, file: ModelFile) -> ChatDataset:
    """The same for a trained model. Its own dialogues: the held-out test part. Others: all of them."""
    settings: ChatSettings = file.settings(ChatSettings)
    trained = str(file.info["data"])
    if data is None or data == trained:
        dataset = ChatDataset(trained, split(_read(trained)[0]), file.codec, settings)
        dataset.notes = ["scored: the held-out test part"]
        return dataset
    others, where, notes = _read(data)
    try:
        learnt = {tuple(turns) for turns in split(_read(trained)[0])["train"]}
    except UserError:  # what it learnt from is not here
        learnt = set()
    fresh = [turns for turns in others if tuple(turns) not in learnt]
    if not fresh:
        raise DataError(f"{where}: the model has learnt from all of these dialogues; bring others")
    dataset = ChatDataset(where, {"test": fresh}, file.codec, settings)
    dataset.notes = [*notes, f"scored: {len(fresh):,} dialogues; no n-gram model beside it"]
    if len(fresh) < len(others):
        dataset.notes.append(
            f"left out: {len(others) - len(fresh):,} dialogues that the model has learnt from"
        )
    return dataset


def _read(data: str) -> tuple[list[Dialogue], str, list[str]]:
    path, source = locate(data)
    where = source.name if source else str(data)
    dialogues, notes = read_dialogues(path, where)
    return dialogues, where, notes


def split(dialogues: list[Dialogue]) -> dict[str, list[Dialogue]]:
    """80 / 10 / 10 by a hash of what is said first, so that the same question falls into one part."""
    parts: dict[str, list[Dialogue]] = {name: [] for name in SPLITS}
    for turns in dialogues:
        key = " ".join(c for c in turns[0].lower().split())
        parts[split_of(key, 10)].append(turns)
    return parts
