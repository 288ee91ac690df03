"""Random convolutions of the rows with a linear classifier, mixed with the networks' answer.

The convolutions are those of MiniRocket (Dempster, Schmidt & Webb 2021, KDD, arXiv:2012.08791):
84 kernels of nine weights, three of them 2 and six -1, at several dilations, and as features the
share of the rows at which a convolution is above a bias. Here they are causal: a row is convolved
with rows before it, so that the answer after every row is known live, and is the one for the
sequence so far. After few rows a share means little, so that `prior` more rows with the usual share
are counted.

Inputs are rounded to multiples of 1/`SCALE` and bounded, so that every convolution is a whole
number that float32 holds exactly, in any order of summation: comparisons with a bias, a whole
number and a half, are the same in PyTorch, numpy, C99 and ONNX.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

RANDOM = "random"
"""Its part of a state."""
TAPS = 9
"""Weights of a kernel."""
KERNELS = len(tuple(combinations(range(TAPS), 3)))
SCALE, MAX_INPUT, MAX_ROW_CHANNELS = 1024.0, 16.0, 8
"""Of a row's inputs; and how many of them a kernel adds up: 8 · 18 · 16 · 1024 < 2²⁴."""
MAX_DILATIONS, MAX_DILATION, MAX_BIASES = 32, 512, 128


def kernel_weights() -> Tensor:
    """The kernels [84, 9]: 2 at three places, -1 at the others."""
    weights = torch.full((KERNELS, TAPS), -1.0)
    for k, places in enumerate(combinations(range(TAPS), 3)):
        weights[k, list(places)] = 2.0
    return weights


def quantised(rows: Tensor) -> Tensor:
    """Inputs of rows as whole numbers."""
    return (rows.clamp(-MAX_INPUT, MAX_INPUT) * SCALE).round()


