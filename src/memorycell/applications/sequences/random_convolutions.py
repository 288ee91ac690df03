"""Random convolutions: features for classifying and regressing sequences.

MiniRocket (Dempster, Schmidt & Webb 2021, KDD, arXiv:2012.08791), for several channels and for
sequences of different lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from memorycell.applications.sequences.baselines_inputs import EncodedSteps
from memorycell.applications.sequences.nearest import resample

KERNEL = 9
"""Weights of a kernel: three are 2, six are -1."""
KERNELS = tuple(combinations(range(KERNEL), 3))
"""The places of the 2s in the 84 kernels."""
FEATURES = 9996
MAX_DILATIONS = 32
MAX_CHANNELS = 9
SHORT_STEPS = 32
"""To which all are resampled where no training sequence is twice as long as a kernel."""
MAX_STEPS = 2048
"""Longer sequences are resampled to as many steps, shorter ones than a kernel to its length."""
CHUNK_VALUES = 1 << 18
GOLDEN = (np.sqrt(5) + 1) / 2


class _Group(NamedTuple):
    """The kernels of one dilation: for each the channels that it adds up, and its biases."""

    dilation: int
    channels: list[np.ndarray]
    biases: list[np.ndarray]


class RandomConvolutions:
    """Features float32 [N, P]: for each kernel, dilation and bias the share of steps at which the
    convolution is above the bias. Dilations are spread exponentially up to the length of the
    longest training sequence; biases are quantiles of convolutions of random training sequences;
    every second combination pads the sequence with zeros. A kernel adds up a random set of
    channels.

    A sequence is convolved at its own length. Where it is shorter than a dilated kernel it is
    always padded.
    """

    def __init__(self, features: int = FEATURES, seed: int = 0) -> None:
        self.features, self.seed = features, seed
        self._groups: list[_Group] = []
        self._min_steps = KERNEL

    def fit(self, train: EncodedSteps) -> RandomConvolutions:
        """Choose dilations, channels and biases."""
        rng = np.random.default_rng(self.seed)
        self._min_steps = KERNEL if train.lengths.max() >= 2 * KERNEL else SHORT_STEPS
        lengths = np.clip(train.lengths, self._min_steps, MAX_STEPS)
        width = train.flat.shape[1]
        self._groups = []
        quantile = 1
        for number, (dilation, count) in enumerate(
            _dilations(int(lengths.max()), self.features // len(KERNELS))
        ):
            channels, biases = [], []
            for kernel in range(len(KERNELS)):
                chosen = _random_channels(width, rng)
                levels = (np.arange(quantile, quantile + count) * GOLDEN) % 1
                quantile += count
                example = self._fitting(train.sequence(int(rng.integers(len(train)))))
                response = next(_convolutions(example[None], dilation, [kernel], [chosen]))[0]
                inside = _inside(number + kernel, dilation, len(response))
                biases.append(np.quantile(response[inside], levels).astype(np.float32))
                channels.append(chosen)
            self._groups.append(_Group(dilation, channels, biases))
        return self

    def transform(self, data: EncodedSteps) -> np.ndarray:
        """Features of sequences, float32 [N, P]."""
        columns = sum(len(b) for group in self._groups for b in group.biases)
        result = np.empty((len(data), columns), np.float32)
        for members, steps in data.by_length(CHUNK_VALUES):
            block = steps
            if not self._min_steps <= steps.shape[1] <= MAX_STEPS:
                block = np.stack([self._fitting(own) for own in steps])
            result[members] = self._transform(block)
        return result

    def _fitting(self, sequence: np.ndarray) -> np.ndarray:
        """A sequence [T, E] of `_min_steps` to `MAX_STEPS` steps."""
        return resample(sequence, min(max(len(sequence), self._min_steps), MAX_STEPS))

    def _transform(self, block: np.ndarray) -> np.ndarray:
        """Features [n, P] of sequences [n, T, E]."""
        found: list[np.ndarray] = []
        for number, group in enumerate(self._groups):
            kernels = list(range(len(KERNELS)))
            for kernel, response in enumerate(
                _convolutions(block, group.dilation, kernels, group.channels)
            ):
                inside = _inside(number + kernel, group.dilation, response.shape[1])
                own = response[:, inside]
                scale = np.float32(1 / own.shape[1])
                found += [
                    np.count_nonzero(own > bias, axis=1) * scale for bias in group.biases[kernel]
                ]
        return np.stack(found, 1).astype(np.float32)


def _dilations(length: int, per_kernel: int) -> list[tuple[int, int]]:
    """(dilation, number of features of each kernel)."""
    most = min(per_kernel, MAX_DILATIONS)
    exponent = np.log2((length - 1) / (KERNEL - 1))
    spread = np.logspace(0, exponent, most, base=2).astype(np.int64)
    values, counts = np.unique(spread, return_counts=True)
    counts = (counts * (per_kernel / most)).astype(np.int64)
    for k in range(per_kernel - int(counts.sum())):
        counts[k % len(counts)] += 1
    return list(zip(values.tolist(), counts.tolist(), strict=True))


def _random_channels(width: int, rng: np.random.Generator) -> np.ndarray:
    """Channels of a kernel: few more often than many."""
    if width == 1:
        return np.zeros(1, np.int64)
    count = int(2 ** rng.uniform(0, np.log2(min(width, MAX_CHANNELS) + 1)))
    return np.sort(rng.choice(width, count, replace=False))


def _inside(number: int, dilation: int, size: int) -> slice:
    """The steps that count: all of a padded sequence, or those where the kernel is inside."""
    pad = (KERNEL - 1) * dilation // 2
    return slice(0, size) if number % 2 == 0 or size <= 2 * pad else slice(pad, size - pad)


def _convolutions(
    block: np.ndarray, dilation: int, kernels: Sequence[int], channels: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """The convolution [n, T] of sequences [n, T, E] with each kernel, padded with zeros.

    The sum of the weights is 0: 3 times the three values of the 2s less the sum of all nine.
    """
    count, size, width = block.shape
    pad = (KERNEL - 1) * dilation // 2
    padded = np.zeros((width, count, size + 2 * pad), np.float32)
    padded[:, :, pad : pad + size] = block.transpose(2, 0, 1)
    shifted = [padded[:, :, k * dilation : k * dilation + size] for k in range(KERNEL)]
    negative = -sum(shifted[1:], shifted[0])
    triple = [3 * own for own in shifted]
    for kernel, chosen in zip(kernels, channels, strict=True):
        a, b, c = KERNELS[kernel]
        total = np.zeros((count, size), np.float32)
        for channel in chosen:
            total += triple[a][channel]
            total += triple[b][channel]
            total += triple[c][channel]
            total += negative[channel]
        yield total
