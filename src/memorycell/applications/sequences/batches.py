"""Training batches: augmented sequences of similar length, or windows of long ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import torch

from memorycell.applications.sequences.augmentation import Augmentation, altered, augmented
from memorycell.applications.sequences.codec import SequenceCodec
from memorycell.applications.sequences.model import SequenceBatch
from memorycell.models.batches import padded

MIN_SEQUENCES_PER_EPOCH = 256
"""Fewer are read several times per epoch."""
MIN_WINDOWS_PER_EPOCH = 128
MAX_BATCH_STEPS = 32_768
"""Steps per batch with their padding; longer sequences make smaller batches."""
LONG, MIN_LONG_ROWS = 16, 4096
"""A sequence of more rows, and of more than this many times those of a typical one, is trained on
by a random part: one of a million rows among short ones would take all of the time.
"""
SORTED_BATCHES = 8
"""Batches' worth of sequences that are sorted by length together."""


class TrainingBatches:
    """Batches of the training part.

    rows     inputs [T_i, R] of each sequence, and `static` [S] of each
    targets  as the model learns them: [N] or [N, K], or N arrays [T_i] or [T_i, K]
    weight   [N, members], see `SequenceBatch`
    """

    def __init__(
        self,
        codec: SequenceCodec,
        rows: Sequence[np.ndarray],
        static: Sequence[np.ndarray],
        targets: np.ndarray | Sequence[np.ndarray],
        weight: np.ndarray,
        *,
        batch: int,
        window: int,
        warm_up: int,
        how: Augmentation,
    ) -> None:
        self._codec, self._rows, self._static = codec, rows, static
        self._targets, self._weight, self._how = targets, weight.astype(np.float32), how
        self._batch, self._window, self._warm_up = batch, window, warm_up
        self._lengths = np.fromiter((len(own) for own in rows), np.int64, len(rows))

    @cached_property
    def _longest(self) -> int:
        """Rows of a sequence that are trained on together."""
        return max(MIN_LONG_ROWS, LONG * int(np.median(self._lengths)))

    def extended(
        self, more: Callable[[str, np.ndarray | Sequence[np.ndarray]], Any], lengths: np.ndarray
    ) -> TrainingBatches:
        """Batches of further sequences too, which all members learn from.

        more      joins the "rows", "static" or "targets" of these sequences with those of the
                  further ones
        lengths   of the further ones [N]
        """
        other = copy(self)
        other._rows, other._static = more("rows", self._rows), more("static", self._static)
        other._targets = more("targets", self._targets)
        ones = np.ones((len(lengths), self._weight.shape[1]), np.float32)
        other._weight = np.concatenate([self._weight, ones])
        other._lengths = np.concatenate([self._lengths, lengths])
        other.__dict__.pop("_longest", None)
        return other

    def epoch(self, seed: int) -> Iterator[SequenceBatch]:
        """One pass over the training sequences, or several over few."""
        rng = np.random.default_rng(seed)
        if self._codec.every_step:
            yield from self._windows(rng)
            return
        count = len(self._rows)
        passes = max(1, -(-MIN_SEQUENCES_PER_EPOCH // count))
        order = np.concatenate([rng.permutation(count) for _ in range(passes)])
        pieces = [
            self._batches_of(order[begin : begin + SORTED_BATCHES * self._batch], rng)
            for begin in range(0, len(order), SORTED_BATCHES * self._batch)
        ]
        for piece in pieces:
            yield from piece

    def _batches_of(self, indices: np.ndarray, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        """Batches of these sequences, of similar length together, in random order."""
        steps = [self._steps(int(k), rng) for k in indices]
        order = np.argsort([len(x) for x in steps], kind="stable")
        chosen, begin = [], 0
        while begin < len(order):
            end = min(begin + self._batch, len(order))
            while end - begin > 1 and len(steps[order[end - 1]]) * (end - begin) > MAX_BATCH_STEPS:
                end -= 1
            chosen.append(order[begin:end])
            begin = end
        for k in rng.permutation(len(chosen)):
            own = chosen[k]
            x, lengths = padded([steps[i] for i in own])
            which = indices[own]
            target = torch.from_numpy(np.stack([self._targets[i] for i in which]))
            yield SequenceBatch(x, lengths, target, torch.from_numpy(self._weight[which]))

    def _steps(self, k: int, rng: np.random.Generator) -> np.ndarray:
        """The augmented inputs of a sequence; patches begin at a random row."""
        codec, rows = self._codec, self._rows[k]
        if len(rows) > self._longest:
            start = int(rng.integers(len(rows) - self._longest + 1))
            rows = rows[start : start + self._longest]
        rows = augmented(rows, codec.number_inputs, self._how, rng)
        if codec.patch > 1 and self._how != Augmentation() and len(rows) > 2 * codec.patch:
            rows = rows[int(rng.integers(codec.patch)) :]
        return codec.steps(rows, self._static[k])

    def _windows(self, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        """Batches of windows, as many as the training steps fill. The model begins a window in the
        middle of a sequence without what was before, so its first steps have no loss.
        """
        lengths = self._lengths
        windows = np.maximum(1, -(-lengths // self._window))
        passes = max(1, -(-MIN_WINDOWS_PER_EPOCH // int(windows.sum())))
        which = rng.permutation(np.repeat(np.arange(len(lengths)), windows * passes))
        size = max(1, min(self._batch, MAX_BATCH_STEPS // self._window))
        for begin in range(0, len(which), size):
            yield self._window_batch(which[begin : begin + size], rng)

    def _window_batch(self, which: np.ndarray, rng: np.random.Generator) -> SequenceBatch:
        codec, inputs, targets = self._codec, [], []
        for k in which:
            rows, target = self._rows[k], self._targets[k]
            start = int(rng.integers(max(1, len(rows) - self._window + 1)))
            own = slice(start, start + self._window)
            rows = altered(rows[own], codec.number_inputs, self._how, rng)
            inputs.append(codec.steps(rows, self._static[k]))
            target = np.array(target[own])
            if start:
                target[: min(self._warm_up, len(target) // 2)] = self._unknown
            targets.append(target)
        x, lengths = padded(inputs)
        target, _ = padded(targets, self._unknown)
        return SequenceBatch(x, lengths, target, torch.from_numpy(self._weight[which]))

    @property
    def _unknown(self) -> float:
        return np.nan if self._codec.numeric else -1
