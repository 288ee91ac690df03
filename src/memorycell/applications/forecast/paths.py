"""Forecasts step by step: sampled values of the next step are fed back to the model, on many
paths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.next_inputs import next_inputs
from memorycell.applications.forecast.series import Series
from memorycell.models.quantiles import quantile_levels
from memorycell.streaming.stepping import Stepper

MAX_PATHS = 20_000
"""Paths that are stepped at once."""
CHUNK_STEPS = 512
"""Steps of a series whose states are in memory at once."""


def run_paths(
    stepper: Stepper,
    codec: SeriesCodec,
    series: Series,
    x: np.ndarray,
    at: np.ndarray,
    *,
    horizon: int,
    paths: int,
) -> np.ndarray:
    """The forecasts at the steps `at` [M] of a series, with the state carried: [M, horizon,
    targets, K] in scaled units.

    x [N, F], the inputs of every step
    """
    begins = np.flatnonzero(series.reset)
    wanted = np.zeros(len(x), bool)
    wanted[at] = True
    parts = []
    for begin, end in zip(begins, np.append(begins[1:], len(x)), strict=True):
        state = np.zeros((1, stepper.layout.width), np.float32)
        for start in range(begin, end, CHUNK_STEPS):
            steps = np.arange(start, min(start + CHUNK_STEPS, end))
            ring = np.concatenate([state, np.zeros((len(steps), stepper.layout.width), np.float32)])
            first, _ = stepper.step_one(ring, 0, np.ascontiguousarray(x[steps]))
            state = ring[-1:].copy()
            origins = np.flatnonzero(wanted[steps])
            if len(origins):
                parts.append(
                    path_quantiles(
                        stepper,
                        codec,
                        ring[1 + origins],
                        x[steps[origins]],
                        first[origins],
                        series.time[steps[origins]],
                        [series.groups[series.group[begin]]] * len(origins),
                        horizon=horizon,
                        paths=paths,
                    )
                )
    quantiles = np.concatenate(parts)  # in the order of the steps
    return quantiles[np.argsort(np.argsort(at))]


def path_quantiles(
    stepper: Stepper,
    codec: SeriesCodec,
    states: np.ndarray,
    x: np.ndarray,
    first: np.ndarray,
    time: np.ndarray,
    names: Sequence[str],
    *,
    horizon: int,
    paths: int,
) -> np.ndarray:
    """Quantiles [n, horizon, targets, K], in scaled units, of sampled paths from n origins (Graves
    2013, arXiv:1308.0850; Salinas et al. 2020, DeepAR, arXiv:1704.04110).

    states   [n, width] after the steps with inputs x [n, F] at time [n], of series `names`
    first    [n, 1, targets, K], the forecast of the next step

    Columns that are not forecast keep their values unless they are known in advance. All origins
    and calls use the same random numbers.
    """
    levels = quantile_levels(first.shape[-1])
    result = np.empty((len(x), horizon, *first.shape[2:]))
    origins = max(1, MAX_PATHS // paths)
    for begin in range(0, len(x), origins):
        part = slice(begin, begin + origins)
        rng = np.random.default_rng(0)
        block = np.repeat(states[part], paths, 0)
        inputs, quantiles = np.repeat(x[part], paths, 0), np.repeat(first[part, 0], paths, 0)
        now = np.repeat(time[part], paths)
        path_names = [name for name in names[part] for _ in range(paths)]
        rows = np.arange(len(block))
        for k in range(horizon):
            u = np.tile(rng.random((paths, quantiles.shape[1])), (len(block) // paths, 1))
            samples = inverse_cdf(quantiles, u)
            by_origin = samples.reshape(-1, paths, samples.shape[-1])
            result[part, k] = np.moveaxis(np.quantile(by_origin, levels, axis=1), 0, -1)
            if k + 1 < horizon:
                now = np.array([codec.clock.after(int(t), 1) for t in now[::paths]]).repeat(paths)
                inputs = next_inputs(codec, inputs, samples, now, path_names)
                quantiles = stepper.step_many(block, rows, inputs)[:, 0]
    return result


def inverse_cdf(quantiles: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The values [n, targets] at the levels u [n, targets] in 0 … 1 of distributions given by
    quantiles [n, targets, K], linear between and beyond them.
    """
    count = quantiles.shape[-1]
    position = u * count - 0.5
    low = np.clip(np.floor(position).astype(int), 0, count - 2)
    below, above = (
        np.take_along_axis(quantiles, at[..., None], -1)[..., 0] for at in (low, low + 1)
    )
    return np.asarray(below + (position - low) * (above - below))
