"""The settings of drawing."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.applications.drawing.model import WriterConfig
from memorycell.setting_fields import check_choices
from memorycell.signals.settings import check_ranges
from memorycell.signals.splitting import ReadSettings, SplitSettings

MIN_SPACING, MAX_SPACING, MAX_WARP, MAX_JITTER = 0.01, 0.5, 3, 0.2


@dataclass(frozen=True)
class DrawingSettings(ReadSettings, SplitSettings):
    """Settings for --set, besides `ReadSettings`.

    signs        what a label names: letters (a text), names (one character), or auto
    held_out, checked, test_share   the test and validation splits; see `SplitSettings`
    chain        maximum number of characters by one writer that training joins in a row, so that
                 their style is learned
    spacing      distance between points, as a fraction of the height
    warp         strength of the augmentation; 0: none
    jitter       random displacement of every point in training, as a fraction of the height
    cell, hidden   of both recurrent layers
    mixtures     Gaussians of the next move
    dropout      probability, of the states that the head reads
    budget       moves per batch, padding included
    """

    signs: str = "auto"
    chain: int = 2
    spacing: float = 0.12
    warp: float = 0.5
    jitter: float = 0.03
    cell: str = "lstm"
    hidden: int = 192
    mixtures: int = 12
    dropout: float = 0.2
    budget: int = 2500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, signs=("auto", "letters", "names"))
        check_ranges(
            self, chain=(1, 100), hidden=(1, 8192), mixtures=(1, 1000), budget=(1, 10_000_000)
        )
        if not MIN_SPACING <= self.spacing <= MAX_SPACING:
            raise ValueError(f"spacing={self.spacing}: expected {MIN_SPACING} to {MAX_SPACING}")
        if not 0 <= self.warp <= MAX_WARP:
            raise ValueError(f"warp={self.warp}: expected 0 to {MAX_WARP}")
        if not 0 <= self.jitter <= MAX_JITTER:
            raise ValueError(f"jitter={self.jitter}: expected 0 to {MAX_JITTER}")
        self.model_config(3)  # checks the others

    def model_config(self, signs: int) -> WriterConfig:
        """The configuration of the model; see `WriterConfig`."""
        return WriterConfig(
            signs=signs,
            hidden_size=self.hidden,
            cell=self.cell,
            mixtures=self.mixtures,
            dropout=self.dropout,
        )
