"""Moving digits: clips of handwritten digits that move and bounce inside a frame.

Srivastava, Mansimov & Salakhutdinov (2015), "Unsupervised learning of video representations using
LSTMs", arXiv:1502.04681, section 4.1. The paper's frames have 64 × 64 pixels and digits 28 × 28;
other sizes keep that proportion, and the distance per frame with it.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from memorycell.errors import DataError

NAME = "moving-digits"
PAPER_SIZE, PAPER_DIGIT = 64, 28
STEP = 0.1
"""Distance per frame, as a share of the range of positions."""
DIGITS_PER_CLIP = 2
VALID_SHARE, TEST_SHARE = 0.1, 0.1
"""Of the digits; those of one split are in no other."""


def read_digits(path: Path) -> np.ndarray:
    """Digits [N, height, width] float32 in 0 … 1: those of an .npz file with `images`, or of
    scikit-learn's digits.csv.gz, 8 × 8. Raises `DataError`.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return arrays["images"].astype(np.float32) / 255
        with gzip.open(path, "rt") as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
        return rows[:, :-1].reshape(len(rows), 8, 8) / 16
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not the digits of {NAME} ({error})") from None


def split_digits(digits: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Split -> digits, resized for frames of `size` × `size`."""
    digits = _resized(digits, round(size * PAPER_DIGIT / PAPER_SIZE))
    valid, test = round(len(digits) * VALID_SHARE), round(len(digits) * TEST_SHARE)
    train = len(digits) - valid - test
    return {
        "train": digits[:train],
        "valid": digits[train : train + valid],
        "test": digits[train + valid :],
    }


def moving_digits(
    digits: np.ndarray, count: int, frames: int, size: int, seed: int | list[int]
) -> np.ndarray:
    """Clips [count, frames, size, size] uint8 of two digits each.

    A digit begins at a random place with a random direction; at a border its velocity across the
    border is reversed. Where digits overlap, the brighter one is seen.
    """
    rng = np.random.default_rng(seed)
    side = digits.shape[1]
    which = rng.integers(0, len(digits), (count, DIGITS_PER_CLIP))
    places = _paths(rng, count * DIGITS_PER_CLIP, frames)
    corners = (places * (size - side)).astype(int).reshape(count, DIGITS_PER_CLIP, frames, 2)
    images = (digits * 255).round().astype(np.uint8)
    clips = np.zeros((count, frames, size, size), np.uint8)
    for clip, chosen, corner in zip(clips, which, corners, strict=True):
        for digit, path in zip(images[chosen], corner.tolist(), strict=True):
            for frame, (y, x) in zip(clip, path, strict=True):
                part = frame[y : y + side, x : x + side]
                np.maximum(part, digit, out=part)
    return clips


def _paths(rng: np.random.Generator, count: int, frames: int) -> np.ndarray:
    """Positions [count, frames, 2] in 0 … 1."""
    place = rng.random((count, 2))
    angle = rng.random(count) * 2 * np.pi
    velocity = np.stack([np.sin(angle), np.cos(angle)], 1)
    path = np.empty((count, frames, 2))
    for t in range(frames):
        place = place + velocity * STEP
        velocity = np.where(place <= 0, np.abs(velocity), velocity)
        velocity = np.where(place >= 1, -np.abs(velocity), velocity)
        place = place.clip(0, 1)
        path[:, t] = place
    return path


def _resized(images: np.ndarray, side: int) -> np.ndarray:
    """Images [N, h, w] as [N, side, side]: means over areas, or linear interpolation to larger
    ones.
    """
    if images.shape[1:] == (side, side):
        return images
    import torch
    from torch.nn import functional as F

    x = torch.from_numpy(images)[:, None]
    if side < images.shape[1]:
        return F.interpolate(x, (side, side), mode="area")[:, 0].numpy()
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)[:, 0].numpy()
