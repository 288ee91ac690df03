"""The convolutions of a sequence model, one step at a time in numpy and on the engine."""

from __future__ import annotations

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


class ConvolutionStep:
    """`ConvolutionBranch.steps` for one step of several sessions; the answers for a session do not
    depend on the others. The normalisation is part of the weights.
    """

    def __init__(self, branch: ConvolutionBranch) -> None:
        convolutions = branch.convolutions
        self._patch, self._row_size = branch.patch, branch.row_size
        self._channels, self.state_size = convolutions.channels, branch.state_size
        self._layers: list[tuple[LinearStep, int, int, np.ndarray]] = []
        for k, (layer, norm) in enumerate(
            zip(convolutions.layers, convolutions.norms, strict=True)
        ):
            assert isinstance(layer, nn.Conv1d)
            assert isinstance(norm, StepNorm)
            scale = norm.gain.detach() * torch.rsqrt(norm.variance.detach() + EPSILON)
            weight = (layer.weight.detach() * scale[:, None, None]).flatten(1)
            linear = LinearStep(weight, norm.bias.detach() - norm.mean.detach() * scale)
            past = (KERNELS[k] - 1) * DILATIONS[k]
            # Of inputs [channels, past + patch]: what the kernel sees at each row of a patch.
            channel = np.arange(layer.in_channels)[:, None] * (past + self._patch)
            seen = channel + np.arange(KERNELS[k]) * DILATIONS[k]
            index = np.arange(self._patch)[:, None] + seen.reshape(1, -1)
            self._layers.append((linear, layer.in_channels, past, index))

    def __call__(self, before: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state before the step [B, W], the step's inputs [B, I] -> (features [B, 2 C], the
        state after it [B, W]).
        """
        count, patch, size = len(x), self._patch, self._channels
        after = np.empty(before.shape, np.float32)
        values = x[:, : patch * self._row_size].reshape(count, patch, -1).transpose(0, 2, 1)
        at = 0
        for linear, channels, past, index in self._layers:
            end = at + channels * past
            inputs = np.empty((count, channels, past + patch), np.float32)
            inputs[:, :, :past] = before[:, at:end].reshape(count, channels, past)
            inputs[:, :, past:] = values
            after[:, at:end].reshape(count, channels, past)[...] = inputs[:, :, patch:]
            seen = inputs.reshape(count, -1).take(index, 1)
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
