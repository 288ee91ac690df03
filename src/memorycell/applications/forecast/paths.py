"""Forecasts one step at a time: what a model of the next step says is drawn, given back to it, and
so on, many times over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.applications.forecast.codec import Series, SeriesCodec
from memorycell.models.quantiles import quantile_levels
from memorycell.streaming.stepping import Stepper

AT_ONCE = 20_000
"""Paths that are walked side by side."""
PIECE = 512
"""Steps of a series that are read at once, their states kept."""


def walked(
    stepper: Stepper,
    codec: SeriesCodec,
    states: np.ndarray,
    x: np.ndarray,
    first: np.ndarray,
    moments: np.ndarray,
    names: Sequence[str],
    *,
    horizon: int,
    paths: int,
) -> np.ndarray:
    """The distribution of the next `horizon` values from n origins, as quantiles of paths that are
    drawn (Graves 2013, arXiv:1308.0850; Salinas et al. 2020, DeepAR, arXiv:1704.04110): [n,
    horizon, targets, K], in scaled units.

    states [n, width] after the step of inputs x [n, F] at moments [n], of series `names`; first [n,
    1, targets, K]: what was said there of the next step. Columns that are not forecast stay as they
    are, but those known beforehand. The same draws each time.
    """
    levels = quantile_levels(first.shape[-1])
    result = np.empty((len(x), horizon, *first.shape[2:]))
    for begin in range(0, len(x), max(1, AT_ONCE // paths)):
        part = slice(begin, begin + max(1, AT_ONCE // paths))
        rng = np.random.default_rng(0)
        block = np.repeat(states[part], paths, 0)
        inputs, told = np.repeat(x[part], paths, 0), np.repeat(first[part, 0], paths, 0)
        now, own = (
            np.repeat(moments[part], paths),
            [name for name in names[part] for _ in range(paths)],
        )
        rows = np.arange(len(block))
        for k in range(horizon):
            luck = np.tile(
                rng.random((paths, told.shape[1])), (len(block) // paths, 1)
            )  # the same for every origin
            y = drawn(told, luck)
            result[part, k] = np.moveaxis(
                np.quantile(y.reshape(-1, paths, y.shape[-1]), levels, axis=1), 0, -1
            )
            if k + 1 < horizon:
                now = np.array([codec.clock.after(int(t), 1) for t in now[::paths]]).repeat(paths)
                inputs = codec.after(inputs, y, now, own)
                told = stepper.step_many(block, rows, inputs)[:, 0]
    return result


def drawn(quantiles: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """One value [n, targets] of each distribution given by its quantiles [n, targets, K], straight
    between and beyond them.

    luck   [n, targets], evenly distributed in 0 … 1
    """
    count = quantiles.shape[-1]
    place = luck * count - 0.5
    low = np.clip(np.floor(place).astype(int), 0, count - 2)
    below, above = (
        np.take_along_axis(quantiles, at[..., None], -1)[..., 0] for at in (low, low + 1)
    )
    return np.asarray(below + (place - low) * (above - below))


def by_paths(
    stepper: Stepper,
    codec: SeriesCodec,
    series: Series,
    x: np.ndarray,
    at: np.ndarray,
    *,
    horizon: int,
    paths: int,
) -> np.ndarray:
    """The forecasts at the steps `at` [M] of a long series, the state carried all along: [M,
    horizon, targets, K].

    x [N, F], the inputs of every step
    """
    begins = np.flatnonzero(series.reset)
    wanted = np.zeros(len(x), bool)
    wanted[at] = True
    parts = []
    for begin, end in zip(begins, np.append(begins[1:], len(x)), strict=True):
        state = np.zeros((1, stepper.layout.width), np.float32)
        for start in range(begin, end, PIECE):
            steps = np.arange(start, min(start + PIECE, end))
            ring = np.concatenate([state, np.zeros((len(steps), stepper.layout.width), np.float32)])
            told, _ = stepper.step_one(ring, 0, np.ascontiguousarray(x[steps]))
            state = ring[-1:].copy()
            here = np.flatnonzero(wanted[steps])
            if len(here):
                names = [series.groups[series.group[begin]]] * len(here)
                parts.append(
                    walked(
                        stepper,
                        codec,
                        ring[1 + here],
                        x[steps[here]],
                        told[here],
                        series.time[steps[here]],
                        names,
                        horizon=horizon,
                        paths=paths,
                    )
                )
    found = np.concatenate(parts)  # in the order of the steps, since segments are
    return found[np.argsort(np.argsort(at))]
