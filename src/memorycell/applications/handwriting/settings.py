"""The settings of a handwriting model."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.signals.settings import SignalSettings, check_ranges


@dataclass(frozen=True)
class HandwritingSettings(SignalSettings):
    """Settings of a handwriting model, besides `SignalSettings`.

    names     images: a pattern of the file names, such as "{label}_{group}_{index}", for images
              without a list of transcripts
    spacing   strokes: distance between resampled points, as a fraction of the height
    warp      augmentation: strength of geometric distortion; 0: none
    order     augmentation of strokes: probability that two strokes are swapped
    height, stack   images: height in pixels, columns per step
    splice    augmentation of words with known letter ends: fraction that is replaced by synthetic
              words of random letters
    """

    budget: int = 3000
    dropout: float = 0.4
    names: str | None = None
    spacing: float = 0.06
    warp: float = 1.0
    order: float = 0.2
    height: int = 16
    stack: int = 2
    splice: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, height=(4, 512), stack=(1, 32))
        if not (
            0.005 <= self.spacing <= 0.5
            and 0 <= self.warp <= 3
            and 0 <= self.order <= 1
            and 0 <= self.splice <= 1
        ):
            raise ValueError(
                "spacing: expected 0.005 to 0.5; warp: 0 to 3; order, splice: probabilities"
            )
