"""Music as events: bars, positions, pitches and durations one after another (REMI, Huang & Yang
2020, by miditok).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from memorycell.applications.music import codec as music
from memorycell.errors import DataError

LONGEST_BEATS = 16
MARKS = 2
"""Tokens that are no events: what is unknown, and where a piece ends."""


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
            beat_res={(0, LONGEST_BEATS): frames},
            special_tokens=["PAD"],
            pitch_range=(music.LOWEST, music.LOWEST + music.KEYS),
            num_velocities=1,
        )
    )


@dataclass(frozen=True)
class EventCodec:
    """A score in, events out.

    frames   into which a quarter note is cut
    names    of the events, in the order of their numbers after the two marks
    """

    kind: ClassVar[str] = "events"
    frames: int
    names: tuple[str, ...]

    def __len__(self) -> int:
        return MARKS + len(self.names)

    @cached_property
    def surfaces(self) -> tuple[str, ...]:
        """Token number -> what it is called."""
        return ("<unk>", "<end>", *self.names)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Name -> token number."""
        return {name: MARKS + k for k, name in enumerate(self.names)}

    def encode(self, score: Any) -> list[int]:
        """The events of a `symusic.Score`, its tracks as one."""
        return [self.numbers.get(name, 0) for name in events_of(score, self.frames)]

    def decode(self, tokens: Iterable[int]) -> Any:
        """A `symusic.Score` of events; what makes no sense where it stands is left out."""
        from miditok import TokSequence

        tokenizer = _tokenizer(self.frames)
        named = [self.surfaces[token] for token in tokens if token >= MARKS]
        return tokenizer.decode(
            [TokSequence(tokens=named, ids=[tokenizer[name] for name in named])]
        )

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"vocabulary": len(self)}

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return {"frames": self.frames, "names": list(self.names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EventCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        codec = cls(int(data["frames"]), tuple(data["names"]))
        if (
            codec.frames not in music.FRAMES
            or not codec.names
            or set(codec.names) - set(_tokenizer(codec.frames).vocab)
        ):
            raise ValueError("not a codec of events")
        return codec


def fit_events(scores: Iterable[Any], frames: int) -> EventCodec:
    """The events that occur in training scores."""
    seen = {name for score in scores for name in events_of(score, frames)}
    known = _tokenizer(frames).vocab
    return EventCodec(frames, tuple(sorted(seen, key=lambda name: known[name])))


def events_of(score: Any, frames: int) -> list[str]:
    """The names of a score's events."""
    import symusic

    merged: Any = symusic.Score(score.tpq)
    track: Any = symusic.Track("", 0, False)
    for one in score.tracks:
        if not one.is_drum:
            track.notes.extend(one.notes)
    track.notes.sort()
    merged.tracks.append(track)
    found = _tokenizer(frames)(merged)
    return [
        name
        for sequence in (found if isinstance(found, list) else [found])
        for name in sequence.tokens
    ]


def score_from(path: Path, frames: int) -> Any:
    """A score of a file: MIDI as it is; other files by their frames. Raises `DataError`."""
    piece = music.read_piece(path, frames)
    return (
        music.midi_score(path)
        if path.suffix.lower() in music.MIDI
        else music.score_of(piece, frames, 100)
    )


def transposed(tokens: np.ndarray, codec: EventCodec, shift: int) -> np.ndarray:
    """Events with every pitch so many semitones higher; as they are where one would leave what the
    codec knows.
    """
    moved = []
    for token in tokens.tolist():
        name = codec.surfaces[token]
        if name.startswith("Pitch_"):
            token = codec.numbers.get(f"Pitch_{int(name[6:]) + shift}", -1)
        moved.append(token)
    return tokens if -1 in moved else np.array(moved, np.int64)


def checked_score(score: Any) -> Any:
    """A score with notes. Raises `DataError` for one without."""
    if not any(track.notes for track in score.tracks):
        raise DataError("the events make no note; try another seed, or a lower temperature")
    return score
