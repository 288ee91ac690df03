"""Pieces of four voices for the tests of scores."""

import numpy as np
import pytest

pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from memorycell.applications.music.pitches import parse_key
from memorycell.applications.music.score.midi_scores import to_symusic
from memorycell.applications.music.score.notation import (
    Score,
    ScoreNote,
    parse_metre,
)

NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
CHORDS = {"I": (0, 4, 7), "IV": (5, 9, 0), "V": (7, 11, 2)}
"""Semitones above the tonic, the root first."""


def hymn(seed, *, key="G major", metre="4/4", pickup=24, bars=4):
    """A piece of four voices in quarter notes and eighths that ends on the tonic."""
    rng = np.random.default_rng(seed)
    tonic, mode = parse_key(key)
    size = parse_metre(metre)
    count = bars * size.bar // 24
    names = [*(str(rng.choice(["I", "IV", "V"])) for _ in range(count - 2)), "V", "I"]
    voices = [[] for _ in range(4)]
    for k, name in enumerate(names):
        root, third, fifth = (tonic + step for step in CHORDS[name])
        end = (k + 1) % (2 * size.bar // 24) == 0 or k == count - 1
        for voice, pitch in enumerate((60 + third % 12, 60 + fifth % 12 - 12, 48 + root % 12)):
            voices[voice].append(ScoreNote(pitch, 24, end and voice == 0))
        bass = 36 + root % 12
        voices[3] += [ScoreNote(bass, 12), ScoreNote(bass + 12, 12)] if k % 3 == 1 else []
        voices[3] += [] if k % 3 == 1 else [ScoreNote(bass, 24)]
    return Score(size, (tonic, mode), pickup, tuple(map(tuple, voices)))


HYMNS = [
    hymn(seed, key=f"{NAMES[seed % 12]} major", metre=("4/4", "3/4")[seed % 2], pickup=24)
    for seed in range(40)
]


def written(score, path, tempo=90):
    path.write_bytes(to_symusic(score, tempo).dumps_midi())
    return path


def folder_of_hymns(folder):
    folder.mkdir(exist_ok=True)
    for k, score in enumerate(HYMNS):
        written(score, folder / f"{k:02}.mid")
    return folder
