"""How soon a class is sure: the first step whose highest probability reaches a threshold.

The threshold is the lowest that costs at most `MAX_LOSS` of the accuracy on the complete sequences,
on validation sequences (compare Schäfer & Leser 2020, doi:10.1007/s10618-020-00690-z).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_LOSS = 0.01
"""Of accuracy, for an early decision."""
THRESHOLDS = np.array(
    [0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999]
)
NEVER = float(np.nextafter(np.float32(1), np.float32(2)))
"""A threshold that no probability reaches, not even one that is rounded to 1."""


class Early(NamedTuple):
    """Decisions at a threshold: the accuracy, and the mean share of a sequence that was read."""

    accuracy: float
    seen: float


def decide(paths: Sequence[np.ndarray], truth: np.ndarray, threshold: float) -> Early:
    """Decisions on probabilities after each step, N arrays [T_i, C], with classes [N]; at the end
    where no step reaches the threshold.
    """
    correct, seen = [], []
    for p, own in zip(paths, truth, strict=True):
        reached = p.max(1) >= threshold
        at = int(reached.argmax()) if reached.any() else len(p) - 1
        correct.append(int(p[at].argmax()) == own)
        seen.append((at + 1) / len(p))
    return Early(float(np.mean(correct)), float(np.mean(seen)))


def fit_threshold(paths: Sequence[np.ndarray], truth: np.ndarray) -> float:
    """The lowest threshold that costs at most `MAX_LOSS` of accuracy; `NEVER` where none does."""
    complete = float(np.mean([p[-1].argmax() == own for p, own in zip(paths, truth, strict=True)]))
    for threshold in THRESHOLDS:
        if decide(paths, truth, float(threshold)).accuracy >= complete - MAX_LOSS:
            return float(threshold)
    return NEVER
