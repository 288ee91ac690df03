"""The settings of a handwriting model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from memorycell.signals.settings import SignalSettings, check_ranges


class StrokeSettings(NamedTuple):
    """See `HandwritingSettings`."""

    spacing: float
    order: float


STROKE_DEFAULTS = {"classes": StrokeSettings(0.1, 0.6), "text": StrokeSettings(0.06, 0.2)}
"""Per head, selected for characters on Omniglot's writers 12 to 15."""


@dataclass(frozen=True)
class HandwritingSettings(SignalSettings):
    """Settings of a handwriting model, besides `SignalSettings`.

    names     images: a pattern of the file names, such as "{label}_{group}_{index}", for images
              without a list of transcripts
    spacing   strokes: distance between resampled points, as a fraction of the height; by default
              0.1 for characters and 0.06 for text
    warp      augmentation: strength of geometric distortion; 0: none
    order     augmentation of strokes: probability that two strokes are swapped; by default 0.6 for
              characters and 0.2 for text
    height, stack   images: height in pixels, columns per step
    splice    augmentation of words with known letter ends: fraction that is replaced by synthetic
              words of random letters
    """

    budget: int = 3000
    dropout: float = 0.4
    names: str | None = None
    spacing: float | None = None
    warp: float = 1.0
    order: float | None = None
    height: int = 16
    stack: int = 2
    splice: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, height=(4, 512), stack=(1, 32))
        if not (
            (self.spacing is None or 0.005 <= self.spacing <= 0.5)
            and 0 <= self.warp <= 3
            and (self.order is None or 0 <= self.order <= 1)
            and 0 <= self.splice <= 1
        ):
            raise ValueError(
                "spacing: expected 0.005 to 0.5; warp: 0 to 3; order, splice: probabilities"
            )

    def for_strokes(self, head: str) -> StrokeSettings:
        """`spacing` and `order` of a head, "classes" or "text"."""
        spacing, order = STROKE_DEFAULTS[head]
        return StrokeSettings(
            spacing if self.spacing is None else self.spacing,
            order if self.order is None else self.order,
        )
