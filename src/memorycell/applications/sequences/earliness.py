"""How soon a class is sure: the first step whose highest probability reaches a threshold.

The threshold is the lowest that costs at most `MAX_LOSS` of the accuracy on the complete sequences,
on validation sequences (compare Schäfer & Leser 2020, doi:10.1007/s10618-020-00690-z), and with
`CONFIDENCE` at most `MAX_RISK` on others: thresholds are tested from the highest down (fixed
sequence testing; Angelopoulos et al. 2021, arXiv:2110.01052, for early classification Ringel et al.
2024, arXiv:2402.00857) with the bound of Clopper & Pearson (1934). With fewer than 45 sequences no
threshold has such a bound, and no answer is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_LOSS, MAX_RISK, CONFIDENCE = 0.01, 0.05, 0.9
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
    at = _decided_at(paths, threshold)
    seen = [(k + 1) / len(p) for k, p in zip(at, paths, strict=True)]
    return Early(float(_right(paths, truth, at).mean()), float(np.mean(seen)))


def fit_threshold(paths: Sequence[np.ndarray], truth: np.ndarray) -> float:
    """The lowest threshold that costs little accuracy, see above; `NEVER` where none does."""
    complete = _right(paths, truth, [len(p) - 1 for p in paths])
    found = NEVER
    for threshold in THRESHOLDS[::-1]:
        early = _right(paths, truth, _decided_at(paths, float(threshold)))
        lost = int((complete & ~early).sum())
        if complete.mean() - early.mean() > MAX_LOSS or _highest_rate(lost, len(truth)) > MAX_RISK:
            break
        found = float(threshold)
    return found


def _decided_at(paths: Sequence[np.ndarray], threshold: float) -> list[int]:
    """The step of each decision, from 0."""
    reached = [p.max(1) >= threshold for p in paths]
    return [int(own.argmax()) if own.any() else len(own) - 1 for own in reached]


def _right(paths: Sequence[np.ndarray], truth: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """Whether the answers after these steps are right, bool [N]."""
    return np.array([p[k].argmax() for p, k in zip(paths, at, strict=True)]) == truth


def _highest_rate(count: int, total: int) -> float:
    """The rate of an event that is above the true one with `CONFIDENCE`."""
    from scipy.stats import beta

    return 1.0 if count == total else float(beta.ppf(CONFIDENCE, count + 1, total - count))
