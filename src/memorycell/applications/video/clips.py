"""Clips: what every reader of videos gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memorycell.applications.video.pictures import Size
from memorycell.errors import DataError, quote

MAX_LISTED_SIZES = 3


@dataclass(frozen=True)
class Clip:
    """A sequence of frames of one size.

    frames     [T, height, width] uint8
    label      its class, where it has one
    anomalies  [T] bool, where it is known which frames are anomalous
    own_size   (height, width) before the frames were resized; None: they were not
    """

    name: str
    frames: np.ndarray
    label: str | None = None
    anomalies: np.ndarray | None = None
    own_size: Size | None = None

    def part(self, begin: int, end: int | None = None) -> Clip:
        """Some of its frames, a view."""
        anomalies = None if self.anomalies is None else self.anomalies[begin:end]
        return replace(self, frames=self.frames[begin:end], anomalies=anomalies)


def check_clips(clips: Sequence[Clip], where: str, min_frames: int = 2, fix: str = "") -> None:
    """Raises `DataError` for frames of different sizes, and for a clip of too few frames; `fix`
    follows the number that is needed.
    """
    if not clips:
        raise DataError(f"{where}: contains no clip")
    size = clips[0].frames.shape[1:]
    for clip in clips:
        if clip.frames.shape[1:] != size:
            raise DataError(
                f"{where}: {clip.name} has frames of {shown_size(clip.frames.shape[1:])} pixels,"
                f" {clips[0].name} of {shown_size(size)}; read them at one size: --set"
                f" size={shown_size(size)}"
            )
        if len(clip.frames) < min_frames:
            plural = "s" if len(clip.frames) > 1 else ""
            raise DataError(
                f"{where}: {quote(clip.name)[1:-1]} has {len(clip.frames)} frame{plural}; at least"
                f" {min_frames} are needed{fix}"
            )


def shown_size(size: Sequence[int]) -> str:
    """(height, width) as width x height."""
    return f"{size[1]}x{size[0]}"


def resizing_note(clips: Sequence[Clip]) -> list[str]:
    """A note on the clips whose frames were resized; [] where none were."""
    own = [clip for clip in clips if clip.own_size is not None]
    if not own:
        return []
    sizes = [shown_size(size) for size in dict.fromkeys(c.own_size for c in own) if size]
    listed = ", ".join(sizes[:MAX_LISTED_SIZES]) + (" …" if len(sizes) > MAX_LISTED_SIZES else "")
    which = quote(own[0].name)[1:-1] if len(clips) == 1 else f"{len(own):,} of {len(clips):,} clips"
    return [f"{which}: frames of {listed} resized to {shown_size(own[0].frames.shape[1:])}"]


def fingerprint(clips: Sequence[Clip]) -> str:
    """16 hexadecimal digits of SHA-256 over the frames."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(np.ascontiguousarray(clip.frames).data)
    return digest.hexdigest()[:16]
