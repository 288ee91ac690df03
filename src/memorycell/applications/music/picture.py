"""The main picture of a music model: what it expects while it reads a piece of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import AnyDataset, Record
from memorycell.application.picture import Picture
from memorycell.applications.music.dataset import MusicDataset
from memorycell.applications.music.event_dataset import EventDataset
from memorycell.applications.music.events import BAR_EVENT, PITCH_PREFIX
from memorycell.applications.music.model import Composer
from memorycell.applications.music.pitches import LOWEST_PITCH, pitch_name
from memorycell.applications.music.score.dataset import ScoreDataset
from memorycell.applications.music.score.model import ScoreModel
from memorycell.applications.music.score.notation import TICKS
from memorycell.applications.music.score.progress import OTHER_ID, note_begins
from memorycell.language.codec import END_ID
from memorycell.language.model import LanguageModel
from memorycell.models.model import Model

MAX_FRAMES, MAX_EVENTS = 64, 400
"""From the beginning of the piece."""
SCORE_FRAMES = 4
"""Per quarter note, in the picture of a score."""
SAMPLES = 200
"""Sampled frames whose share with a key is its probability."""
MIN_SHARE = 0.04
"""Smaller probabilities are not drawn."""
POSITION_PREFIX = "Position_"
QUARTERS_PER_BAR = 4


def music_picture(dataset: AnyDataset, model: Model[Any], result: Record) -> Picture | None:
    """The keys of the longest test piece, and the probabilities that the model gives to keys from
    what it has read before; of events and scores, to the pitches of the notes.
    """
    if isinstance(dataset, ScoreDataset) and isinstance(model, ScoreModel):
        return _score(dataset, model)
    if isinstance(dataset, EventDataset) and isinstance(model, LanguageModel):
        return _events(dataset, model)
    if isinstance(dataset, MusicDataset) and isinstance(model, Composer):
        return _frames(dataset, model)
    return None


@torch.inference_mode()
def _frames(dataset: MusicDataset, model: Composer) -> Picture | None:
    piece = dataset.inspection_input()[:MAX_FRAMES]
    model.eval()
    past = np.concatenate([np.zeros_like(piece[:1]), piece[:-1]])
    hidden, _ = model(torch.from_numpy(past)[None])
    generator = torch.Generator().manual_seed(0)
    shares = [model.head.sample_many(h, generator, SAMPLES).float().mean(0) for h in hidden[0]]
    expected = torch.stack(shares).numpy()
    notes = list(zip(*np.nonzero(piece), strict=True))
    likely = list(zip(*np.nonzero(expected >= MIN_SHARE), strict=True))
    return _roll(
        "Piece of the test split: its keys (dots), and the probability of every key given the"
        " frames before (colour)",
        frames=len(piece),
        per_quarter=dataset.settings.frames,
        cells=[(int(t), int(k) + LOWEST_PITCH, float(expected[t, k])) for t, k in likely],
        dots=[(int(t), int(k) + LOWEST_PITCH) for t, k in notes],
    )


@torch.inference_mode()
def _events(dataset: EventDataset, model: LanguageModel) -> Picture | None:
    codec = dataset.codec
    piece = max(dataset.pieces["test"], key=len)[:MAX_EVENTS]
    tokens = torch.from_numpy(np.append(END_ID, piece))[None]
    p = torch.exp(-model.nats(tokens[:, :-1], tokens[:, 1:])[0]).tolist()
    bar, position = -1, 0
    notes: list[tuple[int, int, float]] = []
    for token, own in zip(piece.tolist(), p, strict=True):
        name = codec.surfaces[token]
        if name == BAR_EVENT:
            bar, position = bar + 1, 0
        elif name.startswith(POSITION_PREFIX):
            position = int(name.removeprefix(POSITION_PREFIX))
        elif name.startswith(PITCH_PREFIX):
            at = max(bar, 0) * QUARTERS_PER_BAR * codec.frames + position
            notes.append((at, int(name.removeprefix(PITCH_PREFIX)), own))
    notes = [note for note in notes if note[0] < 2 * MAX_FRAMES]
    return _roll(
        "Piece of the test split: where its notes begin, and the probability of each pitch given"
        " the events before (colour)",
        frames=max((at for at, _, _ in notes), default=-1) + 1,
        per_quarter=codec.frames,
        cells=notes,
        dots=[(at, pitch) for at, pitch, _ in notes],
    )


@torch.inference_mode()
def _score(dataset: ScoreDataset, model: ScoreModel) -> Picture | None:
    codec, step = dataset.codec, TICKS // SCORE_FRAMES
    score = max(dataset.scores["test"], key=lambda score: score.length)
    blocks, ids = codec.encode(score)
    model.eval()
    hidden, _ = model(torch.from_numpy(codec.inputs(blocks))[None])
    length, last, _ = torch.from_numpy(ids).unbind(-1)
    p = model.head.pitch_scores(hidden[0], length, last).softmax(-1).numpy()
    dots, expected = set(), dict[tuple[int, int], float]()
    for k, (begin, pitch) in enumerate(note_begins(codec, score)):
        at = begin // step
        if at >= 2 * MAX_FRAMES:
            break
        dots |= set() if pitch is None else {(at, pitch)}
        for pitch_id in np.flatnonzero(p[k] >= MIN_SHARE):
            likely = codec.pitch(int(pitch_id), score.key[0]) if pitch_id != OTHER_ID else None
            if likely is not None:
                place = at, likely
                expected[place] = max(expected.get(place, 0.0), float(p[k, pitch_id]))
    return _roll(
        "Piece of the test split: where its notes begin (dots), and the probability of each pitch"
        " given the notes before (colour)",
        frames=max((at for at, _ in (*dots, *expected)), default=-1) + 1,
        per_quarter=SCORE_FRAMES,
        cells=[(at, pitch, share) for (at, pitch), share in sorted(expected.items())],
        dots=sorted(dots),
    )


def _roll(
    title: str,
    *,
    frames: int,
    per_quarter: int,
    cells: Sequence[tuple[int, int, float]],
    dots: Sequence[tuple[int, int]],
) -> Picture | None:
    """A grid over frames and MIDI pitches; cells and dots are (frame, pitch, …)."""
    pitches = [pitch for _, pitch, _ in cells] + [pitch for _, pitch in dots]
    if not pitches:
        return None
    low, high = min(pitches), max(pitches)
    return Picture(
        title=title,
        x=[f"{k / per_quarter:g}" for k in range(frames)],
        x_name="quarter notes",
        y="pitch",
        rows=[pitch_name(pitch) for pitch in range(low, high + 1)],
        cells=[(at, pitch - low, round(share, 3)) for at, pitch, share in cells],
        dots=[(at, pitch - low) for at, pitch in dots],
    )
