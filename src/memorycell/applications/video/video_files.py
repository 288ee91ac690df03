"""Video files and GIFs as frames, and frames as video files; through PyAV (FFmpeg)."""

from __future__ import annotations

import io
import logging
from fractions import Fraction
from pathlib import Path

import numpy as np

from memorycell.applications.video.pictures import MAX_REASON_CHARS, MAX_SIDE, Size
from memorycell.errors import DataError, quote

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".gif")
MAX_BYTES = 1 << 30
"""Of the frames of a data set in memory."""
MAX_LOST_FRAMES = 2
"""A file may have this many fewer frames than its header says."""


def read_video(
    path: Path, *, size: Size | None, every: int, lossy: bool
) -> tuple[np.ndarray, Size]:
    """(every `every`-th frame of a video file, [T, height, width] uint8, its brightness resized to
    `size` if given; the size of the first frame in the file)

    Raises `DataError` for a file without video, and for one that ends before its last frame unless
    `lossy`.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise DataError(f"{path}: videos need PyAV: pip install 'memorycell[video]'") from None
    logging.getLogger("libav").setLevel(logging.CRITICAL)  # the error below says what is wrong
    frames: list[np.ndarray] = []
    own: Size = (0, 0)
    count, reason = 0, ""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: has no video, only {_kinds(container)}")
            stream = container.streams.video[0]
            expected = stream.frames
            try:
                for frame in container.decode(stream):
                    own = own if count else (frame.height, frame.width)
                    if count % every == 0:
                        frames.append(_grey(frame, size, path))
                        _check_memory(frames, path)
                    count += 1
            except av.FFmpegError as error:  # what was decoded before may be used
                reason = _reason(error)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: not a readable video ({_reason(error)}); if the file is complete elsewhere,"
            " copy it again"
        ) from None
    lost = expected - count
    if (reason or lost > MAX_LOST_FRAMES) and not lossy:
        of = f" of {expected:,}" if expected else ""
        raise DataError(
            f"{path}: cut off or damaged after frame {count:,}{of}; copy it again, or use what is"
            " there: --set lossy=true"
        )
    if not frames:
        raise DataError(f"{path}: contains no frame")
    return np.stack(frames), own


def _grey(frame: object, size: Size | None, path: Path) -> np.ndarray:
    height, width = size or (frame.height, frame.width)  # type: ignore[attr-defined]
    if max(frame.height, frame.width) > MAX_SIDE:  # type: ignore[attr-defined]
        raise DataError(f"{path}: more than {MAX_SIDE:,} pixels per side; scale the video down")
    grey = frame.reformat(  # type: ignore[attr-defined]
        width, height, format="gray", interpolation="AREA", dst_color_range="JPEG"
    )
    return np.asarray(grey.to_ndarray())


def _check_memory(frames: list[np.ndarray], path: Path) -> None:
    if len(frames) * frames[0].size > MAX_BYTES:
        raise DataError(
            f"{path}: more than {MAX_BYTES >> 30} GB of frames; read smaller or fewer ones: --set"
            " size=96x72, --set every=2"
        )


def _kinds(container: object) -> str:
    found = sorted({stream.type for stream in container.streams})  # type: ignore[attr-defined]
    return ", ".join(found) or "nothing"


def _reason(error: Exception) -> str:
    text = (getattr(error, "strerror", None) or str(error)).strip().split("\n")[0]
    return text if text.isprintable() and len(text) < MAX_REASON_CHARS else quote(text)


def mp4_bytes(pictures: np.ndarray, frames_per_second: float) -> bytes:
    """Pictures [T, height, width] uint8 as an MP4 file (H.264)."""
    import av

    height, width = (n + n % 2 for n in pictures.shape[1:])  # the format has even sizes only
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        rate = Fraction(frames_per_second).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16"}
        for picture in pictures:
            padded = np.zeros((height, width), np.uint8)
            padded[: picture.shape[0], : picture.shape[1]] = picture
            for packet in stream.encode(av.VideoFrame.from_ndarray(padded, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()
