"""The key of a piece, from its notes and its key signature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.applications.music.pitches import KEY_PROFILES, Key
from memorycell.applications.music.score.notation import TimedNote
from memorycell.applications.music.score.spelling import key_of_signature

SIGNATURE_KEYS = ((0, "major"), (0, "minor"), (-1, "minor"))
"""(fifths from a signature, mode) of the keys it may stand for: major, minor, and, in older music,
minor with a flat less (Dorian).
"""


def key_near_signature(notes: Sequence[TimedNote], fifths: int | None) -> Key:
    """The key whose profile (Krumhansl & Kessler 1982) correlates most with the lengths of the
    notes: of those that the signature of `fifths` sharps may stand for; without one, of all.
    """
    weights = np.zeros(12)
    for note in notes:
        weights[note.pitch % 12] += note.end - note.begin
    keys = (
        [key_of_signature(fifths + more, mode) for more, mode in SIGNATURE_KEYS]
        if fifths is not None
        else [(tonic, mode) for mode in KEY_PROFILES for tonic in range(12)]
    )
    if not weights.std():
        return keys[0]
    return max(
        keys,
        key=lambda key: float(np.corrcoef(np.roll(weights, -key[0]), KEY_PROFILES[key[1]])[0, 1]),
    )
