"""The baseline of drawing: the next move resembles the last two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memorycell.applications.drawing.codec import PEN_DOWN

MAX_RUN = 12
"""Longer strokes count as this long."""


class _Rows(NamedTuple):
    """Each point of drawings.

    x       [N, 5], the two moves before it and 1
    y       [N, 2], the move
    lifted  [N] bool, whether the pen was up
    run     [N] int64, moves since then, at most `MAX_RUN`
    pen     [N] int64, the pen after the move
    """

    x: np.ndarray
    y: np.ndarray
    lifted: np.ndarray
    run: np.ndarray
    pen: np.ndarray


class LinearMoves:
    """A linear regression of the next move (dx, dy) on the last two with normally distributed
    errors, separate where the pen was lifted; the pen by its frequencies given the moves of the
    stroke so far.

    drawings   moves [T, 3] each
    """

    def __init__(self, drawings: Sequence[np.ndarray]) -> None:
        rows = _rows(drawings)
        self._fits = {}
        for lifted in (False, True):
            mask = rows.lifted == lifted
            weights, *_ = np.linalg.lstsq(rows.x[mask], rows.y[mask], rcond=None)
            error = rows.y[mask] - rows.x[mask] @ weights
            self._fits[lifted] = weights, np.cov(error.T) + 1e-6 * np.eye(2)
        counts = np.ones((MAX_RUN + 1, 3))
        np.add.at(counts, (rows.run, rows.pen), 1)
        self._pen = counts / counts.sum(1, keepdims=True)

    def nats(self, drawings: Sequence[np.ndarray]) -> tuple[float, float]:
        """(nats of the moves, of the pen), means per point."""
        rows = _rows(drawings)
        total = 0.0
        for lifted, (weights, covariance) in self._fits.items():
            mask = rows.lifted == lifted
            error = rows.y[mask] - rows.x[mask] @ weights
            square = (error @ np.linalg.inv(covariance) * error).sum(1)
            total += (0.5 * square + 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]).sum()
        return float(total / len(rows.y)), float(-np.log(self._pen[rows.run, rows.pen]).mean())


def _rows(drawings: Sequence[np.ndarray]) -> _Rows:
    parts = []
    for moves in drawings:
        before = np.concatenate([np.zeros((2, 2)), moves[:, :2]])
        index = np.arange(len(moves))
        lifted = np.concatenate([[True], moves[:-1, 2] != PEN_DOWN])
        run = index - np.maximum.accumulate(np.where(lifted, index, 0))
        parts.append(
            _Rows(
                x=np.column_stack([before[1:-1], before[:-2], np.ones(len(moves))]),
                y=moves[:, :2],
                lifted=lifted,
                run=np.minimum(run, MAX_RUN),
                pen=moves[:, 2].astype(int),
            )
        )
    return _Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
