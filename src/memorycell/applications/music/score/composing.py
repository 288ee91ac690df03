"""Compose scores note by note."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from memorycell.applications.music.score.codec import ScoreCodec
from memorycell.applications.music.score.model import ScoreModel
from memorycell.applications.music.score.notation import Score, ScoreNote, Voice
from memorycell.applications.music.score.progress import (
    OTHER_ID,
    OTHER_LENGTH_ID,
    REST_ID,
    Header,
    Progress,
)

COMPOSING_TEMPERATURE = 0.8
"""By default."""


@torch.inference_mode()
def compose(
    model: ScoreModel,
    codec: ScoreCodec,
    header: Header,
    rng: np.random.Generator,
    *,
    temperature: float,
    given: Sequence[Voice] = (),
    limited: bool = True,
) -> Score:
    """Sample a score of the header's metre, key and length.

    given     the first notes of the first voices; all of a voice harmonises it
    limited   only pitches in the range that each voice has in training, and no parallel fifths and
              octaves where training has none
    """
    stepper = model.stepper()
    state = np.zeros((1, stepper.layout.width), np.float32)
    progress = Progress(codec, header)
    queues = [deque(voice) for voice in given] + [
        deque[ScoreNote]() for _ in range(codec.voices - len(given))
    ]
    voices: list[list[ScoreNote]] = [[] for _ in range(codec.voices)]
    excluded = [_excluded_pitches(codec, k, header, limited) for k in range(codec.voices)]
    while not progress.done:
        x = codec.inputs(np.array([progress.blocks()]))[0]
        hidden, _ = stepper.step_one(state, 0, x)
        voice = progress.voice
        if queues[voice]:
            note = queues[voice].popleft()
            note = note._replace(length=min(note.length, progress.left))
        else:
            barred = excluded[voice].copy()
            if limited and not codec.parallels:
                barred[[pitch_id for pitch_id in progress.parallels() if pitch_id >= 0]] = True
            note = _sample(
                model, codec, progress, torch.from_numpy(hidden), rng, temperature, barred
            )
        voices[voice].append(note)
        progress.add(note)
    return Score(header.metre, header.key, header.pickup, tuple(tuple(v) for v in voices))


def _excluded_pitches(codec: ScoreCodec, voice: int, header: Header, limit: bool) -> np.ndarray:
    """[P] bool: the pitch ids that a voice cannot have."""
    excluded = np.zeros(codec.num_pitches, bool)
    excluded[OTHER_ID] = True
    low, high = codec.ranges[voice]
    for pitch_id in range(REST_ID + 1, codec.num_pitches):
        pitch = codec.pitch(pitch_id, header.key[0])
        assert pitch is not None
        excluded[pitch_id] = not (low <= pitch <= high if limit else 0 <= pitch < 128)
    return excluded


def _sample(
    model: ScoreModel,
    codec: ScoreCodec,
    progress: Progress,
    hidden: torch.Tensor,
    rng: np.random.Generator,
    temperature: float,
    excluded: np.ndarray,
) -> ScoreNote:
    """The next note. It ends with the piece at the latest."""
    too_long = np.array([True, *(ticks > progress.left for ticks, _ in codec.lengths)])
    length_id, ticks, end = OTHER_LENGTH_ID, progress.left, 1
    if not too_long.all():
        length_id = _draw(model.head.length(hidden), too_long, rng, temperature)
        ticks, end = codec.lengths[length_id - 1]
    last = torch.tensor(int(ticks >= progress.left))
    scores = model.head.pitch_scores(hidden, torch.tensor(length_id), last)
    pitch_id = _draw(scores, excluded, rng, temperature)
    return ScoreNote(codec.pitch(pitch_id, progress.header.key[0]), ticks, bool(end))


def _draw(
    scores: torch.Tensor, excluded: np.ndarray, rng: np.random.Generator, temperature: float
) -> int:
    """An id by its probability."""
    values = np.where(excluded, -np.inf, scores.double().numpy() / temperature)
    p = np.exp(values - values.max())
    return int(rng.choice(len(p), p=p / p.sum()))
