"""What a model that draws must beat: the next move is much like the last two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class StraightOn:
    """A linear regression of the next move (dx, dy) on the last two, with normally distributed
    errors; after a lift of the pen another. What the pen does is as frequent as after what it did
    last, and after so many moves of a stroke.

    drawings   moves [T, 3] each
    """

    LONG = 12

    def __init__(self, drawings: Sequence[np.ndarray]) -> None:
        x, y, lifted, run, pen = self._rows(drawings)
        self._fits = {}
        for kind in (False, True):
            of = lifted == kind
            weights, *_ = np.linalg.lstsq(x[of], y[of], rcond=None)
            error = y[of] - x[of] @ weights
            self._fits[kind] = weights, np.cov(error.T) + 1e-6 * np.eye(2)
        counts = np.ones((self.LONG + 1, 3))
        np.add.at(counts, (run, pen), 1)
        self._pens = counts / counts.sum(1, keepdims=True)

    def nats(self, drawings: Sequence[np.ndarray]) -> tuple[float, float]:
        """Mean nats a point, of the moves and of the pen."""
        x, y, lifted, run, pen = self._rows(drawings)
        total = 0.0
        for kind, (weights, covariance) in self._fits.items():
            error = y[lifted == kind] - x[lifted == kind] @ weights
            square = (error @ np.linalg.inv(covariance) * error).sum(1)
            total += (0.5 * square + 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]).sum()
        return float(total / len(y)), float(-np.log(self._pens[run, pen]).mean())

    def _rows(self, drawings: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Of every point: (the two moves before it and 1, the move, whether the pen was up, moves
        since then, the pen).
        """
        x, y, lifted, run, pen = [], [], [], [], []
        for moves in drawings:
            before = np.concatenate([np.zeros((2, 2)), moves[:, :2]])
            x.append(np.column_stack([before[1:-1], before[:-2], np.ones(len(moves))]))
            y.append(moves[:, :2])
            up = np.concatenate([[True], moves[:-1, 2] != 0])
            since = np.arange(len(moves)) - np.maximum.accumulate(
                np.where(up, np.arange(len(moves)), 0)
            )
            lifted.append(up)
            run.append(np.minimum(since, self.LONG))
            pen.append(moves[:, 2].astype(int))
        return tuple(np.concatenate(part) for part in (x, y, lifted, run, pen))
