"""The random convolutions of a sequence model, one step at a time in numpy."""

from __future__ import annotations

import numpy as np
import torch

from memorycell.applications.sequences.mixture import (
    MAX_INPUT,
    SCALE,
    TAPS,
    RandomConvolutions,
    kernel_weights,
)
from memorycell.ops.step import LinearStep

TINY = np.finfo(np.float32).tiny


class MixtureStep:
    """`RandomConvolutions.steps` for one step of several sessions. The convolutions are exact; the
    answers for a session do not depend on the others.
    """

    def __init__(self, random: RandomConvolutions) -> None:
        self.state_size = random.state_size
        self._past, self._patch, self._row_size = random.past, random.patch, random.row_size
        self._features, self._count = random.features, len(random.dilations)
        weights = kernel_weights()[None, :, :, None] * random.channels[:, :, None]  # [D, 84, 9, R]
        self._weights = weights.flatten(2).transpose(1, 2).contiguous().numpy()
        dilations = np.array(random.dilations)
        self._reach = (TAPS - 1) * dilations
        # The rows that a kernel sees at each row of a step: [D, patch, 9].
        back = np.arange(TAPS - 1, -1, -1) * dilations[:, None, None]
        self._seen = self._past + np.arange(self._patch)[:, None] - back
        self._biases = random.biases.numpy()[:, None].copy()  # [D, 1, 84, N]
        self._expected, self._prior = random.expected.numpy(), np.float32(random.prior.item())
        skips = [random.skips(number) for number in range(len(dilations))]
        self._skips = torch.stack(skips).numpy()
        self._head = LinearStep(random.weight, random.bias)
        self._share = np.float32(random.share.item())

    def __call__(self, before: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state before the step [B, W], the step's inputs [B, I] -> (scores [B, C], the state
        after it [B, W]).
        """
        count, patch, size = len(x), self._patch, self._past * self._row_size
        after = np.empty(before.shape, np.float32)
        own = x[:, : patch * self._row_size]
        own = np.rint(np.clip(own, -MAX_INPUT, MAX_INPUT) * np.float32(SCALE))
        rows = np.concatenate([before[:, :size], own], 1)
        after[:, :size] = rows[:, own.shape[1] :]
        after[:, -1] = before[:, -1] + patch
        kept = after[:, size:-1].reshape(count, self._count, -1)
        features = np.empty_like(kept)
        carried = before[:, size:-1].reshape(kept.shape)
        rows = rows.reshape(count, -1, self._row_size)
        for k in range(count):
            self._count_rows(rows[k], carried[k], int(before[k, -1]), kept[k], features[k])
        return self._head(features.reshape(count, -1)), after

    def _count_rows(
        self, rows: np.ndarray, carried: np.ndarray, time: int, kept: np.ndarray, out: np.ndarray
    ) -> None:
        """The counts of one session [D, 84 · N] before and after a step, and its features."""
        patch = self._patch
        seen = rows.take(self._seen, 0).reshape(self._count, patch, -1)
        above = (seen @ self._weights)[..., None] > self._biases  # [D, patch, 84, N]
        shape = above.shape[:1] + above.shape[2:]
        total = np.add(carried.reshape(shape), above.sum(1) if patch > 1 else above[:, 0])
        reached = time + patch > self._reach
        rows_counted = np.full(self._skips.shape, np.float32(time + patch))
        if reached.any():
            use = self._skips & reached[:, None]
            first = reached & (time < self._reach + 1)  # counted from this step on
            if first.any():
                inside = time + np.arange(patch) >= self._reach[first, None]
                recounted = (above[first] & inside[:, :, None, None]).sum(1)
                total[first] = np.where(use[first, :, None], recounted, total[first])
            rows_counted -= use * self._reach.astype(np.float32)[:, None]
        kept[...] = total.reshape(kept.shape)
        rows_counted += self._prior
        out[...] = ((total + self._expected) / rows_counted[..., None]).reshape(kept.shape)

    def mixed(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """See `RandomConvolutions.mixed`."""
        one = np.float32(1)
        p = (one - self._share) * _softmax(y) + self._share * _softmax(scores)
        return np.log(np.maximum(p, TINY))


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
