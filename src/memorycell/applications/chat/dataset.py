"""Dialogues as token sequences: training, and evaluation on the replies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, ModelFile, Record
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.chat.dialogues import (
    REPLY_ID,
    REPLY_TOKEN,
    USER_ID,
    USER_TOKEN,
    Dialogue,
    check_codec,
    first_message,
    read_dialogues,
)
from memorycell.applications.chat.limits import remembered_pairs
from memorycell.applications.chat.reply_quality import compare_replies, fit_limits
from memorycell.applications.chat.settings import ChatSettings
from memorycell.errors import DataError, UserError
from memorycell.language.codec import END_ID, TextCodec, fingerprint, fit_text_codec
from memorycell.language.mixing import Sequences
from memorycell.language.model import LanguageModel
from memorycell.language.nearest import NearestText
from memorycell.language.ngram import KneserNey, fit_kneser_ney
from memorycell.language.ngram_fitting import mix_where_better
from memorycell.models.batches import LaneBatch, by_length, known_targets, padded
from memorycell.models.heads import IGNORE
from memorycell.training.splits import SPLITS, split_of

DEFAULT_DATASET = "chatterbot"
MIN_DIALOGUES = {"train": 50, "valid": 5, "test": 5}
MAX_TRAINED_TOKENS = 100
"""Longer dialogues are trained on in parts."""
EVALUATION_BUDGET = 8000
"""Tokens per batch in evaluation, including padding."""
MAX_VALIDATION = 30_000
"""Tokens of the dialogues that are validated on after every epoch."""
MAX_QUESTION_TURNS = 4
"""Of a dialogue that its first question represents."""


class ChatDataset(Dataset[LanguageModel, LaneBatch]):
    """Dialogues by split, and their tokens: END <you> … <me> … <you> … END."""

    codec: TextCodec

    def __init__(
        self,
        name: str,
        dialogues: dict[str, list[Dialogue]],
        codec: TextCodec,
        settings: ChatSettings,
    ) -> None:
        self.name, self.dialogues, self.codec, self.settings = name, dialogues, codec, settings
        self.notes: list[str] = []
        self.stored: dict[str, torch.Tensor] = {}
        self.fingerprint = fingerprint(
            "\t".join(turns) for part in dialogues.values() for turns in part
        )
        self.tokens = {
            split: [dialogue_tokens(codec, turns) for turns in part]
            for split, part in dialogues.items()
        }

    @cached_property
    def ngram(self) -> KneserNey | None:
        """The baseline, its order selected on the validation split; None without training data."""
        if "train" not in self.tokens:
            return None
        train, valid = (np.concatenate(self.tokens[split]) for split in ("train", "valid"))
        return fit_kneser_ney(train, valid, len(self.codec))

    def build(self) -> LanguageModel:
        """See `Dataset`."""
        return LanguageModel(self.settings.model_config(len(self.codec)))

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `Dataset`: dialogues of similar length. All turns are learned, also the user's."""
        tokens = [part for t in self.tokens["train"] for part in _parts(t)]
        for rows in by_length(np.array([len(t) for t in tokens]), self.settings.budget, seed):
            x, _ = padded([tokens[k][:-1] for k in rows])
            y, _ = padded([tokens[k][1:] for k in rows], IGNORE)
            yield LaneBatch(x, y, torch.zeros(x.shape, dtype=torch.bool), carry=False)

    def evaluate(self, model: LanguageModel, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: perplexity and nats per token of the replies; network: the perplexity of
        the network alone, where the n-gram model is mixed in.
        """
        return self._evaluate(model, self._reply_sequences(self.tokens[split]))

    def validate(self, model: LanguageModel) -> Metrics:
        """See `Dataset`: on the first dialogues, where there are many."""
        tokens = self.tokens["valid"]
        count = int(np.searchsorted(np.cumsum([len(t) for t in tokens]), MAX_VALIDATION)) + 1
        return self._evaluate(model, self._reply_sequences(tokens[:count]))

    def _evaluate(self, model: LanguageModel, data: list[Sequences]) -> Metrics:
        total = alone = count = 0.0
        for part in data:
            network = model.network_nats(part.x, part.target)
            nats = network if model.ngram is None else model.ngram.nats(network, part)
            total += float(nats.double().sum())
            alone += float(network.double().sum())
            count += known_targets(part.target)
        result = _metrics(total / count)
        if model.ngram is not None:
            result["network"] = _metrics(alone / count)["perplexity"]
        return result

    def _reply_sequences(self, tokens: list[np.ndarray]) -> list[Sequences]:
        """Dialogues of similar length, with the tokens of the replies as targets."""
        data = []
        for rows in by_length(np.array([len(t) for t in tokens]), EVALUATION_BUDGET, 0):
            x, _ = padded([tokens[k][:-1] for k in rows])
            targets = [np.where(reply_mask(t), t, IGNORE)[1:] for t in (tokens[k] for k in rows)]
            y, _ = padded(targets, IGNORE)
            data.append(Sequences(x, y))
        return data

    def calibrate(self, model: LanguageModel) -> None:
        """See `Dataset`: the n-gram model is mixed in, where that is better; the limits."""
        if self.settings.mix and self.ngram is not None:
            valid = self._reply_sequences(self.tokens["valid"])
            self.notes.append(mix_where_better(model, self.ngram, valid))
        pairs = remembered_pairs(self.dialogues["train"])
        limits, notes = fit_limits(ModelFile(model, self.codec, {}), self.dialogues["valid"], pairs)
        self.stored = limits.arrays(pairs)
        self.notes += notes

    def arrays(self) -> dict[str, torch.Tensor]:
        """See `Dataset`: the limits, and the memory."""
        return self.stored

    def _reply_metrics(self, nats: np.ndarray, split: str) -> Metrics:
        """The metrics of a split from the nats of all tokens but the first of each dialogue."""
        replies = np.concatenate([reply_mask(tokens)[1:] for tokens in self.tokens[split]])
        return _metrics(float(nats[replies].mean()))

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`: token ids [T, 1]."""
        return np.concatenate(self.tokens["test"])[:steps, None].astype(np.float32)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if self.ngram is None:
            return {}
        nats = -np.log(self.ngram.probabilities(np.concatenate(self.tokens[split])))
        first = np.cumsum([0, *(len(t) for t in self.tokens[split][:-1])])
        return {f"{self.ngram.order}-gram": self._reply_metrics(np.delete(nats, first), split)}

    def details(self, model: LanguageModel, split: str) -> Record:
        """See `Dataset`: how diverse and how close to the reference the replies to first turns are,
        and the first of them, all in an order of a fixed seed.
        """
        file = ModelFile(model, self.codec, {"task": "chat"}, self.stored)
        nearest = None
        if "train" in self.dialogues:
            pairs = remembered_pairs(self.dialogues["train"])
            nearest = NearestText([m for m, _ in pairs], [r for _, r in pairs], "word")
        return compare_replies(file, self.dialogues[split], nearest)

    def inspection_input(self) -> str:
        """The longest test dialogue."""
        return "\n".join(max(self.dialogues["test"], key=lambda turns: sum(map(len, turns))))

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.dialogues.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": f"per {self.settings.unit} of the replies",
        }


