"""Names of pitches in a key: letters and accidentals by their place on the line of fifths."""

from __future__ import annotations

from typing import NamedTuple

from memorycell.applications.music.pitches import Key

LETTERS = "FCGDAEB"
"""The natural notes on the line of fifths, from -1."""
LETTER_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
MODES = ("major", "minor")
RELATIVE_MINOR = 3
"""Fifths between a tonic and that of the major key with the same signature."""
WINDOW = {"major": (-3, 8), "minor": (-5, 6)}
"""Mode -> the twelve places, in fifths above the tonic, by which its pitch classes are named: in
C major Eb, Bb, F, C … B, F#, C#, G#; in A minor Bb, F, C, G … B, F#, C#, G#, D#.
"""


class Spelled(NamedTuple):
    """A written pitch: letter, semitones of the accidental (-2 to 2), octave (C4 is middle C)."""

    letter: str
    alter: int
    octave: int


def signature(key: Key) -> int:
    """The key signature: sharps, or flats below zero; -5 to 6 for major, and for minor."""
    tonic, mode = key
    return (7 * tonic + 5 - (RELATIVE_MINOR if mode == "minor" else 0)) % 12 - 5


def key_of_signature(fifths: int, mode: str) -> Key:
    """The key of a signature of `fifths` sharps, or flats below zero."""
    return 7 * (fifths + (RELATIVE_MINOR if mode == "minor" else 0)) % 12, mode


def spell(pitch: int, key: Key) -> Spelled:
    """A MIDI pitch as it is written in a key."""
    mode = key[1]
    tonic_fifths = signature(key) + (RELATIVE_MINOR if mode == "minor" else 0)
    low, high = WINDOW[mode]
    fifths = tonic_fifths + low + (7 * (pitch - key[0]) - low) % 12
    assert fifths <= tonic_fifths + high
    alter, index = divmod(fifths + 1, 7)
    letter = LETTERS[index]
    return Spelled(letter, alter, (pitch - alter - LETTER_CLASSES[letter]) // 12 - 1)


def signature_alter(fifths: int, letter: str) -> int:
    """The semitones by which a key signature of `fifths` sharps alters a letter."""
    return (fifths + 6 - LETTERS.index(letter)) // 7


ACCIDENTAL_NAMES = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
"""Semitones -> the name in MusicXML."""
ACCIDENTAL_SIGNS = {-2: "bb", -1: "b", 0: "", 1: "#", 2: "##"}


def spelled_name(pitch: int, key: Key) -> str:
    """The name of a MIDI pitch in a key: "F#4"."""
    letter, alter, octave = spell(pitch, key)
    return f"{letter}{ACCIDENTAL_SIGNS[alter]}{octave}"


def key_name(key: Key) -> str:
    """The name of a key, such as F# minor; its signature has at most six sharps."""
    letter, alter, _ = spell(60 + key[0], key)
    return f"{letter}{ACCIDENTAL_SIGNS[alter]} {key[1]}"
