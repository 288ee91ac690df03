"""Images of written lines: a few columns of pixels are a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta

from memorycell.signals.codec import SignalCodec


class Line(NamedTuple):
    """An image of a line.

    ink           [height, width] float32 in 0 … 1
    letter_ends   the column after every letter, where known
    """

    ink: np.ndarray
    letter_ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class LineCodec(SignalCodec):
    """An image of a line in, one of `labels` or a text out.

    height   in pixels; images are resized to it
    stack    columns per step
    """

    kind: ClassVar[str] = "lines"
    height: Annotated[int, Meta(ge=4, le=512)] = 32
    stack: Annotated[int, Meta(ge=1, le=32)] = 2

    @property
    def input_size(self) -> int:
        """See `SignalCodec`."""
        return self.height * self.stack

    def encode(self, line: Line) -> np.ndarray:
        """Features [T, height · stack] float32; the last step is padded with paper."""
        ink = resize_ink(line.ink, self.height)
        steps = -(-ink.shape[1] // self.stack)
        columns = np.zeros((steps * self.stack, self.height), np.float32)
        columns[: ink.shape[1]] = ink.T
        return columns.reshape(steps, self.input_size) * 2 - 0.5

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        own = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("text", "labels", "sentences")
        }
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LineCodec:
        """See `Codec`."""
        return cls._checked_from_json(data)


def resize_ink(ink: np.ndarray, height: int) -> np.ndarray:
    """An image [H, W] resized to a height, with the same aspect ratio (Pillow, bilinear)."""
    if len(ink) == height:
        return ink
    from PIL import Image

    width = max(1, round(ink.shape[1] * height / len(ink)))
    image = Image.fromarray(ink.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
