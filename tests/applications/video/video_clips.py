"""Clips of a moving pattern, in memory and in a file."""

from pathlib import Path

import numpy as np


def shifting(count: int, frames: int, size=(12, 14), seed: int = 0, step: int = 1) -> np.ndarray:
    """Clips [count, frames, height, width] uint8 of a soft pattern that moves right."""
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        wide = rng.random((size[0], 4 + size[1] + step * frames))
        wide = sum(np.roll(wide, k, 1) for k in range(4)) / 4
        clips.append([wide[:, step * t : step * t + size[1]][:, ::-1] for t in range(frames)])
    return (np.array(clips) * 255).astype(np.uint8)


def write_npz(path: Path, **arrays) -> str:
    np.savez(path, **arrays)
    return str(path)
