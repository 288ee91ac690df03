"""music: what could sound next; composes, goes on, harmonises a melody."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import (
    Dataset,
    Metrics,
)
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.application.modelfile import ModelFile
from memorycell.applications.music.baselines import FirstOrder, KeyFrequency
from memorycell.applications.music.codec import ENDINGS as SCORES
from memorycell.applications.music.codec import (
    FRAMES,
    KEYS,
    MusicCodec,
    Pieces,
    highest,
    name_of,
    read_folder,
    read_split,
    score_of,
)
from memorycell.applications.music.events import EventCodec, events_of, fit_events, score_from
from memorycell.applications.music.events import transposed as moved_events
from memorycell.applications.music.model import VIEWS, Composer, ComposerConfig
from memorycell.applications.text.dataset import stepped
from memorycell.errors import DataError, UserError
from memorycell.language.codec import fingerprint
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.language.ngram import KneserNey, best_order
from memorycell.models.batches import LaneBatch, PaddedBatch, by_length, lanes, padded
from memorycell.settings import check_choices, check_counts
from memorycell.training.splits import SPLITS, split_of

MOST_VOICES = 10


@dataclass(frozen=True)
class MusicSettings:
    """What --set can say about a model of music.

    view       how music is told: in frames, each by its voices (from the highest down, each knowing
               those above it) or by its keys (each for itself); or as events: bars, positions,
               pitches and durations
    frames     in a quarter note (of a JSON file, as it is written)
    voices     keys that sound together at most; where not said as many as in training, 10 at most
    transpose  in training, semitones up or down at most
    cell, hidden, layers   the recurrent part
    dropout, zoneout, weight_drop, noise   probabilities; see `ComposerConfig`
    budget     frames in a batch, padding included; of events: lanes side by side, bptt events each
    """

    view: str = "voices"
    frames: int = 1
    voices: int | None = None
    transpose: int = 5
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.4
    zoneout: float = 0.0
    weight_drop: float = 0.2
    noise: float = 0.1
    budget: int = 600
    lanes: int = 16
    bptt: int = 64

    def __post_init__(self) -> None:
        check_choices(self, view=(*VIEWS, "events"))
        check_counts(self, "frames", "voices", "hidden", "layers", "budget", "lanes", "bptt")
        if self.frames not in FRAMES:
            raise ValueError(f"frames={self.frames}: expected {', '.join(map(str, FRAMES))}")
        if not 0 <= self.transpose <= 11:
            raise ValueError(f"transpose={self.transpose}: expected 0 to 11")
        self.model_config(4)  # says what is wrong with the rest

    def model_config(self, voices: int) -> ComposerConfig:
        """The sizes of the model these settings ask for."""
        return ComposerConfig(
            view=self.view if self.view in VIEWS else VIEWS[0],
            voices=voices,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            zoneout=self.zoneout,
            weight_drop=self.weight_drop,
            noise=self.noise,
        )


class MusicDataset(Dataset):
    """Pieces by split, [T, 88] bool each."""

    def __init__(
        self,
        name: str,
        pieces: Pieces,
        codec: MusicCodec,
        settings: MusicSettings,
        notes: list[str],
    ) -> None:
        self.name, self.pieces, self.codec, self.settings, self.notes = (
            name,
            pieces,
            codec,
            settings,
            notes,
        )
        self.fingerprint = fingerprint(
            np.packbits(p).tobytes().hex() for part in pieces.values() for p in part
        )

    def build(self) -> Composer:
        """A composer sized by the settings."""
        return Composer(self.settings.model_config(self.codec.voices))

    def batches(self, seed: int) -> Iterator[PaddedBatch]:
        """The training pieces, each moved up or down as far as the piano goes; by length."""
        rng = np.random.default_rng(seed)
        pieces = self.pieces["train"]
        for rows in by_length(np.array([len(p) for p in pieces]), self.settings.budget, seed):
            yield gathered([transposed(pieces[k], rng, self.settings.transpose) for k in rows])

    @torch.inference_mode()
    def evaluate(self, model: Composer, split: str, precision: str = "float32") -> Metrics:
        """Nats a frame, and nats a key that sounds."""
        model.eval()
        pieces = self.pieces[split]
        total = 0.0
        if precision != "float32":
            ready = model.stepper(precision)
            for piece in pieces:
                past = np.concatenate([np.zeros((1, KEYS)), piece[:-1]]).astype(np.float32)
                hidden, _ = ready.step_one(np.zeros((1, ready.layout.width), np.float32), 0, past)
                nats = model.head.nats(
                    torch.from_numpy(hidden), torch.from_numpy(piece.astype(np.float32))
                )
                total += float(nats.double().sum())
            return self._told(total, split)
        for rows in by_length(np.array([len(p) for p in pieces]), 8000, 0):
            total += float(model.nats(gathered([pieces[k] for k in rows])).double().sum())
        return self._told(total, split)

    def _told(self, total: float, split: str) -> Metrics:
        frames, keys = (sum(f(p) for p in self.pieces[split]) for f in (len, np.sum))
        return {"nats": total / frames, "nats_key": total / max(1, int(keys))}

    @cached_property
    def _simple(self) -> dict[str, Any]:
        train, valid = self.pieces["train"], self.pieces["valid"]
        return {"key frequency": KeyFrequency(train), "first order": FirstOrder(train, valid)}

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The simple methods' metrics on a split."""
        if "train" not in self.pieces:
            return {}
        return {
            name: self._told(float(sum(model.nats(p).sum() for p in self.pieces[split])), split)
            for name, model in self._simple.items()
        }

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return np.concatenate(self.pieces["test"])[:steps].astype(np.float32)

    def inspection_input(self) -> np.ndarray:
        """See `Dataset`: the longest piece."""
        return max(self.pieces["test"], key=len).astype(np.float32)

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.pieces.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": "nats a frame",
        }


