"""Predicted frames as an animated GIF, an MP4 file or a strip of pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import AnyModelFile, Record
from memorycell.applications.video.video_files import mp4_bytes
from memorycell.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

FRAMES_PER_SECOND = 5
MIN_SIDE = 96
"""Frames are enlarged until their larger side has this many pixels."""
MAX_COLUMNS = 12
"""Of a strip: predicted frames, evenly spaced where there are more."""
SEEN_COLUMNS = 3
CAPTION, GAP, MIN_CAPTION = 18, 4, 130
WHITE, GREY = 255, 120


def strip_png(file: AnyModelFile, record: Record) -> bytes:
    """One row per method: the last frames seen, then the truth, ours and the baseline."""
    rows, seen, count = _rows(record)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_COLUMNS)).round().astype(int))
    before = [f"{k - len(seen) + 1}" for k in range(len(seen))]
    before = before[-SEEN_COLUMNS:] if count else before
    captions = [*before, *(f"+{k + 1}" for k in chosen)]
    pictures: list[np.ndarray] = []
    for name, frames in rows.items():
        columns = np.concatenate([seen[len(seen) - len(before) :], frames[chosen]])
        pictures.append(_row(name, columns, captions if not pictures else []))
    return _png(_stacked(pictures))


def gif(file: AnyModelFile, record: Record) -> bytes:
    """The frames seen, then truth, ours and baseline next to each other, in a loop."""
    from PIL import Image

    images = [Image.fromarray(picture) for picture in _animation(record)]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=1000 // FRAMES_PER_SECOND,
        loop=0,
        optimize=False,
    )
    return buffer.getvalue()


def mp4(file: AnyModelFile, record: Record) -> bytes:
    """As `gif`. Raises `UserError` without PyAV."""
    pictures = _animation(record)
    try:
        return mp4_bytes(pictures, FRAMES_PER_SECOND)
    except ModuleNotFoundError:
        raise UserError("MP4 files need PyAV: pip install 'memorycell[video]'") from None


def _rows(record: Record) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """(name -> predicted frames [N, height, width] uint8, the frames seen, N)"""
    shown: Any = record
    seen = np.array(shown["seen"], np.uint8)
    if "predicted" not in record:  # of a classifier
        return {"clip": seen[:0]}, seen, 0
    rows: dict[str, Any] = {} if "truth" not in record else {"truth": shown["truth"]}
    rows |= {
        "memorycell": shown["predicted"],
        shown["baseline"]["name"]: shown["baseline"]["frames"],
    }
    arrays = {name: np.array(frames, np.uint8) for name, frames in rows.items()}
    return arrays, seen, len(shown["predicted"])


def _animation(record: Record) -> np.ndarray:
    """Pictures [T, height, width] uint8."""
    rows, seen, count = _rows(record)
    pictures = []
    for k in range(len(seen) + count):
        now = f"frame {k - len(seen) + 1}" if k < len(seen) else f"+{k - len(seen) + 1}"
        panels = []
        for name, frames in rows.items():
            frame = seen[k] if k < len(seen) else frames[k - len(seen)]
            title = "seen" if k < len(seen) else name
            panels.append(_captioned(_enlarged(frame), f"{title} {now}", MIN_CAPTION))
        pictures.append(_side_by_side(panels))
    return np.stack(pictures)


def _enlarged(frame: np.ndarray) -> np.ndarray:
    factor = max(1, -(-MIN_SIDE // max(frame.shape)))
    return frame.repeat(factor, 0).repeat(factor, 1)


def _captioned(picture: np.ndarray, caption: str, min_width: int = 0) -> np.ndarray:
    """The picture below a line of text."""
    from PIL import Image, ImageDraw

    width = max(picture.shape[1], min_width)
    canvas = Image.new("L", (width, picture.shape[0] + CAPTION), WHITE)
    canvas.paste(Image.fromarray(picture), (0, CAPTION))
    ImageDraw.Draw(canvas).text((1, 3), caption, fill=GREY // 2)
    return np.asarray(canvas)


def _row(name: str, frames: np.ndarray, captions: list[str]) -> np.ndarray:
    cells = [_enlarged(frame) for frame in frames]
    if captions:
        cells = [_captioned(c, text) for c, text in zip(cells, captions, strict=True)]
    height = cells[0].shape[0]
    label = np.full((height, 80), WHITE, np.uint8)
    label[-CAPTION:] = _captioned(np.zeros((0, 80), np.uint8), name)[:, :80]
    return _side_by_side([label, *cells])


def _side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    gap = np.full((pictures[0].shape[0], GAP), WHITE, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], 1)


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    gap = np.full((GAP, rows[0].shape[1]), WHITE, np.uint8)
    parts = [part for row in rows for part in (row, gap)]
    return np.concatenate(parts[:-1], 0)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    image: Image.Image = Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


FIGURES: Mapping[str, Any] = {".gif": gif, ".mp4": mp4, ".png": strip_png}
