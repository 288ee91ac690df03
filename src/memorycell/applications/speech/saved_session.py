"""What a saved speech session holds besides the state of its model, checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from memorycell.applications.speech.codec import AudioCodec
from memorycell.setting_fields import from_json

MAX_STORED_WORDS = 10_000
"""Final words of a session in its text; older ones are dropped."""
MAX_STEPS = 1 << 53
MAX_VALUE = 1e9

Step = Annotated[int, Meta(ge=0, le=MAX_STEPS)]


@dataclass(frozen=True)
class SavedSession:
    """The fields of a snapshot.

    ear        of the `FeatureStream`
    letters    token, begin, end and probability of the letters of words that are not final
    last       the best token of the last step
    steps      so far; `begin`: where the utterance began
    finished   final words, and `partial`, the word so far
    log_p      of the classes after the last step
    level      of the `SpeechLevel`
    """

    ear: dict[str, list[float]]
    letters: list[tuple[int, Step, Step, Annotated[float, Meta(ge=0, le=1.001)]]]
    last: int
    steps: Step
    begin: Step
    finished: Annotated[list[str], Meta(max_length=MAX_STORED_WORDS)]
    partial: str
    log_p: list[float]
    level: tuple[float, float, float, float]

    @classmethod
    def from_json(cls, values: Mapping[str, Any], codec: AudioCodec) -> SavedSession:
        """Raises ValueError where the values are not those of a session with this codec."""
        saved = from_json(cls, values)
        tokens = codec.output_size if codec.text is not None else 1
        if not 0 <= saved.last < tokens:
            raise ValueError("last: not a token")
        end = 0
        for token, begin, until, _ in saved.letters:
            if not 0 < token < tokens or not end <= begin < until <= saved.steps:
                raise ValueError("letters: not in order")
            end = until
        if saved.begin > saved.steps:
            raise ValueError("begin: after the last step")
        if len(saved.log_p) not in (0, len(codec.labels)):
            raise ValueError("log_p: not one per class")
        low, high, quiet, spoken = saved.level
        if quiet < 0 or quiet != int(min(quiet, MAX_STEPS)) or spoken not in (0, 1):
            raise ValueError("level: invalid counts")
        if not (np.abs([low, high, *saved.log_p]) <= MAX_VALUE).all():
            raise ValueError("level, log_p: too large")
        return saved
