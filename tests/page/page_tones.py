"""WAV files of tones."""

from __future__ import annotations

import io
import wave

import numpy as np

RATE_HZ = 8000


def tone(hz: float, seconds: float) -> bytes:
    """A WAV file."""
    t = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    samples = (0.3 * 32767 * np.sin(2 * np.pi * hz * t)).astype("<i2")
    silence = np.zeros(RATE_HZ, "<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        sound.writeframes(np.concatenate([samples, silence]).tobytes())
    return file.getvalue()


def empty_sound() -> bytes:
    """A WAV file without samples."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
    return file.getvalue()
