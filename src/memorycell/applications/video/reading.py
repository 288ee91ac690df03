"""Clips from what people have: folders of pictures, arrays, video files."""

from __future__ import annotations

import re
import tokenize
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from memorycell.applications.video.clips import Clip, check_clips, shown_size
from memorycell.applications.video.pictures import (
    PICTURE_SUFFIXES,
    Size,
    read_picture,
    resize_frames,
)
from memorycell.applications.video.settings import ReadSettings
from memorycell.applications.video.video_files import MAX_BYTES, VIDEO_SUFFIXES, read_video
from memorycell.errors import DataError, quote

ARRAY_SUFFIXES = (".npz", ".npy")
FRAME_KEYS = ("frames", "clips", "video", "videos", "x", "images", "arr_0")
"""Of an .npz file, in this order; else its only array of 3 or 4 axes."""
LABEL_KEYS = ("labels", "label", "y", "classes")
ANOMALY_KEYS = ("anomaly", "anomalies", "anomalous")
MAX_FILES = 1_000_000


def read_clips(path: Path, where: str, settings: ReadSettings, min_frames: int = 2) -> list[Clip]:
    """The clips of a folder or a file, all of one size.

    A folder of pictures is a clip. A folder of such folders or of video files is several; two
    levels of folders are classes and their clips. Raises `DataError`.
    """
    if not path.exists():
        raise DataError(f"{where}: no such file or folder")
    if path.is_dir():
        clips = _folder(path, settings)
        if not clips:
            raise DataError(
                f"{where}: contains no pictures ({', '.join(PICTURE_SUFFIXES)}), arrays or videos"
            )
    else:
        clips = _file(path, settings)
    check_clips(clips, where, min_frames)
    return clips


def _folder(path: Path, settings: ReadSettings, depth: int = 0) -> list[Clip]:
    entries = sorted(_entries(path), key=lambda p: _natural(p.name))
    pictures = [p for p in entries if p.suffix.lower() in PICTURE_SUFFIXES]
    if pictures:
        frames, own = _pictures(pictures[:: settings.every], settings.frame_size)
        return [_resized_clip(Clip(path.name, frames), own)]
    clips: list[Clip] = []
    for entry in entries:
        if entry.is_dir() and depth < 2:
            inner = _folder(entry, settings, depth + 1)
            if depth == 0 and not _is_clip(entry, inner):
                inner = [
                    replace(c, name=f"{entry.name}/{c.name}", label=entry.name, anomalies=None)
                    for c in inner
                ]
            clips += inner
        elif entry.suffix.lower() in (*VIDEO_SUFFIXES, *ARRAY_SUFFIXES):
            clips += _file(entry, settings)
    return clips


