"""Pitch names, keys and scales."""

from __future__ import annotations

import numpy as np

from memorycell.errors import quote

LOWEST_PITCH, NUM_KEYS = 21, 88
"""The piano: MIDI pitches 21 (A0) to 108 (C8)."""
MAX_PITCH_CHARS = 8
"""Of the name of a pitch."""
PITCH_CLASSES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
ACCIDENTALS = {"#": 1, "♯": 1, "b": -1, "♭": -1}
"""Sign -> semitones."""
MIDDLE_C = 60
SCALES = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 10, 11}}
"""Mode -> semitones above the tonic; minor with both sevenths."""
KEY_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
"""Mode -> how well each pitch class fits; Krumhansl & Kessler (1982)."""

Key = tuple[int, str]
"""Tonic as a pitch class, and "major" or "minor"."""


def pitch_name(pitch: int) -> str:
    """The name of a MIDI pitch: 60 is C4."""
    return f"{PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}"


def parse_pitch(text: str) -> int:
    """The MIDI pitch of a name or a number: "C4", "F#3", "Bb5" or "60". Raises ValueError for other
    text and for pitches outside the piano.
    """
    text = text.strip()[: MAX_PITCH_CHARS + 1]
    if text.removeprefix("-").isdecimal() and len(text) <= MAX_PITCH_CHARS:
        pitch = int(text)
    else:
        letter, rest = text[:1].upper(), text[1:]
        shift = ACCIDENTALS.get(rest[:1], 0)
        octave = rest[1:] if shift else rest
        if letter not in PITCH_CLASSES or not octave.removeprefix("-").isdecimal():
            raise ValueError(f"{quote(text)} is not a note, such as C4, F#3 or 60")
        pitch = PITCH_CLASSES.index(letter) + shift + 12 * (int(octave) + 1)
    if not LOWEST_PITCH <= pitch < LOWEST_PITCH + NUM_KEYS:
        raise ValueError(f"{quote(text)} is outside the piano, A0 to C8")
    return pitch


def parse_key(text: str) -> Key:
    """The key of "G major" or "e minor". Raises ValueError."""
    tonic, _, mode = text.strip().partition(" ")
    if mode.lower() not in SCALES:
        raise ValueError(
            f"key={quote(text)}: expected keep, any, or a key such as G major or e minor"
        )
    return parse_pitch(f"{tonic}4") % 12, mode.lower()


def estimate_key(piece: np.ndarray) -> Key:
    """The key of a piece [T, 88] by the Krumhansl-Schmuckler algorithm: of the profile with the
    highest correlation.
    """
    counts = np.zeros(12)
    np.add.at(counts, (np.arange(NUM_KEYS) + LOWEST_PITCH) % 12, piece.sum(0))
    correlations = {
        (tonic, mode): np.corrcoef(np.roll(counts, -tonic), profile)[0, 1] if counts.std() else 0.0
        for mode, profile in KEY_PROFILES.items()
        for tonic in range(12)
    }
    return max(correlations, key=lambda key: correlations[key])


def scale_mask(key: Key) -> np.ndarray:
    """[88] bool: the piano keys in the scale of a key."""
    tonic, mode = key
    return np.array([(LOWEST_PITCH + k - tonic) % 12 in SCALES[mode] for k in range(NUM_KEYS)])
