"""Tunes of four chords."""

import numpy as np
import pytest

symusic = pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from memorycell.application import catalogue  # noqa: E402

MUSIC = catalogue.load("music")
CHORDS = [[48, 64, 67, 72], [53, 65, 69, 72], [55, 62, 67, 71], [48, 64, 67, 72]]
SMALL = {
    "hidden": 32,
    "dropout": 0.0,
    "weight_drop": 0.0,
    "noise": 0.0,
    "transpose": 0,
    "budget": 200,
}


def tune(seed: int, bars: int = 8) -> list[list[int]]:
    """Four chords in order, each one or two quarters long, sometimes without the bass."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(2 * bars):
        chord = CHORDS[k % 4]
        frames += [chord if rng.random() < 0.9 else chord[1:]] * int(rng.integers(1, 3))
    return frames
