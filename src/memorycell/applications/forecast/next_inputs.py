"""The inputs of the steps after a forecast's origin, when sampled values are fed back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.applications.forecast.codec import SeriesCodec


def next_inputs(
    codec: SeriesCodec, x: np.ndarray, y: np.ndarray, time: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """Inputs [n, F] of the step after those of x, given the targets y [n, targets] in scaled
    units. Inputs known in advance advance; the other columns keep their values.

    time [n] of that step, names [n] of the series
    """
    count, targets = len(codec.columns), len(codec.targets)
    _, std, change = codec.scaling_of(names)
    level = x[:, :count].astype(np.float64)
    bounds, change_bounds = codec.both_bounds
    level[:, :targets] = np.clip(y, -bounds[:targets], bounds[:targets])
    calendar_at = 2 * count + 1 + len(codec.gappy)
    known_at = calendar_at + 4 * len(codec.calendar)
    result = x.copy()
    for k, c in enumerate(codec.known_numbers):
        at = known_at + k * codec.reach
        level[:, codec.columns.index(c)] = x[:, at]
        result[:, at : at + codec.reach] = _advanced(x[:, at : at + codec.reach, None])
    result[:, :count] = level
    changes = (level - x[:, :count]) * std / change
    result[:, count : 2 * count] = np.clip(changes, -change_bounds, change_bounds)
    result[:, 2 * count] = 1
    result[:, 2 * count + 1 : calendar_at] = 0
    for at, wave in enumerate(codec.calendar_waves(time), calendar_at):
        result[:, at] = wave
    _advance_words(codec, x, result)
    return result


def _advance_words(codec: SeriesCodec, x: np.ndarray, result: np.ndarray) -> None:
    """Set the words known in advance in result [n, F] from the inputs x of the step before."""
    now_at = dict(zip(codec.words, np.cumsum([codec.words_at, *codec.word_widths]), strict=False))
    at = codec.words_at + sum(codec.word_widths[: len(codec.words)])
    for c in codec.known_words:
        width = len(codec.words[c]) + 1
        ahead = x[:, at : at + codec.reach * width].reshape(len(x), codec.reach, width)
        result[:, now_at[c] : now_at[c] + width] = ahead[:, 0]
        result[:, at : at + codec.reach * width] = _advanced(ahead)
        at += codec.reach * width


def _advanced(ahead: np.ndarray) -> np.ndarray:
    """The known values ahead [n, reach, width] a step later, as [n, reach · width]; the last one is
    repeated.
    """
    return np.concatenate([ahead[:, 1:], ahead[:, -1:]], 1).reshape(len(ahead), -1)
