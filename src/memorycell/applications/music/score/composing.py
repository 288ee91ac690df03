"""Compose scores note by note."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

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
from memorycell.applications.music.score.statistics import ends_on_tonic

COMPOSING_TEMPERATURE = 0.7
"""Of pitches, by default; lengths are sampled at temperature 1, since fewer of them would occur."""
ENDING_BARS, MAX_ENDINGS = 2, 12
"""Bars at the end that are composed again until they end on the tonic, and how often at most."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What composing excludes.

    ranges   pitches outside the range that each voice has in training, and, where training has
             none, parallel fifths and octaves
    ending   an end that is not on the tonic: the last bars are composed again
    """

    ranges: bool = True
    ending: bool = True


NO_LIMITS = Limits(ranges=False, ending=False)


@torch.inference_mode()
def compose(
    model: ScoreModel,
    codec: ScoreCodec,
    header: Header,
    rng: np.random.Generator,
    *,
    temperature: float = COMPOSING_TEMPERATURE,
    given: Sequence[Voice] = (),
    limits: Limits = Limits(),
) -> Score:
    """Sample a score of the header's metre, key and length.

    temperature   of pitches
    given         the first notes of the first voices; all of a voice harmonises it
    """
    piece = _Piece(model, codec, header, given, limits)
    if not limits.ending:
        piece.compose(header.length, rng, temperature)
        return piece.score()
    piece.compose(header.length - ENDING_BARS * header.metre.bar, rng, temperature)
    for _ in range(MAX_ENDINGS):
        complete = piece.fork()
        complete.compose(header.length, rng, temperature)
        if ends_on_tonic(complete.score()):
            break
    return complete.score()


class _Piece:
    """A piece while it is composed."""

    def __init__(
        self,
        model: ScoreModel,
        codec: ScoreCodec,
        header: Header,
        given: Sequence[Voice],
        limits: Limits,
    ) -> None:
        self._head, self._stepper = model.head, model.stepper()
        self._codec, self._header = codec, header
        self._state = np.zeros((1, self._stepper.layout.width), np.float32)
        self._progress = Progress(codec, header)
        self._given = [*given, *[()] * (codec.voices - len(given))]
        self._voices: list[list[ScoreNote]] = [[] for _ in range(codec.voices)]
        self._excluded = [
            _excluded_pitches(codec, k, header, limits.ranges) for k in range(codec.voices)
        ]
        self._no_parallels = limits.ranges and not codec.parallels

    def fork(self) -> _Piece:
        """An independent copy."""
        other = copy.copy(self)
        other._state = self._state.copy()
        other._progress = self._progress.fork()
        other._voices = [list(voice) for voice in self._voices]
        return other

    def score(self) -> Score:
        """The piece as it is."""
        header = self._header
        return Score(header.metre, header.key, header.pickup, tuple(map(tuple, self._voices)))

    def compose(self, until: int, rng: np.random.Generator, temperature: float) -> None:
        """Add the notes that begin before `until` ticks."""
        progress, codec = self._progress, self._codec
        while not progress.done and progress.now < until:
            x = codec.inputs(np.array([progress.blocks()]))[0]
            hidden, _ = self._stepper.step_one(self._state, 0, x)
            voice = progress.voice
            place, given = len(self._voices[voice]), self._given[voice]
            if place < len(given):
                note = given[place]._replace(length=min(given[place].length, progress.left))
            else:
                note = self._sample(torch.from_numpy(hidden), rng, temperature)
            self._voices[voice].append(note)
            progress.add(note)

    def _sample(
        self, hidden: torch.Tensor, rng: np.random.Generator, temperature: float
    ) -> ScoreNote:
        """The next note. It ends with the piece at the latest."""
        progress, codec = self._progress, self._codec
        too_long = np.array([True, *(ticks > progress.left for ticks, _ in codec.lengths)])
        length_id, ticks, end = OTHER_LENGTH_ID, progress.left, 1
        if not too_long.all():
            length_id = _draw(self._head.length(hidden), too_long, rng, 1.0)
            ticks, end = codec.lengths[length_id - 1]
        last = torch.tensor(int(ticks >= progress.left))
        scores = self._head.pitch_scores(hidden, torch.tensor(length_id), last)
        excluded = self._excluded[progress.voice]
        if self._no_parallels:
            excluded = excluded.copy()
            excluded[[pitch_id for pitch_id in progress.parallels() if pitch_id >= 0]] = True
        pitch_id = _draw(scores, excluded, rng, temperature)
        return ScoreNote(codec.pitch(pitch_id, progress.header.key[0]), ticks, bool(end))


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


def _draw(
    scores: torch.Tensor, excluded: np.ndarray, rng: np.random.Generator, temperature: float
) -> int:
    """An id by its probability."""
    values = np.where(excluded, -np.inf, scores.double().numpy() / temperature)
    p = np.exp(values - values.max())
    return int(rng.choice(len(p), p=p / p.sum()))
