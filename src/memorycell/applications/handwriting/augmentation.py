"""Augmentation of images of lines for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.applications.handwriting.codec import Line


def augment_line(line: Line, rng: np.random.Generator, *, warp: float) -> Line:
    """Shear and stretch the image, shift it vertically, and invert random pixels.

    warp   strength; 1: shear up to 0.25, 1% of the pixels
    """
    ink = line.ink
    height, _ = ink.shape
    shear = rng.uniform(-0.25, 0.25) * warp
    step = np.exp(rng.uniform(-0.15, 0.15) * warp)
    rows = np.clip(np.arange(height) + round(rng.uniform(-1, 1) * warp), 0, height - 1)
    columns = np.arange(0, ink.shape[1], step)[None, :]
    at = columns + shear * (np.arange(height)[:, None] - height / 2)
    left = np.floor(at).astype(int)
    fraction = (at - left).astype(np.float32)
    padded = np.pad(ink[rows], ((0, 0), (height, height + 2)))
    row = np.arange(height)[:, None]
    low = np.clip(left + height, 0, padded.shape[1] - 2)
    warped = (1 - fraction) * padded[row, low] + fraction * padded[row, low + 1]
    inverted = rng.random(warped.shape) < 0.01 * warp
    return Line(np.where(inverted, 1 - warped, warped).astype(np.float32))


def splice_letters(
    lines: Sequence[Line], transcripts: Sequence[str], rng: np.random.Generator, length: int
) -> tuple[Line, str]:
    """A synthetic word of random letters from lines with known letter ends, and its transcript."""
    images, text = [], ""
    for _ in range(length):
        k = int(rng.integers(len(lines)))
        ends = (0, *lines[k].letter_ends)
        j = int(rng.integers(len(ends) - 1))
        images.append(lines[k].ink[:, ends[j] : ends[j + 1]])
        text += transcripts[k][j]
    return Line(np.concatenate(images, 1)), text
