"""Clips: what every reader of videos gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memorycell.errors import DataError, quote


@dataclass(frozen=True)
class Clip:
    """A sequence of frames of one size.

    frames     [T, height, width] uint8
    label      its class, where it has one
    anomalies  [T] bool, where it is known which frames are anomalous
    """

    name: str
    frames: np.ndarray
    label: str | None = None
    anomalies: np.ndarray | None = None

    def part(self, begin: int, end: int | None = None) -> Clip:
        """Some of its frames, a view."""
        anomalies = None if self.anomalies is None else self.anomalies[begin:end]
        return Clip(self.name, self.frames[begin:end], self.label, anomalies)


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


def fingerprint(clips: Sequence[Clip]) -> str:
    """16 hexadecimal digits of SHA-256 over the frames."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(np.ascontiguousarray(clip.frames).data)
    return digest.hexdigest()[:16]
