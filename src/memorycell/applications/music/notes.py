"""The notes of a piece, in ticks, and their conversion to frames and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.applications.music.pieces import FRAMES_PER_QUARTER, MAX_FRAMES, trim_silence
from memorycell.applications.music.pitches import LOWEST_PITCH, NUM_KEYS

MAX_SHIFT = 1 / 32
"""In quarter notes: a note that begins this far from a frame is counted as moved."""
VELOCITY = 72


@dataclass(frozen=True)
class Notes:
    """N notes.

    ticks                per quarter note
    begin, end, pitch    [N] int64; times in ticks, MIDI pitches
    """

    ticks: int
    begin: np.ndarray
    end: np.ndarray
    pitch: np.ndarray

    @classmethod
    def of(cls, ticks: int, notes: Sequence[tuple[int, int, int]]) -> Notes:
        """From (begin, end, pitch) of each."""
        begin, end, pitch = np.array(notes, np.int64).reshape(-1, 3).T
        return cls(ticks, begin, end, pitch)

    @classmethod
    def of_score(cls, score: Any) -> Notes:
        """Those of a `symusic.Score`, without drums."""
        return cls.of(
            score.tpq,
            [
                (note.time, note.time + note.duration, note.pitch)
                for track in score.tracks
                if not track.is_drum
                for note in track.notes
            ],
        )

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def on_piano(self) -> Notes:
        """Those whose pitch is a key of the piano."""
        keys = (self.pitch >= LOWEST_PITCH) & (self.pitch < LOWEST_PITCH + NUM_KEYS)
        return Notes(self.ticks, self.begin[keys], self.end[keys], self.pitch[keys])

    def piece(self, frames: int) -> np.ndarray:
        """A piece [T, 88] of the notes on the piano: each begins at the nearest frame. Raises
        ValueError; see `check_length`.
        """
        notes = self.on_piano
        if not len(notes):
            return np.zeros((0, NUM_KEYS), bool)
        self.check_length(frames)
        step = self.ticks / frames
        begin = np.rint(notes.begin / step).astype(np.int64)
        end = np.maximum(begin + 1, np.rint(notes.end / step).astype(np.int64))
        piece = np.zeros((max(int(end.max()), 1), NUM_KEYS), bool)
        for first, last, key in zip(begin, end, notes.pitch - LOWEST_PITCH, strict=True):
            piece[first:last, key] = True
        return trim_silence(piece)

    def check_length(self, frames: int) -> None:
        """Raises ValueError if a piece of the notes has more than `MAX_FRAMES`."""
        count = int(np.ceil(self.end.max(initial=0) / self.ticks * frames))
        if count > MAX_FRAMES:
            raise ValueError(f"{count:,} frames are too many; at most {MAX_FRAMES:,}")

    def moved(self) -> dict[int, int]:
        """Frames per quarter note -> the number of notes on the piano that begin more than
        `MAX_SHIFT` from a frame.
        """
        quarters = self.on_piano.begin / self.ticks
        return {
            frames: int((np.abs(np.rint(quarters * frames) / frames - quarters) > MAX_SHIFT).sum())
            for frames in FRAMES_PER_QUARTER
        }

    def score(self) -> Any:
        """A `symusic.Score` with one track."""
        import symusic

        score: Any = symusic.Score(self.ticks)
        track: Any = symusic.Track("memorycell", 0, False)
        for begin, end, pitch in zip(
            self.begin.tolist(), self.end.tolist(), self.pitch.tolist(), strict=True
        ):
            track.notes.append(symusic.Note(begin, end - begin, pitch, VELOCITY))
        score.tracks.append(track)
        return score