class EventDataset(Dataset):
    """Pieces by split, as events one after another, `END` (1) between pieces."""

    def __init__(
        self, name: str, scores: dict[str, list[Any]], codec: EventCodec, settings: MusicSettings
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.notes: list[str] = []
        self.events = {
            s: [np.array(codec.encode(score), np.int64) for score in part]
            for s, part in scores.items()
        }
        self.tokens = {s: self._joined(part) for s, part in self.events.items()}
        self.fingerprint = fingerprint(
            " ".join(map(str, e)) for part in self.events.values() for e in part
        )

    def _joined(self, pieces: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([[1], *(np.append(piece, 1) for piece in pieces)])

    def build(self) -> LanguageModel:
        """A language model of events, sized by the settings."""
        s = self.settings
        return LanguageModel(
            LanguageConfig(
                vocabulary=len(self.codec),
                embedding_size=min(s.hidden, 96),
                tied=False,
                hidden_size=s.hidden,
                cell=s.cell,
                num_layers=s.layers,
                dropout=s.dropout,
                zoneout=s.zoneout,
                weight_drop=s.weight_drop,
            )
        )

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """The training pieces in a new order, each moved up or down, in lanes."""
        rng = np.random.default_rng(seed)
        pieces, most = self.events["train"], self.settings.transpose
        shifts = rng.integers(-most, most + 1, len(pieces))
        order = rng.permutation(len(pieces))
        tokens = self._joined([moved_events(pieces[k], self.codec, int(shifts[k])) for k in order])
        x, y = tokens[:-1], tokens[1:]
        count = max(1, min(self.settings.lanes, len(x) // self.settings.bptt))
        return lanes(
            x, y, x == 1, count=count, bptt=self.settings.bptt, shift=int(rng.integers(len(x)))
        )

    def evaluate(self, model: LanguageModel, split: str, precision: str = "float32") -> Metrics:
        """Nats and perplexity an event."""
        if precision != "float32":
            return _of_events(stepped(model, self.tokens[split], precision))
        tokens = torch.from_numpy(self.tokens[split])
        x, y = tokens[None, :-1], tokens[None, 1:]
        return _of_events(model.nats(x, y, x == 1)[0].double().numpy())

    @cached_property
    def _ngram(self) -> KneserNey:
        return best_order(self.tokens["train"], self.tokens["valid"], len(self.codec))

    def baselines(self, split: str) -> dict[str, Metrics]:
        """An n-gram model's metrics on a split."""
        if "train" not in self.tokens:
            return {}
        return {
            f"{self._ngram.order}-gram": _of_events(
                -np.log(self._ngram.probabilities(self.tokens[split])[1:])
            )
        }

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return self.tokens["test"][:steps, None].astype(np.float32)

    def inspection_input(self) -> np.ndarray:
        """See `Dataset`: the longest piece's events."""
        return max(self.events["test"], key=len)

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.events.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": "nats an event",
        }


def _of_events(nats: np.ndarray) -> Metrics:
    return {"nats": float(nats.mean()), "perplexity": math.exp(min(float(nats.mean()), 700.0))}


def gathered(pieces: list[np.ndarray]) -> PaddedBatch:
    """Pieces side by side, padded with silence."""
    x, lengths = padded([piece.astype(np.float32) for piece in pieces])
    return PaddedBatch(x, lengths, x)


def transposed(piece: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    """Up or down by up to `most` semitones, as far as no key falls off the piano."""
    sounding = np.flatnonzero(piece.any(0))
    if not most or not len(sounding):
        return piece
    shift = int(rng.integers(max(-most, -sounding[0]), min(most, KEYS - 1 - sounding[-1]) + 1))
    return np.roll(piece, shift, 1)


def prepare(data: str | None, settings: MusicSettings) -> MusicDataset | EventDataset:
    """Read the pieces, split them (whole pieces, by a hash of what they hold), and only then count
    voices or events.
    """
    settings = with_dataset_settings(settings, locate(data or "jsb")[1])
    if settings.view == "events":
        scores, where, notes = _read_scores(data or "jsb", settings)
        events = EventDataset(where, scores, fit_events(scores["train"], settings.frames), settings)
        sizes = ", ".join(f"{len(part):,} {split}" for split, part in scores.items())
        total = sum(len(tokens) for tokens in events.tokens.values())
        events.notes = [
            *notes,
            f"{sizes} pieces, {total:,} events of {len(events.codec.names)} kinds",
        ]
        return events
    pieces, where, notes = _read(data or "jsb", settings)
    for split, part in pieces.items():
        if len(part) < 2:
            raise DataError(f"{where}: too few pieces: {len(part)} in the {split} part; bring more")
    most = max(int(piece.sum(1).max()) for piece in pieces["train"])
    voices = settings.voices or min(most, MOST_VOICES)
    pieces, thinned = _thinned(pieces, voices)
    if thinned:
        notes.append(
            f"{thinned:,} frames hold more than {voices} keys; the highest {voices} are kept"
        )
    dataset = MusicDataset(where, pieces, MusicCodec(settings.frames, voices), settings, notes)
    sounding = np.flatnonzero(np.concatenate(pieces["train"]).any(0)) + 21
    dataset.notes.append(
        ", ".join(f"{len(part):,} {split}" for split, part in pieces.items())
        + f" pieces, {sum(len(p) for part in pieces.values() for p in part):,} frames; up to"
        f" {voices} keys at once, {name_of(int(sounding[0]))} to {name_of(int(sounding[-1]))}"
    )
    return dataset


def _thinned(pieces: Pieces, voices: int) -> tuple[Pieces, int]:
    """(the pieces with at most so many keys a frame, the highest; in how many frames there were
    more).
    """
    made: Pieces = {}
    count = 0
    for split, part in pieces.items():
        made[split] = []
        for piece in part:
            kept = highest(piece, voices)
            count += int((kept != piece).any(1).sum())
            made[split].append(kept)
    return made, count


def reopen(data: str | None, file: ModelFile) -> MusicDataset | EventDataset:
    """The same for a trained model. Its own pieces: the held-out test part. Others: all of them."""
    settings: MusicSettings = file.settings(MusicSettings)
    trained, print_ = str(file.info["data"]), str(file.info["fingerprint"])
    if settings.view == "events":
        return _reopen_events(data, trained, file.codec, settings)
    voices = file.codec.voices
    if data is None or data == trained:
        pieces, _ = _thinned(_read(trained, settings)[0], voices)
        dataset = MusicDataset(
            trained, pieces, file.codec, settings, ["scored: the held-out test part"]
        )
        if dataset.fingerprint != print_:
            dataset.notes.append(f"{trained} has changed since the model was trained")
        return dataset
    others, where, notes = _read(data, settings)
    try:
        own = {
            split: part for split, part in _read(trained, settings)[0].items() if split != "test"
        }
    except UserError as error:
        own = {}
        notes.append(f"no simple method beside it: what it learnt from is not here ({error})")
    learnt = {piece.tobytes() for piece in own.get("train", [])}
    fresh = [piece for part in others.values() for piece in part if piece.tobytes() not in learnt]
    if not fresh:
        raise DataError(f"{where}: the model has learnt from all of these pieces; bring others")
    notes.append(f"scored: {len(fresh):,} pieces of another set")
    pieces, _ = _thinned({**own, "test": fresh}, voices)
    return MusicDataset(where, pieces, file.codec, settings, notes)


def _reopen_events(
    data: str | None, trained: str, codec: EventCodec, settings: MusicSettings
) -> EventDataset:
    scores, where, notes = _read_scores(data or trained, settings)
    said = "scored: the held-out test part"
    if data is not None and data != trained:
        others = [score for part in scores.values() for score in part]
        try:
            own = _read_scores(trained, settings)[0]
        except UserError as error:
            own, said = (
                {},
                (
                    f"scored: {len(others):,} pieces; no n-gram beside it: what it learnt from is"
                    f" not here ({error})"
                ),
            )
        else:
            learnt = {tuple(codec.encode(score)) for score in own["train"]}
            others = [score for score in others if tuple(codec.encode(score)) not in learnt]
            said = f"scored: {len(others):,} pieces of another set"
        if not others:
            raise DataError(f"{where}: the model has learnt from all of these pieces; bring others")
        scores = {**own, "test": others}
    dataset = EventDataset(where, scores, codec, settings)
    dataset.notes = [*notes, said]
    return dataset


def _read_scores(data: str, settings: MusicSettings) -> tuple[dict[str, list[Any]], str, list[str]]:
    """The pieces as scores: MIDI files as they are, others by their frames."""
    path, source = locate(data)
    where = source.name if source else str(data)
    given = read_split(path, where)
    if given is not None:
        return (
            {
                s: [score_of(p, settings.frames, 100) for p in part if p.any()]
                for s, part in given.items()
            },
            where,
            [],
        )
    files = (
        sorted(p for p in path.rglob("*") if p.suffix.lower() in SCORES)
        if path.is_dir()
        else [path]
    )
    scores: dict[str, list[Any]] = {split: [] for split in SPLITS}
    bad = []
    for file in files:
        try:
            score = score_from(file, settings.frames)
        except DataError as error:
            bad.append(str(error))
            continue
        scores[split_of(" ".join(events_of(score, settings.frames)), 10)].append(score)
    for split, part in scores.items():
        if len(part) < 2:
            raise DataError(
                bad[0]
                if bad and not any(scores.values())
                else f"{where}: too few pieces: {len(part)} in the {split} part; bring more"
            )
    return scores, where, [f"left out: {len(bad):,} files; the first: {bad[0]}"] if bad else []


def _read(data: str, settings: MusicSettings) -> tuple[Pieces, str, list[str]]:
    path, source = locate(data)
    where = source.name if source else str(data)
    given = read_split(path, where)
    notes: list[str] = []
    if given is None:
        found, notes = read_folder(path, settings.frames)
        given = {split: [] for split in SPLITS}
        for _, piece in found:
            given[split_of(np.packbits(piece).tobytes().hex(), 10)].append(piece)
    empty = sum(not piece.any() for part in given.values() for piece in part)
    if empty:
        notes.append(f"left out: {empty:,} pieces without a note")
    return (
        {split: [piece for piece in part if piece.any()] for split, part in given.items()},
        where,
        notes,
    )
