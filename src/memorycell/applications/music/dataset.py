"""Pieces of music as frames, by split, with their baselines; preparing data of every kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, Record
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.music.baselines import FirstOrder, FrameModel, KeyFrequency
from memorycell.applications.music.codec import MusicCodec
from memorycell.applications.music.event_dataset import (
    EventDataset,
    prepare_events,
    reopen_events,
)
from memorycell.applications.music.model import Composer
from memorycell.applications.music.model_files import (
    MusicFile,
    event_file,
    frame_file,
    score_file,
)
from memorycell.applications.music.pieces import keep_highest, transpose
from memorycell.applications.music.pitches import LOWEST_PITCH, NUM_KEYS, pitch_name
from memorycell.applications.music.reading import Pieces, check_sizes, read_pieces
from memorycell.applications.music.score.dataset import (
    ScoreDataset,
    prepare_scores,
    reopen_scores,
)
from memorycell.applications.music.settings import EVENTS, SCORE, MusicSettings
from memorycell.errors import DataError, UserError
from memorycell.language.codec import fingerprint
from memorycell.models.batches import PaddedBatch, by_length, padded
from memorycell.reading import Losses

DEFAULT_DATASET = "chorales"
MAX_DEFAULT_VOICES = 10
EVALUATION_BUDGET = 8000
"""Frames per batch."""


class MusicDataset(Dataset[Composer, PaddedBatch]):
    """See `Dataset`; pieces are [T, 88] bool."""

    codec: MusicCodec

    def __init__(
        self,
        name: str,
        pieces: Pieces,
        codec: MusicCodec,
        settings: MusicSettings,
        notes: list[str],
    ) -> None:
        self.name, self.pieces, self.codec = name, pieces, codec
        self.settings, self.notes = settings, notes
        self.fingerprint = fingerprint(
            np.packbits(piece).tobytes().hex() for part in pieces.values() for piece in part
        )

    def build(self) -> Composer:
        """See `Dataset`."""
        return Composer(self.settings.composer_config(self.codec.voices))

    def batches(self, seed: int) -> Iterator[PaddedBatch]:
        """See `Dataset`; pieces of similar length, transposed at random."""
        rng = np.random.default_rng(seed)
        pieces = self.pieces["train"]
        for rows in by_length(_lengths(pieces), self.settings.budget, seed):
            yield pad_pieces([transpose(pieces[k], rng, self.settings.transpose) for k in rows])

    @torch.inference_mode()
    def evaluate(self, model: Composer, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: nats per frame, and nats per sounding key."""
        model.eval()
        pieces = self.pieces[split]
        if precision != "float32":
            return self._metrics(self._stepped_nats(model, pieces, precision), split)
        total = 0.0
        for rows in by_length(_lengths(pieces), EVALUATION_BUDGET, 0):
            total += float(model.nats(pad_pieces([pieces[k] for k in rows])).double().sum())
        return self._metrics(total, split)

    def _stepped_nats(self, model: Composer, pieces: Sequence[np.ndarray], precision: str) -> float:
        stepper = model.stepper(precision)
        total = 0.0
        for piece in pieces:
            past = np.concatenate([np.zeros((1, NUM_KEYS)), piece[:-1]]).astype(np.float32)
            state = np.zeros((1, stepper.layout.width), np.float32)
            hidden, _ = stepper.step_one(state, 0, past)
            frames = torch.from_numpy(piece.astype(np.float32))
            total += float(model.head.nats(torch.from_numpy(hidden), frames).double().sum())
        return total

    def _metrics(self, total: float, split: str) -> Metrics:
        """From the total nats of a split."""
        frames = sum(len(piece) for piece in self.pieces[split])
        keys = sum(int(piece.sum()) for piece in self.pieces[split])
        return {"nats": total / frames, "nats_key": total / max(1, keys)}

    @cached_property
    def _baselines(self) -> dict[str, FrameModel]:
        train, valid = self.pieces["train"], self.pieces["valid"]
        return {"key frequency": KeyFrequency(train), "first order": FirstOrder(train, valid)}

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if "train" not in self.pieces:
            return {}
        return {
            name: self._metrics(float(sum(model.nats(p).sum() for p in self.pieces[split])), split)
            for name, model in self._baselines.items()
        }

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return np.concatenate(self.pieces["test"])[:steps].astype(np.float32)

    def inspection_input(self) -> np.ndarray:
        """The longest test piece, [T, 88] float32."""
        return max(self.pieces["test"], key=len).astype(np.float32)

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.pieces.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": "nats per frame",
        }


