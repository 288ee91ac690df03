"""Augmentation of sequences in training (Um et al. 2017, arXiv:1706.00527; Iwana & Uchida 2021,
arXiv:2007.15951).

jitter   noise on every value
scale    a factor for each channel
shift    an offset for each channel
warp     time runs faster and slower, and the length changes
crop     the beginning and the end are cut off
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WARP_KNOTS = 4
MIN_ROWS = 4


@dataclass(frozen=True)
class Augmentation:
    """Strengths: jitter, scale and shift in standard deviations, warp as deviation of the log of
    the speed, crop as the largest share of rows that is cut off.
    """

    jitter: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    crop: float = 0.0


LEVELS = {
    "none": Augmentation(),
    "light": Augmentation(jitter=0.03, scale=0.05, warp=0.1, crop=0.05),
    "strong": Augmentation(jitter=0.08, scale=0.15, shift=0.05, warp=0.25, crop=0.2),
}


def augmented(
    rows: np.ndarray, numbers: np.ndarray, how: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """A modified copy [n, R] of rows [T, R] float32; n differs from T.

    numbers   which inputs of a row are scaled numbers, bool [R]; the others are neither
              interpolated nor changed
    """
    rows = _cropped(rows, how.crop, rng)
    rows = _warped(rows, numbers, how.warp, rng)
    return altered(rows, numbers, how, rng)


def altered(
    rows: np.ndarray, numbers: np.ndarray, how: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Rows [T, R] with jitter, scale and shift, where time must stay as it is."""
    if not (how.jitter or how.scale or how.shift):
        return rows
    count = int(numbers.sum())
    values = rows[:, numbers]
    values = values * np.exp(how.scale * rng.standard_normal(count, np.float32))
    values += how.shift * rng.standard_normal(count, np.float32)
    values += how.jitter * rng.standard_normal(values.shape, np.float32)
    out = rows.copy()
    out[:, numbers] = values
    return out


def _cropped(rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    count = len(rows)
    if not share or count <= MIN_ROWS:
        return rows
    kept = max(MIN_ROWS, round(count * (1 - share * float(rng.random()))))
    begin = int(rng.integers(0, count - kept + 1))
    return rows[begin : begin + kept]


def _warped(
    rows: np.ndarray, numbers: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    count = len(rows)
    if not strength or count <= MIN_ROWS:
        return rows
    pace = np.exp(strength * rng.standard_normal(WARP_KNOTS))
    speed = np.interp(np.linspace(0, WARP_KNOTS - 1, count), np.arange(WARP_KNOTS), pace)
    moments = np.concatenate([[0.0], np.cumsum(speed[:-1])])
    length = max(MIN_ROWS, round(float(moments[-1]) + 1))
    position = np.interp(np.linspace(0, moments[-1], length), moments, np.arange(count))
    left = np.minimum(position.astype(np.int64), count - 2)
    share = (position - left).astype(np.float32)[:, None]
    out = rows[np.minimum(np.rint(position).astype(np.int64), count - 1)]
    between = rows[left] * (1 - share) + rows[left + 1] * share
    out[:, numbers] = between[:, numbers]
    return out
