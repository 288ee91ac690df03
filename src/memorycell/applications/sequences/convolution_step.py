"""The convolutions of a sequence model, one step at a time in numpy and on the engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from memorycell.applications.sequences.convolutions import (
    DILATIONS,
    EPSILON,
    KERNELS,
    ConvolutionBranch,
    StepNorm,
)
from memorycell.ops.step import LinearStep


class _Layer(NamedTuple):
    """A convolution with its normalisation as one product; the inputs are those of the first tap,
    of all channels, then those of the next one; the last tap reads the row itself.

    past    rows before a row that it sees
    seen    [patch, taps · channels] into inputs [channels, past + patch]
    """

    linear: LinearStep
    channels: int
    past: int
    seen: np.ndarray


class ConvolutionStep:
    """`ConvolutionBranch.steps` for one step of several sessions; the answers for a session do not
    depend on the others. The normalisation is part of the weights.
    """

    def __init__(self, branch: ConvolutionBranch) -> None:
        convolutions = branch.convolutions
        self._patch, self._row_size = branch.patch, branch.row_size
        self._channels, self.state_size = convolutions.channels, branch.state_size
        self._layers: list[_Layer] = []
        for k, (layer, norm) in enumerate(
            zip(convolutions.layers, convolutions.norms, strict=True)
        ):
            assert isinstance(layer, nn.Conv1d)
            assert isinstance(norm, StepNorm)
            scale = norm.gain.detach() * torch.rsqrt(norm.variance.detach() + EPSILON)
            weight = (layer.weight.detach() * scale[:, None, None]).transpose(1, 2).flatten(1)
            linear = LinearStep(weight, norm.bias.detach() - norm.mean.detach() * scale)
            past = (KERNELS[k] - 1) * DILATIONS[k]
            channel = np.arange(layer.in_channels) * (past + self._patch)
            seen = np.arange(KERNELS[k])[:, None] * DILATIONS[k] + channel
            index = np.arange(self._patch)[:, None] + seen.reshape(1, -1)
            self._layers.append(_Layer(linear, layer.in_channels, past, index))
        self._row = _RowStep(self._layers, self._channels) if self._patch == 1 else None

    def one(self, before: np.ndarray, x: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The state before the step [W], the step's inputs [I] -> features [2 C]; the state after
        it is written to `after` [W], which may be `before`.
        """
        if self._row is not None:
            return self._row(before, x[: self._row_size], after)
        features, state = self(before[None], x[None])
        after[...] = state[0]
        return np.asarray(features[0])

    def __call__(self, before: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state before the step [B, W], the step's inputs [B, I] -> (features [B, 2 C], the
        state after it [B, W]).
        """
        count, patch, size = len(x), self._patch, self._channels
        after = np.empty(before.shape, np.float32)
        values = x[:, : patch * self._row_size].reshape(count, patch, -1).transpose(0, 2, 1)
        at = 0
        for linear, channels, past, places in self._layers:
            end = at + channels * past
            inputs = np.empty((count, channels, past + patch), np.float32)
            inputs[:, :, :past] = before[:, at:end].reshape(count, channels, past)
            inputs[:, :, past:] = values
            after[:, at:end].reshape(count, channels, past)[...] = inputs[:, :, patch:]
            seen = inputs.reshape(count, -1).take(places, 1)
            out = linear(seen.reshape(count * patch, -1))
            np.maximum(out, 0, out=out)
            features = out.reshape(count, patch, size)
            values, at = features.transpose(0, 2, 1), end
        pooled = after[:, at:]
        np.add(before[:, at : at + size], features.sum(1), out=pooled[:, :size])
        highest = before[:, at + size : at + 2 * size]
        np.maximum(highest, features.max(1), out=pooled[:, size : 2 * size])
        pooled[:, 2 * size] = before[:, -1] + patch
        result = pooled[:, : 2 * size].copy()
        result[:, :size] /= pooled[:, 2 * size :]
        return result, after


class _RowStep:
    """A step of one row of one session with few numpy calls: what all layers see of earlier rows is
    gathered from the state at once, and each layer adds what it sees of the row.
    """

    def __init__(self, layers: list[_Layer], size: int) -> None:
        self._size = size
        gather: list[np.ndarray] = []
        shifts: list[np.ndarray] = []
        spans, news, at, width = [], [], 0, 0
        for _, channels, past, places in layers:
            # Of inputs [channels, past + 1] to the state [channels, past]; the row is filled in.
            place = places[0] // (past + 1) * past + places[0] % (past + 1)
            gather.append(at + np.minimum(place, channels * past - 1))
            spans.append((width, width + len(place)))
            width += len(place)
            news.append((width - channels, width))
            shifts.append(at + np.arange(1, channels * past + 1).reshape(channels, past))
            at += channels * past
        news.append((width, width + size))
        for (begin, end), own in zip(news, shifts, strict=False):
            own[:, -1] = at + 2 * size + 1 + np.arange(begin, end)
        self._gather = np.concatenate([*gather, np.zeros(size, np.int64)])
        pooled = at + np.arange(2 * size + 1)
        self._shift = np.concatenate([*(own.ravel() for own in shifts), pooled])
        self._first = slice(*news[0])
        self._calls = [
            (layer.linear.times, layer.linear.bias, slice(*span), slice(*new))
            for layer, span, new in zip(layers, spans, news[1:], strict=True)
        ]
        self._sums = slice(at, at + size)
        self._maxima = slice(at + size, at + 2 * size)

    def __call__(self, before: np.ndarray, row: np.ndarray, after: np.ndarray) -> np.ndarray:
        """See `ConvolutionStep.one`."""
        seen = before.take(self._gather)
        seen[self._first] = row
        for times, bias, span, new in self._calls:
            out = seen[new]
            times(seen[span], bias, out)
            np.maximum(out, 0, out=out)
        np.concatenate((before, seen)).take(self._shift, out=after, mode="clip")
        sums, maxima, size = after[self._sums], after[self._maxima], self._size
        np.add(sums, out, out=sums)
        np.maximum(maxima, out, out=maxima)
        after[-1] += 1
        result = np.empty(2 * size, np.float32)
        np.divide(sums, after[-1], out=result[:size])
        result[size:] = maxima
        return result
