"""Read images of written lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memorycell.applications.handwriting.codec import Line
from memorycell.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm")
MAX_PIXELS_PER_SIDE = 20_000
MIN_INK = 0.25
"""Of a pixel that counts for the bounding box of a line."""
LETTER_HEIGHT, LETTER_WIDTH = 16, 8
"""Pixels of a letter in a file of letters."""


def read_line(path: str | Path) -> Line:
    """A line, dark on light or light on dark, cropped to its ink. Raises `DataError`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if max(image.size) > MAX_PIXELS_PER_SIDE:
                raise DataError(
                    f"{path}: {image.width} x {image.height} pixels; the maximum is"
                    f" {MAX_PIXELS_PER_SIDE:,} per side"
                )
            grey = np.asarray(image.convert("L"), np.float32) / 255
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0][:80]
        raise DataError(f"{path}: not a readable image ({reason})") from None
    paper = float(np.median(grey))
    ink = np.clip((paper - grey if paper > 0.5 else grey - paper) / max(paper, 1 - paper), 0, 1)
    rows, columns = (np.flatnonzero((ink > MIN_INK).any(axis)) for axis in (1, 0))
    if len(rows) == 0:
        raise DataError(f"{path}: an empty image: no ink stands out from the paper")
    return Line(np.ascontiguousarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


def read_letters(path: Path) -> list[tuple[Line, str, str]]:
    """(line, transcript, name) of every word in an .npz file of letters. Raises `DataError`.

    pixels    [N, 16] uint8: 16 rows of 8 pixels per letter, as bits
    labels    [N]: 0 for a, 1 for b, …
    lengths   [words]: letters per word
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels, lengths, labels = arrays["pixels"], arrays["lengths"], arrays["labels"]
        if (
            pixels.ndim != 2
            or pixels.shape[1] != LETTER_HEIGHT
            or lengths.sum() != len(pixels)
            or len(labels) != len(pixels)
        ):
            raise ValueError("the shapes of pixels, lengths and labels do not match")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path}: not a file of letters ({error})") from None
    letters = np.unpackbits(pixels, axis=1).reshape(-1, LETTER_HEIGHT, LETTER_WIDTH)
    letters = letters.astype(np.float32)
    words, at = [], 0
    for number, length in enumerate(lengths.tolist(), 1):
        ink = np.concatenate(list(letters[at : at + length]), 1)
        text = "".join(chr(ord("a") + int(k)) for k in labels[at : at + length])
        ends = tuple(range(LETTER_WIDTH, LETTER_WIDTH * length + 1, LETTER_WIDTH))
        words.append((Line(ink, ends), text, f"word {number}"))
        at += length
    return words
