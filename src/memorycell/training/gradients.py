"""Warnings about vanishing and exploding gradients."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 200
EXPLODING_RATIO, MAX_EXPLODING_SHARE = 100, 0.05
"""More than this share of norms above this multiple of the median is a warning."""
MIN_MEDIAN_NORM = 1e-6


class GradientWatch:
    """Keeps the last gradient norms, before clipping."""

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=WINDOW)

    def add(self, norm: float) -> None:
        """The norm of one step's gradient."""
        self.norms.append(norm)

    def warning(self) -> str | None:
        """One sentence with a remedy; None where the norms are in order."""
        norms = list(self.norms)
        if not norms:
            return None
        finite = sorted(norm for norm in norms if math.isfinite(norm))
        if len(finite) < len(norms):
            return (
                f"{len(norms) - len(finite)} of the last {len(norms)} gradients were not finite and"
                " were skipped; try a third of the lr"
            )
        median = finite[len(finite) // 2]
        exploding = sum(norm > EXPLODING_RATIO * max(median, 1e-12) for norm in finite)
        if exploding > MAX_EXPLODING_SHARE * len(norms):
            return (
                f"gradients explode: {exploding} of the last {len(norms)} are over"
                f" {EXPLODING_RATIO} times the median {median:.2g}; try a lower lr, clip=0.5 or a"
                " shorter bptt"
            )
        if median < MIN_MEDIAN_NORM:
            return (
                f"gradients vanish: their median norm is {median:.2g}; try cell=lstm, a higher lr"
                " or a shorter bptt"
            )
        return None
