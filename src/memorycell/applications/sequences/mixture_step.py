"""The random convolutions of a sequence model, one step at a time in numpy."""

from __future__ import annotations

import numpy as np
import torch

from memorycell.applications.sequences.mixture import (
    KERNELS,
    MAX_INPUT,
    SCALE,
    TAPS,
    RandomConvolutions,
    kernel_weights,
)

TINY = np.finfo(np.float32).tiny


class MixtureStep:
    """`RandomConvolutions.steps` for one step of several sessions. The convolutions are exact; the
    answers for a session do not depend on the others.

    The kernels of a dilation that leave out rows and those that do not have each one number of
    rows by which their counts are divided. So the counts are multiplied by the weights of the
    classifier first, separately for the two, and the 2 · D · C sums are divided.
    """

    def __init__(self, random: RandomConvolutions) -> None:
        self.state_size = random.state_size
        self._past, self._patch, self._row_size = random.past, random.patch, random.row_size
        self._count, self._per_kernel = len(random.dilations), random.biases.shape[2]
        weights = kernel_weights()[None, :, :, None] * random.channels[:, :, None]  # [D, 84, 9, R]
        self._weights = weights.flatten(2).transpose(1, 2).contiguous().numpy()
        dilations = np.array(random.dilations)
        self._reach = (TAPS - 1) * dilations
        # The inputs that a kernel sees at each row of a step: [D, patch, 9 · R].
        back = np.arange(TAPS - 1, -1, -1) * dilations[:, None, None]
        seen = self._past + np.arange(self._patch)[:, None] - back
        inputs = seen[..., None] * self._row_size + np.arange(self._row_size)
        self._seen = inputs.reshape(self._count, self._patch, -1)
        biases = random.biases.numpy()[:, None]
        self._biases = np.repeat(biases, self._patch, 1).ravel()  # [D · patch · 84 · N]
        self._prior = np.float32(random.prior.item())
        skips = [random.skips(number) for number in range(self._count)]
        self._skips = torch.stack(skips).numpy()
        # Of the kernels that leave out rows, and of the others: [D, 84 · N, 2, C].
        weight = random.weight.T.reshape(self._count, KERNELS, self._per_kernel, 1, -1)
        skip = torch.stack([torch.stack(skips), ~torch.stack(skips)], -1)[:, :, None, :, None]
        split = (weight * skip).flatten(1, 2)
        expected = random.expected.flatten(1)[:, :, None, None]
        self._head = split.flatten(2).contiguous().numpy()
        self._usual = (split * expected).sum(1).numpy()  # [D, 2, C]
        self._bias = random.bias.numpy().copy()
        self._share = np.float32(random.share.item())

    def __call__(self, before: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state before the step [B, W], the step's inputs [B, I] -> (scores [B, C], the state
        after it [B, W]).
        """
        after = np.empty(before.shape, np.float32)
        scores = [self.one(before[k], x[k], after[k]) for k in range(len(x))]
        return np.stack(scores), after

    def one(self, before: np.ndarray, x: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The state before the step [W], the step's inputs [I] -> scores [C]; the state after it is
        written to `after` [W], which may be `before`.
        """
        size, time = self._past * self._row_size, int(before[-1])
        own = x[: self._patch * self._row_size]
        own = np.rint(np.clip(own, -MAX_INPUT, MAX_INPUT) * np.float32(SCALE))
        rows = np.concatenate((before[:size], own))
        after[:size] = rows[len(own) :]
        seen = rows.take(self._seen)
        above = np.repeat((seen @ self._weights).ravel(), self._per_kernel) > self._biases
        kept = after[size:-1]
        if self._patch > 1:
            shape = (self._count, self._patch, -1)
            np.add(before[size:-1], above.reshape(shape).sum(1).ravel(), out=kept)
        else:
            np.add(before[size:-1], above, out=kept)
        end = time + self._patch
        reached = self._reach < end
        if reached.any():
            first = reached & (time < self._reach + 1)  # the kernels leave out rows from now on
            if first.any():
                self._recount(kept, above, first, time)
        after[-1] = end
        rows_counted = np.full((self._count, 2, 1), end + self._prior)
        rows_counted[:, 0, 0] -= reached * self._reach
        sums = (kept.reshape(self._count, 1, -1) @ self._head).reshape(self._usual.shape)
        scores: np.ndarray = ((sums + self._usual) / rows_counted).sum((0, 1)) + self._bias
        return scores.astype(np.float32)

    def _recount(self, kept: np.ndarray, above: np.ndarray, first: np.ndarray, time: int) -> None:
        """Count only the rows of this step at which a kernel is inside the sequence, for the
        dilations `first` [D] and the kernels that leave out rows.
        """
        shape = (self._count, self._patch, KERNELS, self._per_kernel)
        inside = time + np.arange(self._patch) >= self._reach[first, None]
        again = (above.reshape(shape)[first] & inside[:, :, None, None]).sum(1)
        counts = kept.reshape(self._count, KERNELS, self._per_kernel)
        counts[first] = np.where(self._skips[first, :, None], again, counts[first])

    def mixed(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """See `RandomConvolutions.mixed`."""
        one = np.float32(1)
        p = (one - self._share) * _softmax(y) + self._share * _softmax(scores)
        return np.log(np.maximum(p, TINY))


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
