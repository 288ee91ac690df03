"""Detect speech and silence by loudness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class SpeechLevel:
    """Loudness is the mean feature of a step. A step is speech above the lower third of the range
    between the quietest and the loudest recent step, where that range is wide enough.

    low, high   the range; both drift towards the signal
    quiet       steps of silence since speech
    spoken      whether there was speech since the last utterance
    """

    MIN_RANGE = 0.7
    DRIFT = 0.002
    """Per step."""

    def __init__(
        self, low: float = np.inf, high: float = -np.inf, quiet: float = 0, spoken: float = 0
    ) -> None:
        self.low, self.high, self.quiet, self.spoken = low, high, int(quiet), bool(spoken)

    def silence_lengths(self, features: np.ndarray) -> Iterator[int]:
        """For every step the number of silent steps since speech; 0 before any speech."""
        for loudness in features.mean(1).tolist():
            self.low = min(loudness, self.low + self.DRIFT)
            self.high = max(loudness, self.high - self.DRIFT)
            width = self.high - self.low
            is_speech = width > self.MIN_RANGE and loudness > self.low + width / 3
            self.spoken = self.spoken or is_speech
            self.quiet = 0 if is_speech or not self.spoken else self.quiet + 1
            yield self.quiet

    def to_json(self) -> list[float]:
        """The arguments of the constructor, finite."""
        low, high = (float(np.clip(v, -1e9, 1e9)) for v in (self.low, self.high))
        return [low, high, float(self.quiet), float(self.spoken)]
