"""Read images of written lines: any mode of pixels to ink between 0 and 1."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.applications.handwriting.codec import Line
from memorycell.applications.handwriting.ink import crop_to_ink, find_ink
from memorycell.errors import DataError, quote
from memorycell.signals.pillow_errors import PILLOW_ERRORS

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
"""Of Pillow. Others, such as EPS, start other programs."""
PAGED_FORMATS = ("GIF", "TIFF", "WEBP", "PNG")
"""Formats whose further frames are pages or an animation."""
MAX_PIXELS_PER_SIDE, MAX_PIXELS = 20_000, 100_000_000
OPAQUE_SHARE = 0.5
"""From this share of opaque pixels on, they are paper and ink; below it, they are the ink."""
LETTER_HEIGHT, LETTER_WIDTH = 16, 8
"""Pixels of a letter in a file of letters."""


def read_line(path: str | Path) -> Line:
    """A line, dark on light or light on dark, with even contrast, upright and cropped to its ink.

    Raises `DataError` for a file that is not an image, is larger than `MAX_PIXELS`, has several
    pages, or is empty.
    """
    ink = find_ink(_read_grey(Path(path)))
    if ink is None:
        raise DataError(f"{path}: an empty image: no ink stands out from the paper")
    return Line(crop_to_ink(ink))


def _read_grey(path: Path) -> np.ndarray:
    """[H, W] float32 in 0 … 1, transparent parts filled with paper."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes are checked here
        try:
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, image)
                return _grey(ImageOps.exif_transpose(image))
        except DataError:
            raise
        except Image.DecompressionBombError:
            raise DataError(
                f"{path}: more pixels than the maximum, {MAX_PIXELS:,}; scale the image down"
            ) from None
        except PILLOW_ERRORS as error:
            reason = str(error).strip().split("\n")[0].replace(str(path), path.name)
            if "truncated" in reason.lower():
                reason = "the file is truncated; copy it again"
            elif "cannot identify" in reason:
                reason = f"none of the formats {', '.join(FORMATS)}"
            shown = reason if reason.isprintable() and len(reason) < 100 else quote(reason)
            raise DataError(f"{path}: not a readable image ({shown})") from None


def _check_size(path: Path, image: Image) -> None:
    """Before any pixel is decoded."""
    width, height = image.size
    if max(width, height) > MAX_PIXELS_PER_SIDE or width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: {width} x {height} pixels; the maximum is {MAX_PIXELS_PER_SIDE:,} per side"
            f" and {MAX_PIXELS:,} in all; scale the image down"
        )
    frames = getattr(image, "n_frames", 1)
    if image.format in PAGED_FORMATS and frames > 1:
        raise DataError(
            f"{path}: {frames} pages or frames; save each line of text as an image of its own"
        )


def _grey(image: Image) -> np.ndarray:
    if image.mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    keyed = "transparency" in image.info and image.mode in ("1", "P", "L", "RGB")
    if "A" in image.getbands() or keyed:
        rgba = image.convert("RGBA")
        grey = np.asarray(rgba.convert("RGB").convert("L"), np.float32) / 255
        return _on_paper(grey, np.asarray(rgba.getchannel("A"), np.float32) / 255)
    if image.mode.startswith(("I", "F")):
        return _scaled(np.asarray(image).astype(np.float32))
    if image.mode == "LAB":
        return np.asarray(image.getchannel(0), np.float32) / 255
    if image.mode in ("CMYK", "HSV", "YCbCr"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L"), np.float32) / 255


def _scaled(values: np.ndarray[Any, Any]) -> np.ndarray:
    """Values of 16 bits, 32 bits or floating point in 0 … 1. Raises ValueError."""
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite")
    low, high = float(values.min()), float(values.max())
    full = next((full for full in (1.0, 255.0, 65535.0) if high <= full), high)
    return np.asarray((values - min(low, 0.0)) / (full - min(low, 0.0)), np.float32)


def _on_paper(grey: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Grey [H, W] with its transparent parts filled: with the paper around the ink where most is
    opaque, else with the opposite of the ink.
    """
    opaque = opacity > 0.5
    if not opaque.any():
        return np.ones_like(grey)
    if opaque.mean() > OPAQUE_SHARE:
        paper = float(np.median(grey[opaque]))
    else:
        paper = 1.0 if float(np.average(grey, weights=opacity)) < 0.5 else 0.0
    return opacity * grey + (1 - opacity) * np.float32(paper)


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
