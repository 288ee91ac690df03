"""The settings of video."""

from __future__ import annotations

import re
from dataclasses import dataclass

from memorycell.applications.video.pictures import Size
from memorycell.models.members import check_members
from memorycell.nn.conv import ConvGRU, ConvLSTM
from memorycell.setting_fields import check_choices, check_counts, check_ranges

GOALS = ("frames", "anomaly", "class")
CELLS = (*ConvLSTM.cells, *ConvGRU.cells)
MAX_SIDE = 1024
"""Of the frames that a model reads."""


@dataclass(frozen=True)
class ReadSettings:
    """How clips are read.

    size     width x height that frames are resized to, such as 96x72; by default their own
    every    keep each k-th frame
    lossy    accept video files that are cut off: yes or no
    """

    size: str | None = None
    every: int = 1
    lossy: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "every")
        if self.size is not None and not _parsed_size(self.size):
            raise ValueError(f"size={self.size}: expected width x height, such as 96x72")

    @property
    def frame_size(self) -> Size | None:
        """(height, width); None: the frames' own."""
        return None if self.size is None else _parsed_size(self.size)


def _parsed_size(text: str) -> Size | None:
    match = re.fullmatch(r"([0-9]{1,4})\s*[x×]\s*([0-9]{1,4})", text)
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    return (height, width) if 1 <= min(width, height) <= max(width, height) <= MAX_SIDE else None


@dataclass(frozen=True)
class VideoSettings(ReadSettings):
    """Settings for --set, besides `ReadSettings`.

    goal         frames: the next frames of a clip; anomaly: the same model, evaluated on how well
                 its surprise finds frames labelled as anomalous; class: the class of a clip
    context      frames that are given before the predicted ones are compared
    horizon      frames that are predicted without seeing any of them; 1: always the next frame
    test_share, valid_share   of the clips; of the end of each, where there are fewer than ten
    pixels       side of the frames of moving-digits, which are made at this size
    clips        clips of moving-digits per epoch
    cell, hidden, layers, kernel   of the convolutional recurrent layers; kernel: side, in patches
    patch        side in pixels of the patches that the layers see as one cell of their grid
    reach        pixels that the model can move something by from one frame to the next
    block        side in pixels of what is moved together; divides patch
    members      networks that are trained together, whose answers are averaged
    lanes        sequences per batch
    bptt         frames that gradients flow back, where horizon is 1
    """

    goal: str = "frames"
    context: int = 10
    horizon: int = 10
    test_share: float = 0.2
    valid_share: float = 0.1
    pixels: int = 32
    clips: int = 640
    cell: str = "lstm"
    hidden: int = 48
    layers: int = 1
    kernel: int = 3
    patch: int = 4
    reach: int = 2
    block: int = 2
    members: int = 1
    lanes: int = 16
    bptt: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, goal=GOALS, cell=CELLS)
        check_counts(self, "hidden", "layers", "clips", "lanes")
        check_ranges(
            self,
            context=(1, 1000),
            horizon=(1, 1000),
            test_share=(0.01, 0.9),
            valid_share=(0.01, 0.5),
            pixels=(16, 128),
            kernel=(1, 15),
            patch=(1, 16),
            reach=(0, 7),
            block=(1, 16),
            bptt=(2, 10_000),
        )
        check_members(self.members)
        if self.patch % self.block:
            raise ValueError(f"block={self.block}: expected a divisor of patch={self.patch}")
        if self.test_share + self.valid_share > 0.95:
            raise ValueError("test_share and valid_share leave nothing to train on")
