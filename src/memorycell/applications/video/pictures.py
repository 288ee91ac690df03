"""Pictures of single frames: grey values of 8 bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.signals.pillow_errors import PILLOW_ERRORS

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
MAX_SIDE = 8192
MAX_REASON_CHARS = 100

Size = tuple[int, int]
"""(height, width)"""


def read_picture(path: Path, size: Size | None = None) -> np.ndarray:
    """The grey values [height, width] uint8 of a PNG or JPEG file, resized to `size` if given.

    Colours are weighted as in ITU-R BT.601. Raises `DataError` for another file, for transparency
    and for 16 bits per value.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked here
            with Image.open(path, formats=FORMATS) as image:
                if max(image.size) > MAX_SIDE:
                    raise DataError(
                        f"{path}: {image.size[0]} x {image.size[1]} pixels; the maximum is"
                        f" {MAX_SIDE:,} per side: scale the picture down"
                    )
                grey = _grey(image, path)
                return np.asarray(resized(grey, size) if size else grey)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (Image.DecompressionBombError, *PILLOW_ERRORS) as error:
        reason = str(error).strip().split("\n")[0].replace(str(path), path.name)
        if "cannot identify" in reason:
            reason = "neither PNG nor JPEG"
        shown = reason if reason.isprintable() and len(reason) < MAX_REASON_CHARS else quote(reason)
        raise DataError(f"{path}: not a readable picture ({shown})") from None


def _grey(image: Image, path: Path) -> Image:
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{path}: more than 8 bits per value (mode {image.mode}); convert it to 8 bits first"
        )
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise DataError(
                f"{path}: has transparent pixels (alpha); put it on a background and save it"
                " without"
            )
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image.convert("L")


def resized(image: Image, size: Size) -> Image:
    """The image at another size, each pixel a mean over the area that it covers."""
    from PIL.Image import Resampling

    height, width = size
    return image.resize((width, height), Resampling.BOX)


def resize_frames(frames: np.ndarray, size: Size | None) -> np.ndarray:
    """Frames [T, height, width] uint8 at another size."""
    if size is None or frames.shape[1:] == size:
        return frames
    from PIL import Image

    return np.stack([np.asarray(resized(Image.fromarray(frame), size)) for frame in frames])
