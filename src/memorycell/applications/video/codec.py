"""What a model file says about its frames: their size, the classes, and the usual surprise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from memorycell.applications.video.clips import shown_size
from memorycell.errors import DataError
from memorycell.setting_fields import from_json

Side = Annotated[int, Meta(ge=1, le=4096)]


@dataclass(frozen=True)
class FrameCodec:
    """Converts frames of 8 bits to numbers in 0 … 1 and back.

    labels     the classes; empty for a model of frames
    usual      median surprise on the validation frames: the mean squared error of the next frame
    alarm      the surprise that 1% of them exceed; 0: not measured
    """

    kind: ClassVar[str] = "frames"
    height: Side
    width: Side
    labels: tuple[str, ...] = ()
    usual: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    alarm: Annotated[float, Meta(ge=0, le=1e6)] = 0.0

    def encode(self, frames: np.ndarray, where: str) -> np.ndarray:
        """Frames [..., height, width] uint8 as float32 in 0 … 1. Raises `DataError` for frames of
        another size.
        """
        if frames.shape[-2:] != (self.height, self.width):
            raise DataError(
                f"{where}: frames of {shown_size(frames.shape[-2:])} pixels; the model reads"
                f" {shown_size((self.height, self.width))}: --set"
                f" size={shown_size((self.height, self.width))}"
            )
        return frames.astype(np.float32) / 255

    @staticmethod
    def decode(frames: np.ndarray) -> np.ndarray:
        """Numbers as uint8, limited to 0 … 1."""
        return (frames.clip(0, 1) * 255).round().astype(np.uint8)

    def is_alarm(self, surprise: float) -> bool:
        """Whether a surprise is larger than usual."""
        return self.alarm > 0 and surprise > self.alarm

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        sizes: dict[str, object] = {"height": self.height, "width": self.width}
        return sizes | ({"classes": len(self.labels)} if self.labels else {})

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FrameCodec:
        """See `Codec`."""
        codec = from_json(cls, data)
        if len(set(codec.labels)) < len(codec.labels) or len(codec.labels) == 1:
            raise ValueError("labels: a duplicate, or only one")
        return codec
