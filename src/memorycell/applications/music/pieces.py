"""Pieces of music as frames: which piano keys sound at each time.

A piece is [T, 88] bool; key 0 is A0 (MIDI pitch 21). A frame is 1 / `frames` of a quarter note,
sampled at its middle.
"""

from __future__ import annotations

import numpy as np

from memorycell.applications.music.pitches import LOWEST_PITCH, NUM_KEYS
from memorycell.errors import DataError, quote

PIANO = range(LOWEST_PITCH, LOWEST_PITCH + NUM_KEYS)
"""The MIDI pitches of the keys."""
FRAMES_PER_QUARTER = (1, 2, 3, 4, 6, 8, 12, 24)
"""The supported resolutions; multiples of 3 represent triplets."""
MAX_FRAMES = 20_000
"""Of a piece from a file."""


def piece_from_pitches(pitches: object, where: str) -> np.ndarray:
    """A piece from a list of frames, each a list of MIDI pitches.

    Raises `DataError` for other values, pitches outside the piano, and more than `MAX_FRAMES`.
    """
    if not isinstance(pitches, list):
        raise DataError(f"{where}: expected a list of frames, each a list of MIDI pitches")
    if len(pitches) > MAX_FRAMES:
        raise DataError(f"{where}: {len(pitches):,} frames are too many; at most {MAX_FRAMES:,}")
    piece = np.zeros((len(pitches), NUM_KEYS), bool)
    for t, frame in enumerate(pitches):
        if not isinstance(frame, list):
            raise DataError(f"{where}: frame {t + 1}: {quote(frame)} is not a list of MIDI pitches")
        for pitch in frame:
            if type(pitch) not in (int, float) or pitch not in PIANO:
                raise DataError(
                    f"{where}: frame {t + 1}: {quote(pitch)} is not a piano key (MIDI 21 to 108)"
                )
            piece[t, int(pitch) - LOWEST_PITCH] = True
    return piece


def frame_pitches(frame: np.ndarray) -> list[int]:
    """The MIDI pitches of a frame [88], ascending."""
    pitches: list[int] = (np.flatnonzero(frame) + LOWEST_PITCH).tolist()
    return pitches


def piece_notes(piece: np.ndarray) -> list[tuple[int, int, int]]:
    """(first frame, frames, MIDI pitch) of each note; consecutive frames of a key are one note."""
    edges = np.diff(np.pad(piece.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    notes = []
    for key in range(NUM_KEYS):
        begins, ends = np.flatnonzero(edges[:, key] == 1), np.flatnonzero(edges[:, key] == -1)
        notes += [
            (int(b), int(e - b), LOWEST_PITCH + key) for b, e in zip(begins, ends, strict=True)
        ]
    return sorted(notes)


def trim_silence(piece: np.ndarray) -> np.ndarray:
    """A piece without silence at its beginning and end."""
    sounding = np.flatnonzero(piece.any(1))
    return piece[sounding[0] : sounding[-1] + 1] if len(sounding) else piece[:0]


def keep_highest(piece: np.ndarray, voices: int) -> np.ndarray:
    """A piece with the `voices` highest keys of each frame."""
    rank = np.cumsum(piece[:, ::-1], 1)[:, ::-1]
    return piece & (rank <= voices)


def transpose(piece: np.ndarray, rng: np.random.Generator, max_semitones: int) -> np.ndarray:
    """A piece moved up or down by a random interval that keeps all keys on the piano."""
    sounding = np.flatnonzero(piece.any(0))
    if not max_semitones or not len(sounding):
        return piece
    lowest = max(-max_semitones, -sounding[0])
    highest = min(max_semitones, NUM_KEYS - 1 - sounding[-1])
    return np.roll(piece, int(rng.integers(lowest, highest + 1)), 1)
