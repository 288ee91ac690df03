"""How far back a recurrent layer remembers: by gradient, by occlusion, and by what its forget gates
say.

    by gradient    s_k = mean over t of |∂h_t / ∂x_{t-k}|, the Frobenius norm, against the distance
                   k
    by occlusion   d_k = |h_t - h_t'| over |x_{t-k} - mean x|, with x_{t-k} replaced by the mean
                   input, summed over t
    by the gates   a unit whose forget gate is f on average keeps c for -1 / ln f steps (to 1/e),
                   -ln 2 / ln f to one half

Every distance is measured from the same t, sampled over the sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memorycell.nn.layers import Recurrent

SHARE = 0.95
"""`uses` is the distance within which so much of the sensitivity lies."""


@dataclass(frozen=True)
class Horizon:
    """Sensitivity `curve` [K] at the distances `lags` [K], in steps."""

    lags: np.ndarray
    curve: np.ndarray

    @property
    def half_life(self) -> float | None:
        """Steps until it has fallen to half its largest value, interpolated; None where it never
        does.
        """
        peak = int(self.curve.argmax())
        half = self.curve[peak] / 2
        below = np.flatnonzero(self.curve[peak:] <= half)
        if not len(below) or half == 0:
            return None
        k = peak + int(below[0])
        if k == peak:
            return 0.0
        # Between two distances the decay is taken as exponential.
        high, low = math.log(self.curve[k - 1]), math.log(max(self.curve[k], 1e-300))
        share = (high - math.log(half)) / (high - low)
        return float(self.lags[k - 1] + share * (self.lags[k] - self.lags[k - 1]) - self.lags[peak])

    @property
    def uses(self) -> int:
        """Steps within which 95% of it lies."""
        # Between measured distances the curve is taken as straight.
        every = np.arange(int(self.lags[-1]) + 1)
        total = np.cumsum(np.interp(every, self.lags, self.curve))
        return int(np.searchsorted(total, SHARE * total[-1])) + 1 if total[-1] > 0 else 0

    @property
    def cut(self) -> bool:
        """The curve ends before it has decayed: the true horizon is longer."""
        return bool(self.curve[-1] > 0.05 * self.curve.max()) if len(self.curve) else False


def by_gradient(
    layer: Recurrent, x: Tensor, *, samples: int = 8, longest: int = 512, seed: int = 0
) -> Horizon:
    """The horizon of a stack of layers, its last hidden state against its first input.

    x         [1, T, I] or [B, T, I], of which the first row is used
    samples   steps t at which it is measured
    longest   distances up to it, or to the length of the sequence

    One backward pass of `samples` rows: each is weighted at its own t by a random sign a unit,
    whose squared gradient is the squared Frobenius norm of the Jacobian in the mean (Hutchinson
    1990). For a bidirectional stack distances go both ways and are taken together.
    """
    x = x[:1].detach()
    steps = x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    longest = min(longest, steps - 1)
    at = _moments(steps, longest, samples)
    window = x.expand(len(at), -1, -1).clone().requires_grad_()
    was = layer.training
    try:
        layer.eval()
        with torch.enable_grad():
            output = _run(layer, window)
            signs = (
                torch.randint(0, 2, (len(at), output.shape[-1]), generator=generator) * 2 - 1
            ).to(output)
            chosen = output[torch.arange(len(at)), torch.as_tensor(at)]
            (grad,) = torch.autograd.grad((chosen * signs).sum(), window)
    finally:
        layer.train(was)
    norms = grad.norm(dim=-1).cpu().double().numpy() ** 2  # [samples, T]
    curve = np.zeros(longest + 1)
    counts = np.zeros(longest + 1)
    for row, t in enumerate(at):
        for sign in (-1, 1) if layer.bidirectional else (-1,):
            reach = min(longest, t if sign < 0 else steps - 1 - t)
            index = t + sign * np.arange(reach + 1)
            curve[: reach + 1] += norms[row, index]
            counts[: reach + 1] += 1
    curve = np.sqrt(curve / np.maximum(counts, 1))
    return Horizon(np.arange(longest + 1), curve)


@torch.no_grad()
def by_occlusion(
    layer: Recurrent, x: Tensor, *, samples: int = 4, longest: int = 512, lags: int = 12
) -> Horizon:
    """The same by replacing one input by the mean of all: distances spaced evenly on a logarithmic
    scale.
    """
    x = x[:1].detach()
    steps = x.shape[1]
    longest = min(longest, steps - 1)
    distances = np.unique(np.round(np.geomspace(1, longest + 1, lags)).astype(int)) - 1
    at = _moments(steps, longest, samples)
    was = layer.training
    layer.eval()
    try:
        plain = _run(layer, x)[0]
        mean = x.mean(1)[0]
        curve, changes = np.zeros(len(distances)), np.zeros(len(distances))
        for t in at:
            reach = distances[distances <= t]
            changed = x.expand(len(reach), -1, -1).clone()
            changed[torch.arange(len(reach)), torch.as_tensor(t - reach)] = mean
            output = _run(layer, changed if layer.bidirectional else changed[:, : t + 1])
            curve[: len(reach)] += (output[:, t] - plain[t]).norm(dim=-1).cpu().double().numpy()
            changes[: len(reach)] += (
                (x[0, torch.as_tensor(t - reach)] - mean).norm(dim=-1).cpu().double().numpy()
            )
    finally:
        layer.train(was)
    return Horizon(distances, curve / np.maximum(changes, 1e-30))


def gate_half_lives(forget: Tensor) -> np.ndarray:
    """Forget gates [B, T, H] -> half-life in steps of every unit, -ln 2 / mean ln f; infinity where
    f is 1.
    """
    log = forget.detach().double().clamp(min=1e-30).log().mean((0, 1)).cpu().numpy()
    with np.errstate(divide="ignore"):
        return np.where(log < 0, -math.log(2) / np.minimum(log, -1e-300), np.inf)


def _run(layer: Recurrent, x: Tensor) -> Tensor:
    output = layer(x if layer.batch_first else x.transpose(0, 1))[0]
    return output if layer.batch_first else output.transpose(0, 1)


def _moments(steps: int, longest: int, samples: int) -> list[int]:
    """Steps to look back from: in the last part, so that there is a past to look at."""
    first = min(longest, max(steps - max(1, steps // 4), 0))
    return np.unique(np.linspace(first, steps - 1, samples).round().astype(int)).tolist()
