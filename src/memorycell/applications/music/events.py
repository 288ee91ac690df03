"""Music as events: bars, positions, pitches and durations (REMI; Huang & Yang 2020), by miditok."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from memorycell.applications.music.pieces import FRAMES_PER_QUARTER
from memorycell.applications.music.pitches import LOWEST_PITCH, NUM_KEYS
from memorycell.errors import DataError
from memorycell.language.codec import END, UNKNOWN, UNKNOWN_ID
from memorycell.setting_fields import from_json

MAX_BEATS = 16
"""Longest duration of a note."""
SPECIAL_TOKENS = (UNKNOWN, END)
"""The first token ids."""
BAR_EVENT = "Bar_None"
PITCH_PREFIX = "Pitch_"


@lru_cache(maxsize=4)
def _tokenizer(frames: int) -> Any:
    from miditok import REMI, TokenizerConfig

    return REMI(
        TokenizerConfig(
            use_velocities=False,
            use_programs=False,
            use_chords=False,
            use_tempos=False,
            use_time_signatures=False,
            use_rests=False,
            use_pitchdrum_tokens=False,
            beat_res={(0, MAX_BEATS): frames},
            special_tokens=["PAD"],
            pitch_range=(LOWEST_PITCH, LOWEST_PITCH + NUM_KEYS),
            num_velocities=1,
        )
    )


@dataclass(frozen=True)
class EventCodec:
    """Converts scores to event ids and back.

    frames   positions per quarter note
    names    the events, by token id after `SPECIAL_TOKENS`
    """

    kind: ClassVar[str] = "events"
    frames: int
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.surfaces)

    @cached_property
    def surfaces(self) -> tuple[str, ...]:
        """Token id -> name."""
        return (*SPECIAL_TOKENS, *self.names)

    @cached_property
    def token_ids(self) -> dict[str, int]:
        """Name -> token id, of events."""
        return {name: k for k, name in enumerate(self.names, len(SPECIAL_TOKENS))}

    def encode(self, score: Any) -> list[int]:
        """The token ids of a `symusic.Score`, its tracks merged."""
        return [self.token_ids.get(name, UNKNOWN_ID) for name in event_names(score, self.frames)]

    def decode(self, tokens: Iterable[int]) -> Any:
        """A `symusic.Score` of token ids; events that make no sense in their place are dropped."""
        from miditok import TokSequence

        tokenizer = _tokenizer(self.frames)
        names = [self.surfaces[token] for token in tokens if token >= len(SPECIAL_TOKENS)]
        ids = [tokenizer[name] for name in names]
        return tokenizer.decode([TokSequence(tokens=names, ids=ids)])

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"vocabulary": len(self)}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return {"frames": self.frames, "names": list(self.names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EventCodec:
        """See `Codec`."""
        codec = from_json(cls, data)
        names = set(codec.names)
        if (
            codec.frames not in FRAMES_PER_QUARTER
            or BAR_EVENT not in names
            or len(names) != len(codec.names)
            or names - set(_tokenizer(codec.frames).vocab)
        ):
            raise ValueError("not a codec of events")
        return codec


def fit_events(scores: Iterable[Any], frames: int) -> EventCodec:
    """A codec of the events in training scores."""
    names = {name for score in scores for name in event_names(score, frames)}
    ids = _tokenizer(frames).vocab
    return EventCodec(frames, tuple(sorted(names, key=lambda name: ids[name])))


def event_names(score: Any, frames: int) -> list[str]:
    """The events of a `symusic.Score`, without drums, its tracks merged."""
    import symusic

    merged: Any = symusic.Score(score.tpq)
    notes: Any = symusic.Track("", 0, False)
    for track in score.tracks:
        if not track.is_drum:
            notes.notes.extend(track.notes)
    notes.notes.sort()
    merged.tracks.append(notes)
    sequences = _tokenizer(frames)(merged)
    if not isinstance(sequences, list):
        sequences = [sequences]
    return [name for sequence in sequences for name in sequence.tokens]


def transpose_events(tokens: np.ndarray, codec: EventCodec, semitones: int) -> np.ndarray:
    """Token ids [N] with all pitches moved; unchanged if the codec lacks one of the new pitches."""
    moved = []
    for token in tokens.tolist():
        name = codec.surfaces[token]
        if name.startswith(PITCH_PREFIX):
            pitch = int(name.removeprefix(PITCH_PREFIX)) + semitones
            if f"{PITCH_PREFIX}{pitch}" not in codec.token_ids:
                return tokens
            token = codec.token_ids[f"{PITCH_PREFIX}{pitch}"]
        moved.append(token)
    return np.array(moved, np.int64)


def check_has_notes(score: Any) -> Any:
    """The score. Raises `DataError` if it has no notes."""
    if not any(track.notes for track in score.tracks):
        raise DataError("the events contain no note; try another seed, or a lower temperature")
    return score