def _entries(path: Path) -> list[Path]:
    try:
        found = [p for p in path.iterdir() if not p.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(found) > MAX_FILES:
        raise DataError(f"{path}: more than {MAX_FILES:,} files")
    return found


def _is_clip(folder: Path, clips: Sequence[Clip]) -> bool:
    """Whether a folder is one clip of pictures, not a class."""
    return len(clips) == 1 and clips[0].name == folder.name and clips[0].label is None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts frame9 before frame10."""
    return [
        (int(part), "") if part.isascii() and part.isdigit() and len(part) < 18 else (-1, part)
        for part in re.split(r"([0-9]+)", name)
    ]


def _pictures(paths: Sequence[Path], size: Size | None) -> tuple[np.ndarray, Size]:
    """(frames, the size of the first one in its file)"""
    found = read_picture(paths[0])
    first = resize_frames(found[None], size)[0]
    if len(paths) * first.size > MAX_BYTES:
        raise _too_large(paths[0].parent)
    frames = np.empty((len(paths), *first.shape), np.uint8)
    for k, path in enumerate(paths):
        frame = read_picture(path, size) if k else first
        if frame.shape != first.shape:
            raise DataError(
                f"{path}: {shown_size(frame.shape)} pixels, the first frame has"
                f" {shown_size(first.shape)}; read them at one size: --set"
                f" size={shown_size(first.shape)}"
            )
        frames[k] = frame
    return frames, (found.shape[0], found.shape[1])


def _resized_clip(clip: Clip, own: Size) -> Clip:
    """The clip, with the size of its frames in their files where that is another."""
    return replace(clip, own_size=own if own != clip.frames.shape[1:] else None)


def _too_large(path: Path) -> DataError:
    return DataError(
        f"{path}: more than {MAX_BYTES >> 30} GB of frames; read smaller or fewer ones: --set"
        " size=96x72, --set every=2"
    )


def _file(path: Path, settings: ReadSettings) -> list[Clip]:
    suffix = path.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        return _arrays(path, settings)
    if suffix in VIDEO_SUFFIXES:
        frames, own = read_video(
            path, size=settings.frame_size, every=settings.every, lossy=settings.lossy
        )
        return [_resized_clip(Clip(path.name, frames), own)]
    if suffix in PICTURE_SUFFIXES:
        raise DataError(f"{path}: one picture is one frame; give a folder of them")
    raise DataError(
        f"{path}: expected a folder of pictures, {', '.join(ARRAY_SUFFIXES)} or a video"
        f" ({', '.join(VIDEO_SUFFIXES)})"
    )


def _arrays(path: Path, settings: ReadSettings) -> list[Clip]:
    """The clips of arrays [T, height, width] or [N, T, height, width] without pickles."""
    try:
        with path.open("rb") as file:  # numpy leaves a file open that it cannot read
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                arrays = {"arr_0": loaded}
            else:
                arrays = {name: loaded[name] for name in loaded.files}
    except (
        OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, MemoryError,
        OverflowError, NotImplementedError, RuntimeError, UnicodeError, zipfile.BadZipFile,
        AttributeError, IndexError, tokenize.TokenError,
    ) as error:  # fmt: skip  # what numpy and zipfile raise for damaged files
        reason = str(error).split("\n")[0]
        if "pickle" in reason:
            reason = "it contains pickled objects, which are not read"
        reason = quote(reason) if not reason.isprintable() or len(reason) > 100 else reason
        raise DataError(f"{path}: not arrays of numbers ({reason})") from None
    frames = _frames_of(arrays, path)
    values = _as_bytes(frames, path)
    values = values[None] if values.ndim == 3 else values
    labels = _labels(arrays, len(values), path)
    anomalies = _anomalies(arrays, values.shape[:2], path)
    every = settings.every
    return [
        _resized_clip(
            Clip(
                path.name if len(values) == 1 else f"{path.name} clip {k}",
                resize_frames(clip[::every], settings.frame_size),
                None if labels is None else labels[k],
                None if anomalies is None else anomalies[k, ::every],
            ),
            (clip.shape[1], clip.shape[2]),
        )
        for k, clip in enumerate(values)
    ]


def _frames_of(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray:
    named = next((arrays[key] for key in FRAME_KEYS if key in arrays), None)
    if named is None:
        found = [array for array in arrays.values() if array.ndim in (3, 4)]
        named = found[0] if len(found) == 1 else None
    if named is None or named.ndim not in (3, 4) or not named.size:
        shapes = ", ".join(f"{quote(n)[1:-1]} {list(a.shape)}" for n, a in [*arrays.items()][:4])
        raise DataError(
            f"{path}: expected frames [T, height, width] or clips [N, T, height, width], found"
            f" {shapes or 'nothing'}"
        )
    if named.nbytes > 8 * MAX_BYTES or named.size > MAX_BYTES:
        raise _too_large(path)
    return named


def _as_bytes(frames: np.ndarray, path: Path) -> np.ndarray:
    if frames.dtype == np.uint8:
        return frames
    if frames.dtype == bool:
        return frames.astype(np.uint8) * np.uint8(255)
    if frames.dtype.kind != "f":
        raise DataError(
            f"{path}: values of type {frames.dtype}; expected uint8 in 0 … 255, or floats in"
            " 0 … 1: convert them first"
        )
    if not (frames.min() >= 0 and frames.max() <= 1):  # also false for NaN
        raise DataError(f"{path}: floats outside 0 … 1, or NaN; scale them first")
    return (frames * 255).round().astype(np.uint8)


def _labels(arrays: dict[str, np.ndarray], count: int, path: Path) -> list[str] | None:
    found = next((arrays[key] for key in LABEL_KEYS if key in arrays), None)
    if found is None or found.dtype.kind not in "iubUS":
        return None
    if found.shape != (count,):
        raise DataError(f"{path}: {count} clips, but labels of shape {list(found.shape)}")
    texts = found.astype("U")
    return [str(text) for text in texts]


def _anomalies(
    arrays: dict[str, np.ndarray], shape: Sequence[int], path: Path
) -> np.ndarray | None:
    found = next((arrays[key] for key in ANOMALY_KEYS if key in arrays), None)
    if found is None:
        return None
    found = found[None] if found.ndim == 1 and shape[0] == 1 else found
    if found.shape != tuple(shape):
        raise DataError(
            f"{path}: frames {list(shape)}, but anomaly labels of shape {list(found.shape)}"
        )
    return found.astype(bool)
