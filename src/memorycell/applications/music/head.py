"""Distributions over the next frame."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_LOGIT = -3.0
"""Few of the keys sound."""


class FrameHead(Protocol):
    """Maps the hidden state to a distribution over frames of K keys."""

    def nats(self, hidden: Tensor, frame: Tensor) -> Tensor:
        """Negative log-likelihoods [...] of frames [..., K] in {0, 1}, given hidden [..., H]."""

    def sample(
        self,
        hidden: Tensor,
        generator: torch.Generator,
        *,
        temperature: float,
        allowed: Tensor,
        fixed: Tensor,
    ) -> Tensor:
        """A frame [K] bool of at most `voices` keys, given hidden [H].

        allowed   [K] bool: the keys to sample from
        fixed     [K] bool: keys that sound in any case
        """

    def sample_many(self, hidden: Tensor, generator: torch.Generator, count: int) -> Tensor:
        """Independent frames [count, K] bool of all keys at temperature 1, given hidden [H]."""


class Keys(nn.Module):
    """Independent keys: p(frame) = Π_k p(key_k), p(key_k sounds) = σ(W h + b)_k."""

    def __init__(self, size: int, keys: int, voices: int) -> None:
        super().__init__()
        self.keys, self.voices = keys, voices
        self.linear = nn.Linear(size, keys)
        nn.init.constant_(self.linear.bias, INITIAL_LOGIT)

    def nats(self, hidden: Tensor, frame: Tensor) -> Tensor:
        """See `FrameHead`."""
        return F.binary_cross_entropy_with_logits(
            self.linear(hidden).float(), frame.float(), reduction="none"
        ).sum(-1)

    def sample(
        self,
        hidden: Tensor,
        generator: torch.Generator,
        *,
        temperature: float,
        allowed: Tensor,
        fixed: Tensor,
    ) -> Tensor:
        """See `FrameHead`; of more than `voices` sampled keys the most likely ones."""
        p = torch.sigmoid(self.linear(hidden).float() / temperature) * allowed
        sampled = (torch.rand(len(p), generator=generator) < p) | fixed
        if int(sampled.sum()) > self.voices:
            priority = torch.where(fixed, torch.inf, torch.where(sampled, p, -torch.inf))
            best = priority.topk(self.voices).indices
            sampled = torch.zeros_like(sampled).index_fill(0, best, True)
        return sampled

    def sample_many(self, hidden: Tensor, generator: torch.Generator, count: int) -> Tensor:
        """See `FrameHead`; of more than `voices` sampled keys the most likely ones."""
        p = torch.sigmoid(self.linear(hidden).float())
        sampled = torch.rand((count, len(p)), generator=generator) < p
        likely = torch.where(sampled, p, -torch.inf).topk(min(self.voices, len(p)), -1).indices
        return sampled & torch.zeros_like(sampled).scatter(-1, likely, True)


class Voices(nn.Module):
    """Keys from the highest down, each conditioned on those above it:

        p(frame) = Π_v p(key_v | h, key_1 … key_{v-1}),   key_{v+1} < key_v, ended by "no more"

    By the chain rule this is a distribution over all frames of up to V keys. It is similar to NADE
    (Larochelle & Murray 2011; Boulanger-Lewandowski, Bengio & Vincent 2012, arXiv:1206.6392), which
    iterates over all keys instead of those that sound.
    """

    def __init__(self, size: int, keys: int, voices: int) -> None:
        super().__init__()
        self.keys, self.voices = keys, voices
        self.no_key = keys
        """The index of "no key yet" in `above` and of "no more" in the output."""
        self.inner = nn.Linear(size, size)
        self.above = nn.Embedding(keys + 1, size)
        self.place = nn.Embedding(voices + 1, size)
        self.outer = nn.Linear(size, keys + 1)

    def _log_p(self, context: Tensor, lowest: Tensor) -> Tensor:
        """Log-probabilities [..., K + 1] of the next key below `lowest` [...], or no more, given a
        context [..., H].
        """
        logits = self.outer(torch.tanh(context)).float()
        excluded = torch.arange(self.keys + 1, device=logits.device) >= lowest[..., None]
        excluded[..., self.no_key] = False
        return F.log_softmax(logits.masked_fill(excluded, -torch.inf), -1)

    def nats(self, hidden: Tensor, frame: Tensor) -> Tensor:
        """See `FrameHead`; of more than V keys the V highest."""
        voices = self._voices_of(frame)
        context = self.inner(hidden)
        total = context.new_zeros(context.shape[:-1], dtype=torch.float32)
        lowest = torch.full_like(voices[..., 0], self.keys)
        previous = torch.full_like(lowest, self.no_key)
        active = torch.ones_like(total, dtype=torch.bool)
        for voice in range(self.voices):
            context = context + self.above(previous)
            log_p = self._log_p(context + self.place.weight[voice], lowest)
            key = voices[..., voice]
            total = total - torch.where(active, log_p.gather(-1, key[..., None])[..., 0], 0.0)
            active = active & (key != self.no_key)
            lowest = torch.where(active, key, lowest)
            previous = key
        return total

    def _voices_of(self, frame: Tensor) -> Tensor:
        """The keys [..., V] int64 of frames [..., K], from the highest; then `no_key`."""
        order = torch.arange(1, self.keys + 1, device=frame.device, dtype=torch.float32)
        keys = (frame.float() * order).topk(self.voices, -1).values.long() - 1
        return torch.where(keys < 0, self.no_key, keys)

    def sample(
        self,
        hidden: Tensor,
        generator: torch.Generator,
        *,
        temperature: float,
        allowed: Tensor,
        fixed: Tensor,
    ) -> Tensor:
        """See `FrameHead`."""
        context = self.inner(hidden)
        frame, lowest, previous = fixed.clone(), self.keys, self.no_key
        pending = [int(k) for k in fixed.nonzero().flatten().flip(0)]  # fixed keys, highest first
        for voice in range(self.voices):
            context = context + self.above.weight[previous]
            log_p = self._log_p(context + self.place.weight[voice], torch.tensor(lowest))
            candidates = torch.cat([allowed, torch.ones(1, dtype=torch.bool)])
            if pending:  # the next fixed key, or one above it while there is a voice to spare
                candidates[: pending[0]] = False
                candidates[pending[0]] = True
                candidates[self.no_key] = False
                if self.voices - voice <= len(pending):
                    candidates[pending[0] + 1 :] = False
            p = (log_p / temperature).masked_fill(~candidates, -torch.inf).softmax(-1)
            key = int(torch.multinomial(p, 1, generator=generator))
            if key == self.no_key:
                break
            if pending and key == pending[0]:
                pending.pop(0)
            frame[key] = True
            lowest = previous = key
        return frame

    def sample_many(self, hidden: Tensor, generator: torch.Generator, count: int) -> Tensor:
        """See `FrameHead`."""
        context = self.inner(hidden).expand(count, -1)
        frames = torch.zeros((count, self.keys + 1), dtype=torch.bool)
        lowest = torch.full((count,), self.keys)
        previous = torch.full((count,), self.no_key)
        active = torch.ones(count, dtype=torch.bool)
        for voice in range(self.voices):
            context = context + self.above(previous)
            log_p = self._log_p(context + self.place.weight[voice], lowest)
            previous = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
            previous = torch.where(active, previous, self.no_key)
            active = previous != self.no_key
            lowest = torch.where(active, previous, lowest)
            frames[torch.arange(count), previous] = True
        return frames[:, : self.keys]
