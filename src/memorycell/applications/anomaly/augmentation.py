"""Augmentation of training segments: drift that is normal, and corruption to be ignored."""

from __future__ import annotations

import numpy as np

DRIFT_KNOTS = 5
DRIFT_OCTAVES = 1.0
"""The drift of a segment is between half of the given scale and twice of it."""
MAX_LEVEL_SHIFTS = 4
SINGLE_COLUMN_PROBABILITY = 0.6
"""That a level shift affects one column on average, instead of half of them."""
FOREIGN_ROW_PROBABILITY = 0.05
"""Per row of an affected segment."""


def random_drift(rows: int, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Offsets [rows, K]: a random walk over five knots with steps of standard deviation s,
    interpolated linearly.

    s is `scale` [K] times 2^u, u uniform in ±`DRIFT_OCTAVES`: how much machines drift is not known,
    so a model is trained on several amounts.
    """
    scale = scale * 2 ** rng.uniform(-DRIFT_OCTAVES, DRIFT_OCTAVES)
    steps, start = rng.normal(size=(DRIFT_KNOTS, len(scale))), rng.normal(size=len(scale))
    knots = (steps.cumsum(0) + start) * scale
    at = np.linspace(0, DRIFT_KNOTS - 1.001, max(rows, 2))[:rows]
    left = at.astype(int)
    fraction = (at - left)[:, None]
    return knots[left] * (1 - fraction) + knots[left + 1] * fraction


def inject_level_shifts(
    x: np.ndarray, change: np.ndarray, rng: np.random.Generator, probability: float
) -> None:
    """Add up to four level shifts to inputs x [n, F] in place, each after the previous one with
    `probability`; change [K] as in `add_offset`.

    A shift affects one or several columns for up to three quarters of the rows; its size is
    normally distributed with a log-normal standard deviation.
    """
    rows, columns = len(x), len(change)
    offset = np.zeros((rows, columns))
    for _ in range(MAX_LEVEL_SHIFTS):
        if rng.random() >= probability:
            break
        begin = int(rng.integers(rows))
        length = int(rng.integers(1 + rows // 20, 2 + 3 * rows // 4))
        u = rng.random(columns)
        affected = u < (1 / columns if rng.random() < SINGLE_COLUMN_PROBABILITY else 0.5)
        size = rng.normal(size=columns) * np.exp(rng.normal(1, 1, columns))
        offset[begin : begin + length] += affected * size
    add_offset(x, offset, change)


def insert_foreign_rows(
    rows: int, rng: np.random.Generator, probability: float
) -> tuple[np.ndarray, np.ndarray]:
    """(source, foreign) [rows]: which row of the segment is at each position, and where a row of
    another recording replaces it.

    With `probability`, 5% of the positions are foreign. The segment's rows after an inserted one
    move back, and its last ones are dropped.
    """
    u = rng.random(rows)
    foreign = u < (FOREIGN_ROW_PROBABILITY if rng.random() < probability else 0.0)
    foreign[:1] = False
    return np.cumsum(~foreign) - 1, foreign


def add_offset(x: np.ndarray, offset: np.ndarray, change: np.ndarray) -> None:
    """Add an offset [n, K] in z-scores to the numbers of inputs x [n, F], and its differences to
    their changes, in place.

    change   [K] standard deviation of the changes, by which the inputs are scaled
    """
    columns = offset.shape[1]
    x[:, :columns] += offset
    x[:, columns : 2 * columns] += np.diff(offset, axis=0, prepend=offset[:1]) / change