class RandomConvolutions(nn.Module):
    """From the inputs of steps, each with `patch` rows [R], to the scores of C classes.

    channels  [D, 84, R]: 1 for the inputs of a row that a kernel adds up, 0 for the others
    biases    [D, 84, N]
    prior     rows that are added to those of a sequence, with the counts `expected` [D, 84, N]
    weight    [C, D · 84 · N] and `bias` [C]: the classifier of the features
    share     of its probabilities in the mixture

    Of every second pair of a dilation and a kernel the rows at which the kernel begins before the
    sequence do not count, once one does not.

    In a state the last `past` rows, the oldest first, are followed by the number of rows at which
    each feature is above its bias, and the number of rows.
    """

    channels: Tensor
    biases: Tensor
    prior: Tensor
    expected: Tensor
    weight: Tensor
    bias: Tensor
    share: Tensor

    def __init__(
        self, dilations: tuple[int, ...], biases: int, patch: int, row_size: int, classes: int
    ) -> None:
        super().__init__()
        self.dilations, self.patch, self.row_size = dilations, patch, row_size
        self.past = (TAPS - 1) * max(dilations)
        self.features = len(dilations) * KERNELS * biases
        self.state_size = self.past * row_size + self.features + 1
        self.register_buffer("channels", torch.zeros(len(dilations), KERNELS, row_size))
        self.register_buffer("biases", torch.zeros(len(dilations), KERNELS, biases))
        self.register_buffer("prior", torch.zeros(()))
        self.register_buffer("expected", torch.zeros_like(self.biases))
        self.register_buffer("weight", torch.zeros(classes, self.features))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("share", torch.zeros(()))

    def skips(self, number: int) -> Tensor:
        """Of dilation `number`, the kernels [84] that leave out rows, bool."""
        return (torch.arange(KERNELS) + number) % 2 == 1

    def responses(self, number: int, rows: Tensor) -> Tensor:
        """Whole inputs [B, past + T, R] -> convolutions [B, 84, T] with dilation `number`."""
        dilation = self.dilations[number]
        weights = kernel_weights()[:, None] * self.channels[number][:, :, None]
        own = rows[:, self.past - (TAPS - 1) * dilation :].transpose(1, 2)
        return F.conv1d(own, weights, dilation=dilation)

    def response(self, number: int, kernel: int, x: Tensor) -> Tensor:
        """The convolution [n · patch] of one kernel with the inputs of a sequence x [n, I]."""
        reach = (TAPS - 1) * self.dilations[number]
        rows = F.pad(quantised(self._rows(x[None])), (0, 0, reach, 0)).transpose(1, 2)
        weights = kernel_weights()[kernel, None] * self.channels[number, kernel, :, None]
        return F.conv1d(rows, weights[None], dilation=self.dilations[number])[0, 0]

    def complete(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features [B, D · 84 · N] of complete sequences x [B, T, I] with lengths [B]."""
        rows = F.pad(quantised(self._rows(x)), (0, 0, self.past, 0))
        steps, counts = torch.arange(rows.shape[1] - self.past), lengths * self.patch
        found = []
        for number, dilation in enumerate(self.dilations):
            first = torch.where(counts > (TAPS - 1) * dilation, (TAPS - 1) * dilation, 0)
            response = self.responses(number, rows)
            outside = steps >= counts[:, None]
            early = steps < first[:, None]
            skipped = outside[:, None] | (early[:, None] & self.skips(number)[:, None])
            response = response.masked_fill(skipped, -torch.inf)
            size = torch.where(self.skips(number), (counts - first)[:, None], counts[:, None])
            own = [(response > b[:, None]).sum(-1) for b in self.biases[number].unbind(1)]
            total = torch.stack(own, -1) + self.expected[number]
            found.append((total / (size[..., None] + self.prior)).flatten(1))
        return torch.cat(found, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Scores [B, C] of complete sequences x [B, T, I] with lengths [B]."""
        return self.complete(x, lengths) @ self.weight.T + self.bias

    def mixed(self, y: Tensor, scores: Tensor) -> Tensor:
        """The scores [..., C] of the networks and of `forward` or `steps` -> those of the mixture
        of their probabilities.
        """
        p = (1 - self.share) * y.softmax(-1) + self.share * scores.softmax(-1)
        return torch.log(p.clamp(min=torch.finfo(p.dtype).tiny))

    def steps(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """X [B, T, I], the state before the first step [B, W] -> (scores after every step
        [B, T, C], the state after the last one).
        """
        sizes = [self.past * self.row_size, self.features, 1]
        past, counted, count = before.split(sizes, 1)
        rows = torch.cat([past.unflatten(1, (self.past, -1)), quantised(self._rows(x))], 1)
        time = count + torch.arange(rows.shape[1] - self.past)  # [B, T · patch]
        after = count + self.patch * torch.arange(1, x.shape[1] + 1)  # [B, T]
        scores, kept = self.bias.expand(*x.shape[:2], -1), []
        size = KERNELS * self.biases.shape[2]
        for number, dilation in enumerate(self.dilations):
            reach = (TAPS - 1) * dilation
            own = slice(number * size, (number + 1) * size)
            carried = counted[:, own].unflatten(1, (KERNELS, -1))
            skips, reached = self.skips(number)[:, None], after > reach
            response = self.responses(number, rows)
            above = response[..., None] > self.biases[number][:, None]  # [B, 84, T · patch, N]
            inside = above & (time >= reach)[:, None, :, None]
            both = []
            for counts, first in ((above, carried), (inside, carried * (count > reach)[..., None])):
                step = counts.unflatten(2, (x.shape[1], self.patch)).sum(3).cumsum(2)
                both.append(step.transpose(1, 2) + first[:, None])  # [B, T, 84, N]
            use = skips & reached[:, :, None, None]
            total = torch.where(use, both[1], both[0])
            rows_counted = torch.where(
                use, (after - reach)[:, :, None, None], after[..., None, None]
            )
            features = ((total + self.expected[number]) / (rows_counted + self.prior)).flatten(2)
            scores = scores + features @ self.weight[:, own].T
            kept.append(total[:, -1].flatten(1))
        last = rows[:, rows.shape[1] - self.past :].flatten(1)
        return scores, torch.cat([last, *kept, count + self.patch * x.shape[1]], 1)

    @torch.inference_mode()
    def mixed_path(self, p: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The networks' probabilities after every step of a sequence [n, C], its inputs [n, I] ->
        those of the mixture.
        """
        scores, _ = self.steps(torch.from_numpy(x)[None], torch.zeros(1, self.state_size))
        share = float(self.share)
        return np.asarray((1 - share) * p + share * scores[0].softmax(-1).numpy())

    def _rows(self, x: Tensor) -> Tensor:
        """Inputs of steps [B, T, I] -> the rows that they hold [B, T · patch, R]."""
        inputs = x[..., : self.patch * self.row_size]
        return inputs.reshape(len(x), x.shape[1] * self.patch, self.row_size)
