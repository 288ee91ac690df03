"""The baselines of next frames: zero, the mean of the frames seen, the last frame, linear motion,
and a linear regression on the last two frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.errors import ModelFileError

Predict = Callable[[np.ndarray, int], np.ndarray]
"""(frames seen [T, height, width] float32, count) -> the next `count` frames."""
MAX_FIT_FRAMES = 600
MAX_FIT_PIXELS = 1_000_000
RIDGE = 1e-3
"""Relative to the mean square of an input."""


def zero(seen: np.ndarray, count: int) -> np.ndarray:
    """Black frames."""
    return np.zeros((count, *seen.shape[1:]), np.float32)


def mean(seen: np.ndarray, count: int) -> np.ndarray:
    """The mean of the frames seen."""
    return np.repeat(seen.mean(0, keepdims=True), count, 0)


def last(seen: np.ndarray, count: int) -> np.ndarray:
    """The last frame, repeated."""
    return np.repeat(seen[-1:], count, 0)


def motion(seen: np.ndarray, count: int) -> np.ndarray:
    """The last frame, shifted each time by the shift from the frame before it to it."""
    if len(seen) < 2:
        return last(seen, count)
    down, right = shift_between(seen[-2], seen[-1])
    return np.stack([_shifted(seen[-1], down * k, right * k) for k in range(1, count + 1)])


def shift_between(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """The shift (down, right) in pixels from frame a to frame b, by phase correlation: the peak of
    the inverse transform of F(b) F(a)* / |F(b) F(a)*|. Kuglin & Hines (1975).
    """
    cross = np.fft.rfft2(b - b.mean()) * np.fft.rfft2(a - a.mean()).conj()
    size = np.abs(cross)
    if float(size.max()) < 1e-9:
        return 0, 0
    peak = np.fft.irfft2(cross / np.maximum(size, 1e-9 * size.max()), a.shape)
    row, column = np.unravel_index(int(peak.argmax()), a.shape)
    height, width = a.shape
    down = int(row) - height if row > height // 2 else int(row)
    right = int(column) - width if column > width // 2 else int(column)
    return down, right


def _shifted(frame: np.ndarray, down: int, right: int) -> np.ndarray:
    """The frame moved; at the borders its outermost pixels are repeated."""
    height, width = frame.shape
    rows = (np.arange(height) - down).clip(0, height - 1)
    columns = (np.arange(width) - right).clip(0, width - 1)
    return frame[np.ix_(rows, columns)]


@dataclass(frozen=True)
class Ridge:
    """A linear regression of the next frame's pixel on the pixels around it in several maps, the
    same for all pixels, with a penalty on its weights.

    weight   [1, maps, side, side], as of `conv2d`
    bias     [1]
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, maps: Tensor, target: Tensor, reach: int) -> Ridge:
        """To maps [N, M, height, width] and the next frames [N, height, width], with windows of
        `reach` pixels to each side.
        """
        side = 2 * reach + 1
        size = maps.shape[1] * side**2 + 1
        square, product = torch.zeros(size, size).double(), torch.zeros(size).double()
        keep = max(1, target.numel() // MAX_FIT_PIXELS)
        for x, y in zip(maps[::keep].split(4), target[::keep].split(4), strict=True):
            rows = _windows(x, reach)
            square += (rows.T @ rows).double()
            product += (rows.T @ y.flatten()).double()
        penalty = RIDGE * torch.diagonal(square)[:-1].mean().clamp(min=1e-9)
        diagonal = torch.full((size,), float(penalty)).double()
        diagonal[-1] = 1e-9
        solved = torch.linalg.solve(square + torch.diag(diagonal), product).float()
        return cls(solved[:-1].reshape(1, maps.shape[1], side, side), solved[-1:])

    def __call__(self, maps: Tensor) -> Tensor:
        """The next frames [N, height, width] after maps [N, M, height, width]."""
        padded = F.pad(maps, (self.weight.shape[-1] // 2,) * 4, mode="replicate")
        return F.conv2d(padded, self.weight, self.bias)[:, 0]

    def predict(self, seen: np.ndarray, count: int) -> np.ndarray:
        """See `Predict`; for maps of the last frame and the one before it."""
        frames = [torch.from_numpy(frame) for frame in seen[-2:]]
        frames = frames if len(frames) == 2 else frames * 2
        for _ in range(count):
            frames.append(self(torch.stack([frames[-1], frames[-2]])[None])[0].clamp(0, 1))
        return torch.stack(frames[-count:]).numpy()


def fit_ridge(clips: Sequence[np.ndarray], reach: int = 2) -> Ridge:
    """The regression on the last two frames of clips [T, height, width] float32."""
    frames = [torch.from_numpy(clip) for clip in some_clips(clips)]
    maps = torch.cat([torch.stack([c[1:-1], c[:-2]], 1) for c in frames])
    return Ridge.fit(maps, torch.cat([c[2:] for c in frames]), reach)


def some_clips(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The first clips, with enough frames in all."""
    chosen: list[np.ndarray] = []
    for clip in clips:
        if len(clip) > 2:
            chosen.append(clip[:MAX_FIT_FRAMES])
        if sum(map(len, chosen)) >= MAX_FIT_FRAMES:
            break
    return chosen


def _windows(maps: Tensor, reach: int) -> Tensor:
    """Every pixel's windows in maps [N, M, height, width] and 1, [N·height·width, M·side² + 1]."""
    padded = F.pad(maps, (reach,) * 4, mode="replicate")
    rows = F.unfold(padded, 2 * reach + 1).transpose(1, 2).flatten(0, 1)
    return torch.cat([rows, torch.ones(len(rows), 1)], 1)


def stored_ridge(arrays: Mapping[str, Tensor]) -> Ridge | None:
    """The regression on the last two frames that a model file holds; None without one. Raises
    `ModelFileError` for a damaged one.
    """
    weight, bias = arrays.get("ridge_weight"), arrays.get("ridge_bias")
    if weight is None or bias is None:
        return None
    side = weight.shape[-1]
    fits = weight.shape == (1, 2, side, side) and side % 2 == 1 and bias.shape == (1,)
    finite = all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in (weight, bias))
    if not fits or not finite:
        raise ModelFileError("the model file's regression is damaged; train a new model")
    return Ridge(weight, bias)
