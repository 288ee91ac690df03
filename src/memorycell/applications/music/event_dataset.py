"""Pieces of music as events, by split, with an n-gram baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, Record
from memorycell.applications.music.events import EventCodec, fit_events, transpose_events
from memorycell.applications.music.model_files import EventFile
from memorycell.applications.music.reading import Scores, check_sizes, read_scores
from memorycell.applications.music.settings import MusicSettings
from memorycell.errors import DataError, UserError
from memorycell.language.codec import END_ID, fingerprint
from memorycell.language.evaluation import stepped_nats
from memorycell.language.model import LanguageModel
from memorycell.language.ngram import KneserNey, fit_kneser_ney
from memorycell.models.batches import LaneBatch, lanes

MAX_LOG_PERPLEXITY = 700.0


class EventDataset(Dataset[LanguageModel, LaneBatch]):
    """See `Dataset`; a split is a sequence of token ids, with `END_ID` between pieces."""

    codec: EventCodec

    def __init__(
        self, name: str, scores: Scores, codec: EventCodec, settings: MusicSettings
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.notes: list[str] = []
        self.pieces = {
            split: [np.array(codec.encode(score), np.int64) for score in part]
            for split, part in scores.items()
        }
        self.tokens = {split: _join(part) for split, part in self.pieces.items()}
        self.fingerprint = fingerprint(
            " ".join(map(str, piece)) for part in self.pieces.values() for piece in part
        )

    def build(self) -> LanguageModel:
        """See `Dataset`."""
        return LanguageModel(self.settings.language_config(len(self.codec)))

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `Dataset`; pieces in random order, transposed at random."""
        rng = np.random.default_rng(seed)
        pieces, settings = self.pieces["train"], self.settings
        shifts = rng.integers(-settings.transpose, settings.transpose + 1, len(pieces))
        order = rng.permutation(len(pieces))
        tokens = _join([transpose_events(pieces[k], self.codec, int(shifts[k])) for k in order])
        x, y = tokens[:-1], tokens[1:]
        count = max(1, min(settings.lanes, len(x) // settings.bptt))
        shift = int(rng.integers(len(x)))
        return lanes(x, y, x == END_ID, count=count, bptt=settings.bptt, shift=shift)

    def evaluate(self, model: LanguageModel, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: nats and perplexity per event."""
        if precision != "float32":
            return _metrics(stepped_nats(model, self.tokens[split], precision))
        tokens = torch.from_numpy(self.tokens[split])
        x, y = tokens[None, :-1], tokens[None, 1:]
        return _metrics(model.nats(x, y, x == END_ID)[0].double().numpy())

    @cached_property
    def _ngram(self) -> KneserNey:
        return fit_kneser_ney(self.tokens["train"], self.tokens["valid"], len(self.codec))

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if "train" not in self.tokens:
            return {}
        p = self._ngram.probabilities(self.tokens[split])[1:]
        return {f"{self._ngram.order}-gram": _metrics(-np.log(p))}

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return self.tokens["test"][:steps, None].astype(np.float32)

    def inspection_input(self) -> np.ndarray:
        """The events of the longest test piece, [T] int64."""
        return max(self.pieces["test"], key=len)

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.pieces.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": "nats per event",
        }


def _join(pieces: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([[END_ID], *(np.append(piece, END_ID) for piece in pieces)])


def _metrics(nats: np.ndarray) -> Metrics:
    mean = float(nats.mean())
    return {"nats": mean, "perplexity": math.exp(min(mean, MAX_LOG_PERPLEXITY))}


def prepare_events(data: str, settings: MusicSettings) -> EventDataset:
    """See `Application`, for view=events."""
    scores, where, notes = read_scores(data, settings.frames, settings.lossy)
    check_sizes(scores, where)
    codec = fit_events(scores["train"], settings.frames)
    dataset = EventDataset(where, scores, codec, settings)
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in scores.items())
    total = sum(len(tokens) for tokens in dataset.tokens.values())
    summary = f"{sizes} pieces, {total:,} events, {len(codec.names)} of them distinct"
    dataset.notes = [*notes, summary]
    return dataset


def reopen_events(data: str | None, file: EventFile, settings: MusicSettings) -> EventDataset:
    """See `Application`, for view=events."""
    codec = file.codec
    scores, where, notes = read_scores(data or file.data, settings.frames, settings.lossy)
    if data is None or data == file.data:
        notes.append("evaluated: the test split")
    else:
        trained: Scores = {}
        try:
            trained = read_scores(file.data, settings.frames, settings.lossy).splits
        except UserError as error:
            notes.append(f"no baselines, since the training data are not available ({error})")
        seen = {tuple(codec.encode(score)) for score in trained.get("train", [])}
        new = [s for part in scores.values() for s in part if tuple(codec.encode(s)) not in seen]
        if not new:
            raise DataError(f"{where}: the model was trained on all of these pieces; use others")
        notes.append(f"evaluated: {len(new):,} pieces of another dataset")
        scores = {**trained, "test": new}
    dataset = EventDataset(where, scores, codec, settings)
    dataset.notes = notes
    return dataset
