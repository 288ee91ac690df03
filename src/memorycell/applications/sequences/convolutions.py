"""Causal convolutions over the rows of a sequence, joined with the recurrent part (LSTM-FCN, Karim
et al. 2018, arXiv:1709.05206, with dilated causal convolutions as in Bai et al. 2018,
arXiv:1803.01271).

Each layer is a convolution, a normalisation over the batch and the time (Ioffe & Szegedy 2015,
arXiv:1502.03167) and a ReLU. The features of the last layer are pooled over the rows so far: their
mean and their maximum. A step reads no later row, so the answer after every step is known live.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNELS = (9, 5, 5, 3, 3)
DILATIONS = (1, 1, 2, 4, 4)
"""Of the layers, first to last; a feature sees 37 rows."""
MOMENTUM = 0.1
EPSILON = 1e-5


class StepNorm(nn.Module):
    """Batch normalisation over the batch and the rows of sequences of different lengths.

    The running mean and variance are parameters without a gradient rather than buffers: the moving
    average of the weights, which is what is validated and saved, then includes them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean = nn.Parameter(torch.zeros(channels))
        self.variance = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """X [B, C, T]; inside [B, 1, T] float: 1, and 0 for padding; None: no padding."""
        if self.training:
            mean, variance = _moments(x, inside)
            with torch.no_grad():
                self.mean.lerp_(mean.detach(), MOMENTUM)
                self.variance.lerp_(variance.detach(), MOMENTUM)
        else:
            mean, variance = self.mean.detach(), self.variance.detach()
        scale = self.gain * torch.rsqrt(variance + EPSILON)
        return x * scale[:, None] + (self.bias - mean * scale)[:, None]


def _moments(x: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor]:
    if inside is None:
        return x.mean((0, 2)), x.var((0, 2), correction=0)
    count = inside.sum()
    mean = (x * inside).sum((0, 2)) / count
    return mean, (((x - mean[:, None]) ** 2) * inside).sum((0, 2)) / count


class CausalConvolutions(nn.Module):
    """Rows [B, T, R] -> features [B, T, C], not negative.

    In a state each layer keeps the inputs that the next rows still see, [(K - 1) · D · channels]
    one layer after another; zeros before the first row.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        sizes = (inputs, *(channels,) * len(KERNELS))
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, kernel, dilation=dilation, bias=False)
            for (before, after), kernel, dilation in zip(
                pairwise(sizes), KERNELS, DILATIONS, strict=True
            )
        )
        self.norms = nn.ModuleList(StepNorm(channels) for _ in KERNELS)
        for layer in self.layers:
            assert isinstance(layer, nn.Conv1d)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.state_sizes = [
            (kernel - 1) * dilation * size
            for kernel, dilation, size in zip(KERNELS, DILATIONS, sizes, strict=False)
        ]

    def forward(
        self, rows: Tensor, inside: Tensor | None = None, before: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows [B, T, R], inside [B, T] float (0: padding), the state before the first row [B, W]
        -> (features [B, T, C], the state after the last row [B, W]).
        """
        x = rows.transpose(1, 2)
        own = None if inside is None else inside[:, None]
        if before is None:
            before = x.new_zeros(len(x), sum(self.state_sizes))
        after = []
        for layer, norm, past in zip(
            self.layers, self.norms, before.split(self.state_sizes, 1), strict=True
        ):
            x = torch.cat([past.view(len(x), x.shape[1], -1), x], 2)
            after.append(x[:, :, x.shape[2] - past.shape[1] // x.shape[1] :].flatten(1))
            x = F.relu(norm(layer(x), own))
        return x.transpose(1, 2), torch.cat(after, 1)


class ConvolutionBranch(nn.Module):
    """The convolutions with their pooling: from the inputs of steps, each with `patch` rows [R],
    to the mean and the maximum of the features [2 C] over the rows so far. A stride of s rows is
    `patch` divided by s, and rows of s times the inputs.

    In a state the sums [C], the maxima [C] and the number of rows follow those of the convolutions.
    """

    def __init__(self, patch: int, row_size: int, channels: int) -> None:
        super().__init__()
        self.patch, self.row_size = patch, row_size
        self.convolutions = CausalConvolutions(row_size, channels)
        self.output_size = 2 * channels
        self.state_size = sum(self.convolutions.state_sizes) + 2 * channels + 1

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Complete sequences x [B, T, I] with lengths [B] -> [B, 2 C]."""
        rows = self._rows(x)
        steps = torch.arange(rows.shape[1], device=x.device)
        inside = (steps < lengths[:, None] * self.patch).to(rows.dtype)
        features, _ = self.convolutions(rows, inside)
        features = features * inside[..., None]  # not negative, so that 0 is no maximum
        mean = features.sum(1) / inside.sum(1, keepdim=True)
        return torch.cat([mean, features.amax(1)], 1)

    def steps(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """X [B, T, I], the state before the first step [B, W] -> ([B, T, 2 C] after every step, the
        state after the last one).
        """
        channels = self.convolutions.channels
        sizes = [before.shape[1] - 2 * channels - 1, channels, channels, 1]
        past, sums, maxima, count = before.split(sizes, 1)
        features, past = self.convolutions(self._rows(x), None, past)
        own = features.unflatten(1, (x.shape[1], self.patch))
        # Summed in the order of single steps, for equal rounding.
        sums = torch.cat([sums[:, None], own.sum(2)], 1).cumsum(1)[:, 1:]
        maxima = torch.maximum(own.amax(2).cummax(1).values, maxima[:, None])
        counts = count[:, None] + self.patch * torch.arange(
            1, x.shape[1] + 1, device=x.device, dtype=x.dtype
        ).view(1, -1, 1)
        after = torch.cat([past, sums[:, -1], maxima[:, -1], counts[:, -1]], 1)
        return torch.cat([sums / counts, maxima], 2), after

    def _rows(self, x: Tensor) -> Tensor:
        """Inputs of steps [B, T, I] -> the rows that they hold [B, T · patch, R]."""
        inputs = x[..., : self.patch * self.row_size]
        return inputs.reshape(len(x), x.shape[1] * self.patch, self.row_size)