AnyMusicDataset = MusicDataset | EventDataset | ScoreDataset


def _lengths(pieces: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(piece) for piece in pieces])


def pad_pieces(pieces: Sequence[np.ndarray]) -> PaddedBatch:
    """A batch of pieces, padded with silence."""
    x, lengths = padded([piece.astype(np.float32) for piece in pieces])
    return PaddedBatch(x, lengths, x)


def limit_voices(pieces: Pieces, voices: int) -> tuple[Pieces, int]:
    """(the pieces with the `voices` highest keys of each frame, the number of frames with more)."""
    limited = {split: [keep_highest(p, voices) for p in part] for split, part in pieces.items()}
    changed = sum(
        int((after != before).any(1).sum())
        for split, part in pieces.items()
        for before, after in zip(part, limited[split], strict=True)
    )
    return limited, changed


def _limit_voices(
    pieces: Pieces, voices: int, settings: MusicSettings, where: str
) -> tuple[Pieces, list[str]]:
    """See `limit_voices`, with notes. Raises `DataError` where a limit that was not set by the user
    leaves out too many keys.
    """
    limited, frames = limit_voices(pieces, voices)
    if not frames:
        return limited, []
    before, after = (
        sum(int(piece.sum()) for part in parts.values() for piece in part)
        for parts in (pieces, limited)
    )
    if settings.voices is None:
        lost = Losses("sounding keys")
        lost.skip(f"at most {voices} at once; set --set voices=N", before - after)
        lost.check(before, where, settings.lossy)
    return limited, [
        f"{frames:,} frames have more than {voices} keys; the highest {voices} are used,"
        f" {before - after:,} of {before:,} sounding keys are left out"
    ]


def prepare(data: str | None, settings: MusicSettings) -> AnyMusicDataset:
    """See `Application`. Read the pieces, split them by a hash of their content, then count voices
    or collect events of the training split.
    """
    data = data or DEFAULT_DATASET
    settings = with_dataset_settings(settings, locate(data)[1])
    if settings.view == EVENTS:
        return prepare_events(data, settings)
    if settings.view == SCORE:
        return prepare_scores(data, settings)
    pieces, where, notes = read_pieces(data, settings.frames, settings.lossy)
    check_sizes(pieces, where)
    most = max(int(piece.sum(1).max()) for piece in pieces["train"])
    voices = settings.voices or min(most, MAX_DEFAULT_VOICES)
    pieces, limited = _limit_voices(pieces, voices, settings, where)
    notes += limited
    sounding = np.flatnonzero(np.concatenate(pieces["train"]).any(0)) + LOWEST_PITCH
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in pieces.items())
    frames = sum(len(piece) for part in pieces.values() for piece in part)
    notes.append(
        f"{sizes} pieces, {frames:,} frames; up to {voices} keys at once,"
        f" {pitch_name(int(sounding[0]))} to {pitch_name(int(sounding[-1]))}"
    )
    return MusicDataset(where, pieces, MusicCodec(settings.frames, voices), settings, notes)


def reopen(data: str | None, file: MusicFile) -> AnyMusicDataset:
    """See `Application`. Of the model's own data the test split is evaluated, of other data all
    pieces that the model was not trained on.
    """
    settings = file.typed_settings(MusicSettings)
    if settings.view == EVENTS:
        return reopen_events(data, event_file(file), settings)
    if settings.view == SCORE:
        return reopen_scores(data, score_file(file), settings)
    codec = frame_file(file).codec
    if data is None or data == file.data:
        own = read_pieces(file.data, settings.frames, settings.lossy)
        pieces, _ = limit_voices(own.splits, codec.voices)
        dataset = MusicDataset(file.data, pieces, codec, settings, ["evaluated: the test split"])
        if dataset.fingerprint != file.fingerprint:
            dataset.notes.append(f"{file.data} has changed since the model was trained")
        return dataset
    other = read_pieces(data, settings.frames, settings.lossy)
    notes = other.notes
    try:
        trained = read_pieces(file.data, settings.frames, settings.lossy).splits
    except UserError as error:
        trained = {}
        notes.append(f"no baselines, since the training data are not available ({error})")
    seen = {piece.tobytes() for piece in trained.get("train", [])}
    new = [p for part in other.splits.values() for p in part if p.tobytes() not in seen]
    if not new:
        raise DataError(f"{other.where}: the model was trained on all of these pieces; use others")
    notes.append(f"evaluated: {len(new):,} pieces of another dataset")
    pieces, _ = limit_voices({**trained, "test": new}, codec.voices)
    return MusicDataset(other.where, pieces, codec, settings, notes)