def _metrics(nats: float) -> Metrics:
    return {"perplexity": math.exp(min(nats, 700.0)), "nats": nats}


def _parts(tokens: np.ndarray) -> list[np.ndarray]:
    """A long dialogue in parts for training; each begins with the last token of the one before."""
    begins = range(0, max(len(tokens) - 1, 1), MAX_TRAINED_TOKENS)
    return [tokens[k : k + MAX_TRAINED_TOKENS + 1] for k in begins]


def dialogue_tokens(codec: TextCodec, turns: Dialogue) -> np.ndarray:
    """[T] int64: `END_ID`, the turns after their special tokens, `END_ID`."""
    tokens = [END_ID]
    for k, turn in enumerate(turns):
        if turn:
            tokens += [REPLY_ID if k % 2 else USER_ID, *codec.encode(turn)]
    return np.array([*tokens, END_ID], np.int64)


def reply_mask(tokens: np.ndarray) -> np.ndarray:
    """[T] bool: the tokens of the replies, with the special token after each but not the one
    before.
    """
    special = np.isin(tokens, (END_ID, USER_ID, REPLY_ID))
    turn_start = np.maximum.accumulate(np.where(special, np.arange(len(tokens)), 0))
    in_reply = tokens[turn_start] == REPLY_ID
    after_reply = special & np.concatenate([[False], in_reply[:-1]])
    return np.asarray((in_reply & ~special) | after_reply)


