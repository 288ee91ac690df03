"""How far back a recurrent layer remembers: by gradient, by occlusion, and by its forget gates.

    gradient     s_k = mean over t of |∂h_t / ∂x_{t-k}|, the Frobenius norm, at distance k
    occlusion    d_k = sum over t of |h_t - h_t'| / sum over t of |x_{t-k} - mean x|, with x_{t-k}
                 replaced by the mean input
    forget gate  a unit with geometric mean gate f keeps c for -1 / ln f steps (to 1/e),
                 -ln 2 / ln f steps (to one half)

The steps t are sampled from the last part of the sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memorycell.nn.layers import Recurrent

SPAN_SHARE = 0.95
"""`span` is the distance that contains this share of the sensitivity."""
MAX_DECAYED = 0.05
"""A curve has decayed when it ends at or below this share of its maximum."""


@dataclass(frozen=True)
class Horizon:
    """Sensitivity `curve` [K] at distances `lags` [K] in steps."""

    lags: np.ndarray
    curve: np.ndarray

    @property
    def half_life(self) -> float | None:
        """Steps from the maximum to half of it, interpolated; None if the curve stays above."""
        peak = int(self.curve.argmax())
        half = self.curve[peak] / 2
        below = np.flatnonzero(self.curve[peak:] <= half)
        if not len(below) or half == 0:
            return None
        k = peak + int(below[0])
        if k == peak:
            return 0.0
        # Exponential decay between two lags.
        high, low = math.log(self.curve[k - 1]), math.log(max(self.curve[k], 1e-300))
        fraction = (high - math.log(half)) / (high - low)
        step = self.lags[k] - self.lags[k - 1]
        return float(self.lags[k - 1] + fraction * step - self.lags[peak])

    @property
    def span(self) -> int:
        """Steps that contain 95% of the sensitivity."""
        # Linear between two lags.
        distances = np.arange(int(self.lags[-1]) + 1)
        total = np.cumsum(np.interp(distances, self.lags, self.curve))
        return int(np.searchsorted(total, SPAN_SHARE * total[-1])) + 1 if total[-1] > 0 else 0

    @property
    def truncated(self) -> bool:
        """The curve ends before it has decayed: the true horizon is longer."""
        if not len(self.curve):
            return False
        return bool(self.curve[-1] > MAX_DECAYED * self.curve.max())


def gradient_horizon(
    layer: Recurrent, x: Tensor, *, samples: int = 8, max_lag: int = 512, seed: int = 0
) -> Horizon:
    """The horizon of a stack of layers by gradient, its last hidden state against its first input.

    x         [B, T, I]; only the first sequence is used
    samples   number of steps t
    max_lag   largest distance, at most T - 1

    One backward pass over a batch of `samples` copies: each is weighted at its own t by a random
    sign per unit, and the mean squared gradient is the squared Frobenius norm of the Jacobian
    (Hutchinson 1990). For a bidirectional stack both directions are averaged.
    """
    x = x[:1].detach()
    seq_len = x.shape[1]
    max_lag = min(max_lag, seq_len - 1)
    steps = _sample_steps(seq_len, max_lag, samples)
    norms = _gradient_norms(layer, x, steps, seed) ** 2
    curve = np.zeros(max_lag + 1)
    counts = np.zeros(max_lag + 1)
    for row, t in enumerate(steps):
        for direction in (-1, 1) if layer.bidirectional else (-1,):
            reach = min(max_lag, t if direction < 0 else seq_len - 1 - t)
            curve[: reach + 1] += norms[row, t + direction * np.arange(reach + 1)]
            counts[: reach + 1] += 1
    return Horizon(np.arange(max_lag + 1), np.sqrt(curve / np.maximum(counts, 1)))


def _gradient_norms(layer: Recurrent, x: Tensor, steps: list[int], seed: int) -> np.ndarray:
    """[samples, T]: norm of the gradient of the randomly signed sum of h_t in every input."""
    copies = x.expand(len(steps), -1, -1).clone().requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    training = layer.training
    try:
        layer.eval()
        with torch.enable_grad():
            output = _run(layer, copies)
            h_t = output[torch.arange(len(steps)), torch.as_tensor(steps)]
            signs = torch.randint(0, 2, tuple(h_t.shape), generator=generator) * 2 - 1
            (grad,) = torch.autograd.grad((h_t * signs.to(output)).sum(), copies)
    finally:
        layer.train(training)
    norms: np.ndarray = grad.norm(dim=-1).cpu().double().numpy()
    return norms


@torch.no_grad()
def occlusion_horizon(
    layer: Recurrent, x: Tensor, *, samples: int = 4, max_lag: int = 512, num_lags: int = 12
) -> Horizon:
    """The horizon of a stack of layers by occlusion: one input is replaced by the mean input.

    num_lags   distances, spaced evenly on a logarithmic scale

    Other arguments as in `gradient_horizon`.
    """
    x = x[:1].detach()
    seq_len = x.shape[1]
    max_lag = min(max_lag, seq_len - 1)
    lags = np.unique(np.round(np.geomspace(1, max_lag + 1, num_lags)).astype(int)) - 1
    steps = _sample_steps(seq_len, max_lag, samples)
    training = layer.training
    layer.eval()
    try:
        original = _run(layer, x)[0]
        mean = x.mean(1)[0]
        output_change, input_change = np.zeros(len(lags)), np.zeros(len(lags))
        for t in steps:
            reach = lags[lags <= t]
            replaced = torch.as_tensor(t - reach)
            occluded = x.expand(len(reach), -1, -1).clone()
            occluded[torch.arange(len(reach)), replaced] = mean
            output = _run(layer, occluded if layer.bidirectional else occluded[:, : t + 1])
            output_change[: len(reach)] += _norms(output[:, t] - original[t])
            input_change[: len(reach)] += _norms(x[0, replaced] - mean)
    finally:
        layer.train(training)
    return Horizon(lags, output_change / np.maximum(input_change, 1e-30))


def forget_half_lives(forget: Tensor) -> np.ndarray:
    """Forget gates [B, T, H] -> half-life of every unit in steps [H], -ln 2 / mean ln f; infinite
    where f is 1.
    """
    log = forget.detach().double().clamp(min=1e-30).log().mean((0, 1)).cpu().numpy()
    with np.errstate(divide="ignore"):
        return np.where(log < 0, -math.log(2) / np.minimum(log, -1e-300), np.inf)


def _norms(x: Tensor) -> np.ndarray:
    """Norm of every row, float64."""
    norms: np.ndarray = x.norm(dim=-1).cpu().double().numpy()
    return norms


def _run(layer: Recurrent, x: Tensor) -> Tensor:
    """[B, T, I] -> [B, T, H] in either layout."""
    output = layer(x if layer.batch_first else x.transpose(0, 1))[0]
    return output if layer.batch_first else output.transpose(0, 1)


def _sample_steps(seq_len: int, max_lag: int, samples: int) -> list[int]:
    """Steps t in the last part of the sequence, so that each has a past."""
    first = min(max_lag, max(seq_len - max(1, seq_len // 4), 0))
    return np.unique(np.linspace(first, seq_len - 1, samples).round().astype(int)).tolist()
