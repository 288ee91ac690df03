"""Pictures of written lines: every column of pixels, or a few side by side, is a step that a model
reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memorycell.errors import DataError
from memorycell.signals.codec import SignalCodec

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm")
WIDEST = 20_000


class Line(NamedTuple):
    """A picture: ink [height, width] float32 in 0 … 1; and, where it is known, the column at which
    every letter ends.
    """

    ink: np.ndarray
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class LineCodec(SignalCodec):
    """A picture of a line in, one of `labels` or a text out.

    height   rows it is brought to; stack: columns in a step
    """

    kind: ClassVar[str] = "lines"
    height: int = 32
    stack: int = 2

    @property
    def input_size(self) -> int:
        """Features a step."""
        return self.height * self.stack

    def encode(self, line: Line) -> np.ndarray:
        """Features [T, height · stack] float32, the last step filled up with paper."""
        ink = scaled(line.ink, self.height)
        steps = -(-ink.shape[1] // self.stack)
        columns = np.zeros((steps * self.stack, self.height), np.float32)
        columns[: ink.shape[1]] = ink.T
        return columns.reshape(steps, self.input_size) * 2 - 0.5

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        own = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("text", "labels", "sentences")
        }
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LineCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        codec = cls(**cls.outputs(data), height=int(data["height"]), stack=int(data["stack"]))
        if not (4 <= codec.height <= 512 and 1 <= codec.stack <= 32):
            raise ValueError("not a codec of lines")
        return codec


def scaled(ink: np.ndarray, height: int) -> np.ndarray:
    """A picture [H, W] at another height, its shape kept (Pillow, bilinear)."""
    if len(ink) == height:
        return ink
    from PIL import Image

    width = max(1, round(ink.shape[1] * height / len(ink)))
    return np.asarray(
        Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    )


def read_line(path: str | Path) -> Line:
    """A picture of a line, dark on light or light on dark, cut to where there is ink. Raises
    `DataError`.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.width > WIDEST or picture.height > WIDEST:
                raise DataError(
                    f"{path}: {picture.width} x {picture.height} pixels are too many; {WIDEST:,} at"
                    " most a side"
                )
            grey = np.asarray(picture.convert("L"), np.float32) / 255
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: not a readable picture ({str(error).splitlines()[0][:80]})"
        ) from None
    paper = float(np.median(grey))
    ink = np.clip((paper - grey if paper > 0.5 else grey - paper) / max(paper, 1 - paper), 0, 1)
    rows, columns = (np.flatnonzero((ink > 0.25).any(axis)) for axis in (1, 0))
    if len(rows) == 0:
        raise DataError(f"{path}: an empty page: no ink stands out from the paper")
    return Line(np.ascontiguousarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


def read_letters(path: Path) -> list[tuple[Line, str, str]]:
    """(line, what it says, name) of an .npz with pixels [N, 16] uint8 (16 rows of 8 pixels a
    letter, as bits), labels [N] (0 for a) and lengths [words]: the letters of every word side by
    side. Raises `DataError`.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            pixels, lengths, labels = held["pixels"], held["lengths"], held["labels"]
        if (
            pixels.ndim != 2
            or pixels.shape[1] != 16
            or lengths.sum() != len(pixels)
            or len(labels) != len(pixels)
        ):
            raise ValueError("pixels, lengths and labels do not fit each other")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path}: not a file of letters ({error})") from None
    letters = np.unpackbits(pixels, axis=1).reshape(-1, 16, 8).astype(np.float32)
    found, at = [], 0
    for number, length in enumerate(lengths.tolist(), 1):
        ink = np.concatenate(list(letters[at : at + length]), 1)
        said = "".join(chr(97 + int(k)) for k in labels[at : at + length])
        found.append((Line(ink, tuple(range(8, 8 * length + 1, 8))), said, f"word {number}"))
        at += length
    return found


# ---- for training --------------------------------------------------------------------------------


def rewritten(line: Line, rng: np.random.Generator, *, warp: float) -> Line:
    """As it might have been written as well: slanted, wider or narrower, a little higher or lower,
    with specks and gaps.

    warp   how much: 1 is slanted by up to 0.25
    """
    ink = line.ink
    height, width = ink.shape
    slant = rng.uniform(-0.25, 0.25) * warp
    factor = np.exp(rng.uniform(-0.15, 0.15) * warp)
    rows = np.clip(np.arange(height) + round(rng.uniform(-1, 1) * warp), 0, height - 1)
    at = np.arange(0, width, factor)[None, :] + slant * (np.arange(height)[:, None] - height / 2)
    left = np.floor(at).astype(int)
    share = (at - left).astype(np.float32)
    padded = np.pad(ink[rows], ((0, 0), (height, height + 2)))
    across = np.arange(height)[:, None]
    low = np.clip(left + height, 0, padded.shape[1] - 2)
    made = (1 - share) * padded[across, low] + share * padded[across, low + 1]
    specks = rng.random(made.shape) < 0.01 * warp
    return Line(np.where(specks, 1 - made, made).astype(np.float32))


def spliced(
    lines: Sequence[Line], said: Sequence[str], rng: np.random.Generator, length: int
) -> tuple[Line, str]:
    """A word that nobody wrote: letters of lines whose letters' ends are known, drawn at random,
    side by side.
    """
    parts, text = [], ""
    for _ in range(length):
        k = int(rng.integers(len(lines)))
        ends = (0, *lines[k].ends)
        j = int(rng.integers(len(ends) - 1))
        parts.append(lines[k].ink[:, ends[j] : ends[j + 1]])
        text += said[k][j]
    return Line(np.concatenate(parts, 1)), text