def prepare(data: str | None, settings: ChatSettings) -> ChatDataset:
    """See `Application`. The vocabulary is that of the training split."""
    settings = with_dataset_settings(settings, locate(data or DEFAULT_DATASET)[1])
    dialogues, name, notes = _read(data or DEFAULT_DATASET, settings)
    splits = split_dialogues(dialogues)
    for split, part in splits.items():
        if len(part) < MIN_DIALOGUES[split]:
            raise DataError(
                f"{name}: too few dialogues: {len(part)} in the {split} split; add more"
            )
    codec = fit_text_codec(
        [turn for part in splits["train"] for turn in part],
        settings.unit,
        vocabulary=settings.vocabulary,
        special_tokens=(USER_TOKEN, REPLY_TOKEN),
        lower=True,
    )
    dataset = ChatDataset(name, splits, codec, settings)
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in splits.items())
    dataset.notes = [*notes, f"dialogues: {sizes}; vocabulary: {len(codec):,} {settings.unit}s"]
    return dataset


def reopen(data: str | None, file: ModelFile[LanguageModel, TextCodec]) -> ChatDataset:
    """See `Application`: the test split of the model's own dialogues, or all dialogues of other
    data that are not in its training split.
    """
    check_codec(file.codec)
    settings = file.typed_settings(ChatSettings)
    if data is None or data == file.data:
        splits = split_dialogues(_read(file.data, settings)[0])
        dataset = ChatDataset(file.data, splits, file.codec, settings)
        dataset.stored = file.arrays
        dataset.notes = ["evaluated on the held-out test split"]
        return dataset
    dialogues, name, notes = _read(data, settings)
    try:
        trained_on = {
            tuple(turns) for turns in split_dialogues(_read(file.data, settings)[0])["train"]
        }
    except UserError:  # the training data are not available
        trained_on = set()
    new = [turns for turns in dialogues if tuple(turns) not in trained_on]
    if not new:
        raise DataError(f"{name}: the model was trained on all of these dialogues; give others")
    dataset = ChatDataset(name, {"test": new}, file.codec, settings)
    dataset.stored = file.arrays
    dataset.notes = [*notes, f"evaluated on {len(new):,} dialogues; no n-gram baseline"]
    if len(new) < len(dialogues):
        dataset.notes.append(
            f"left out: {len(dialogues) - len(new):,} dialogues that the model was trained on"
        )
    return dataset


def _read(data: str, settings: ChatSettings) -> tuple[list[Dialogue], str, list[str]]:
    """(dialogues, name, notes) of a path or a named dataset."""
    path, named = locate(data)
    name = named.name if named else str(data)
    dialogues, notes = read_dialogues(path, name, settings.encoding, lossy=settings.lossy)
    return dialogues, name, notes


def split_dialogues(dialogues: list[Dialogue]) -> dict[str, list[Dialogue]]:
    """80 / 10 / 10 by a hash of the user's first turn, so that equal questions are in the same
    split; of a long conversation, which often begins with a greeting, by a hash of all turns.
    """
    splits: dict[str, list[Dialogue]] = {split: [] for split in SPLITS}
    for turns in dialogues:
        first = first_message(turns)
        is_long = len(turns) > first + MAX_QUESTION_TURNS
        key = "\n".join(turns) if is_long else turns[first]
        splits[split_of(" ".join(key.lower().split()), 10)].append(turns)
    return splits
