"""The inputs of all steps of a table, in blocks of steps: float64 takes memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from memorycell.applications.forecast.series import Series
from memorycell.applications.forecast.words import one_hot

if TYPE_CHECKING:
    from memorycell.applications.forecast.codec import SeriesCodec

BLOCK_STEPS = 16_384


class Scaling(NamedTuple):
    """Mean and standard deviation of values, and standard deviation of their changes per step;
    each [..., C].
    """

    mean: np.ndarray
    std: np.ndarray
    change: np.ndarray


def encode_series(codec: SeriesCodec, series: Series) -> np.ndarray:
    """[N, F] float32: the inputs of every step, in the order of `SeriesCodec.features`."""
    filled, scaling = codec.fill(series), codec.step_scaling(series)
    more = _other_inputs(codec, series, filled)
    inputs = np.empty((len(series), len(codec.features)), np.float32)
    for part, before in _with_previous(filled, series):
        inputs[part] = codec.assemble_inputs(
            filled[part],
            before,
            observed=series.row[part] >= 0,
            missing=np.isnan(series.values[part]),
            time=series.time[part],
            scaling=Scaling(*(values[part] for values in scaling)),
            more=[values[part] for values in more],
        )
    return inputs


def largest_inputs(codec: SeriesCodec, series: Series, steps: np.ndarray) -> np.ndarray:
    """[2C] float32: the largest scaled values and changes at the steps [N] bool, not clipped."""
    filled, scaling = codec.fill(series), codec.step_scaling(series)
    largest = np.zeros(2 * len(codec.columns), np.float32)
    for part, before in _with_previous(filled, series):
        mean, std, change = (values[part] for values in scaling)
        scaled = np.concatenate([(filled[part] - mean) / std, (filled[part] - before) / change], 1)
        block = np.abs(scaled[steps[part]]).max(0, initial=0.0)
        largest = np.maximum(largest, block.astype(np.float32))
    return largest


def _other_inputs(codec: SeriesCodec, series: Series, filled: np.ndarray) -> list[np.ndarray]:
    """Known inputs, words and static inputs, each [N, …]."""
    ahead = _ahead_steps(series, codec.reach) if codec.known else np.zeros((0, 0), np.int64)
    mean, std, _ = codec.step_scaling(series)
    parts: list[np.ndarray] = []
    for c in codec.known_numbers:
        k = codec.columns.index(c)
        parts.append(((filled[:, k] - mean[:, k]) / std[:, k])[ahead])
    words = {c: one_hot(series.words[c], own) for c, own in codec.words.items()}
    parts += words.values()
    parts += [words[c][ahead].reshape(len(series), -1) for c in codec.known_words]
    if codec.static:
        parts.append(codec.one_hot(series.static)[series.group])
    return parts


def _with_previous(filled: np.ndarray, series: Series) -> Iterator[tuple[slice, np.ndarray]]:
    """(block of steps, values [n, C] of the step before each; its own where a segment begins)"""
    reset = series.reset
    for begin in range(0, len(filled), BLOCK_STEPS):
        part = slice(begin, begin + BLOCK_STEPS)
        now = filled[part]
        before = np.concatenate([filled[max(begin - 1, 0)][None], now[:-1]])
        yield part, np.where(reset[part, None], now, before)


def _ahead_steps(series: Series, reach: int) -> np.ndarray:
    """[N, reach] int64: the next steps of every step; past the end of the segment, its last one."""
    begins = np.flatnonzero(series.reset)
    ends = np.append(begins[1:], len(series))
    last = np.repeat(ends - 1, ends - begins)
    return np.minimum(np.arange(len(series))[:, None] + np.arange(1, reach + 1), last[:, None])
