"""The settings of music models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memorycell.applications.music.model import VIEWS, ComposerConfig
from memorycell.applications.music.pieces import FRAMES_PER_QUARTER
from memorycell.applications.music.score.model import ScoreConfig
from memorycell.language.model import LanguageConfig
from memorycell.setting_fields import check_choices, check_counts

EVENTS, SCORE = "events", "score"
MAX_TRANSPOSE = 11
MAX_EVENT_EMBEDDING = 96


@dataclass(frozen=True)
class MusicSettings:
    """Settings for --set.

    view       representation of music: score (voices of notes with lengths, in a metre and a key),
               voices (frames, each key conditioned on the keys above it), keys (frames, keys
               independent of each other) or events (bars, positions, pitches and durations)
    frames     frames per quarter note; for a JSON file, as in the file; 12 represents 16th notes
               and triplets
    voices     maximum number of keys that sound together; by default as in training, at most 10.
               For scores: the voices of every piece; by default as most pieces have
    transpose  maximum transposition in training, in semitones
    cell, hidden, layers   the recurrent part
    dropout, zoneout, weight_drop, noise   probabilities; see `ComposerConfig`
    budget     frames (for scores: notes) per batch, with padding
    lanes, bptt   for events: sequences per batch, and events of each
    lossy      accept data of which more than 5% cannot be used
    """

    view: str = "voices"
    frames: int = 1
    voices: int | None = None
    transpose: int = 5
    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.4
    zoneout: float = 0.0
    weight_drop: float = 0.2
    noise: float = 0.1
    budget: int = 600
    lanes: int = 16
    bptt: int = 64
    lossy: bool = False

    def __post_init__(self) -> None:
        check_choices(self, view=(*VIEWS, EVENTS, SCORE))
        check_counts(self, "frames", "voices", "hidden", "layers", "budget", "lanes", "bptt")
        if self.frames not in FRAMES_PER_QUARTER:
            expected = ", ".join(map(str, FRAMES_PER_QUARTER))
            raise ValueError(f"frames={self.frames}: expected {expected}")
        if not 0 <= self.transpose <= MAX_TRANSPOSE:
            raise ValueError(f"transpose={self.transpose}: expected 0 to {MAX_TRANSPOSE}")
        self.composer_config(4)  # checks the others

    def _stack(self) -> dict[str, Any]:
        """What every model's configuration says of the recurrent stack; see `ModelConfig`."""
        return {
            "hidden_size": self.hidden,
            "cell": self.cell,
            "num_layers": self.layers,
            "dropout": self.dropout,
            "zoneout": self.zoneout,
            "weight_drop": self.weight_drop,
        }

    def composer_config(self, voices: int) -> ComposerConfig:
        """The configuration of a model of frames; see `ComposerConfig`."""
        return ComposerConfig(
            view=self.view if self.view in VIEWS else VIEWS[0],
            voices=voices,
            **self._stack(),
            noise=self.noise,
        )

    def score_config(self, input_size: int, pitches: int, lengths: int) -> ScoreConfig:
        """The configuration of a model of scores; see `ScoreConfig`."""
        return ScoreConfig(
            input_size=input_size,
            pitches=pitches,
            lengths=lengths,
            **self._stack(),
            noise=self.noise,
        )

    def language_config(self, vocabulary: int) -> LanguageConfig:
        """The configuration of a model of events; see `LanguageConfig`."""
        return LanguageConfig(
            vocabulary=vocabulary,
            embedding_size=min(self.hidden, MAX_EVENT_EMBEDDING),
            tied=False,
            **self._stack(),
        )
