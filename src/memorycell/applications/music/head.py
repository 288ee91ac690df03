"""The keys that sound next, each for itself or one after another."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Keys(nn.Module):
    """Which keys sound next, each for itself: p(frame) = Π_k σ(W h + b)_k."""

    def __init__(self, size: int, keys: int, voices: int) -> None:
        super().__init__()
        self.keys, self.voices = keys, voices
        self.linear = nn.Linear(size, keys)
        nn.init.constant_(self.linear.bias, -3.0)  # few of the keys sound

    def nats(self, hidden: Tensor, frame: Tensor) -> Tensor:
        """Of frames [..., keys] in 0 and 1, given hidden [..., H]: [...]."""
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
        """A frame [keys] bool, given hidden [H]: of the keys that are `allowed` [keys] bool; those
        that are `fixed` sound.

        At most `voices` keys, the likeliest of those drawn.
        """
        p = torch.sigmoid(self.linear(hidden).float() / temperature) * allowed
        drawn = (torch.rand(len(p), generator=generator) < p) | fixed
        if int(drawn.sum()) > self.voices:
            best = (
                torch.where(fixed, torch.inf, torch.where(drawn, p, -torch.inf))
                .topk(self.voices)
                .indices
            )
            drawn = torch.zeros_like(drawn).index_fill(0, best, True)
        return drawn


class Voices(nn.Module):
    """Which keys sound next, from the highest down, each knowing those above it:

        p(frame) = Π_v p(key_v | h, key_1 … key_{v-1}),   key_{v+1} < key_v, ended by "no more"

    by the chain rule a distribution over all frames of up to V keys; the fashion of NADE
    (Larochelle & Murray 2011; Boulanger-Lewandowski, Bengio & Vincent 2012, arXiv:1206.6392), which
    goes over all keys instead of those that sound.
    """

    def __init__(self, size: int, keys: int, voices: int) -> None:
        super().__init__()
        self.keys, self.voices = keys, voices
        self.inner = nn.Linear(size, size)
        self.above = nn.Embedding(
            keys + 1, size
        )  # of every key that was said; the last row is "nothing yet"
        self.place = nn.Embedding(voices + 1, size)
        self.outer = nn.Linear(size, keys + 1)  # the last is "no more"

    def _log_p(self, begun: Tensor, lowest: Tensor) -> Tensor:
        """Scores of the next key [..., keys + 1] where `begun` [..., H] is what is known and keys
        lie below `lowest` [...].
        """
        scores = self.outer(torch.tanh(begun)).float()
        barred = torch.arange(self.keys + 1, device=scores.device) >= lowest[..., None]
        barred[..., -1] = False
        return F.log_softmax(scores.masked_fill(barred, -torch.inf), -1)

    def nats(self, hidden: Tensor, frame: Tensor) -> Tensor:
        """Of frames [..., keys] in 0 and 1, given hidden [..., H]: [...]; of more than V keys, of
        the V highest.
        """
        order = torch.arange(1, self.keys + 1, device=frame.device, dtype=torch.float32)
        ranked = (frame.float() * order).topk(
            self.voices, -1
        ).values.long() - 1  # the highest first, -1 where none is left
        said = torch.where(ranked < 0, self.keys, ranked)
        known = self.inner(hidden)
        total = known.new_zeros(known.shape[:-1], dtype=torch.float32)
        lowest = torch.full_like(said[..., 0], self.keys)
        going = torch.ones_like(total, dtype=torch.bool)
        for voice in range(self.voices + 1):
            before = torch.full_like(lowest, self.keys) if voice == 0 else said[..., voice - 1]
            known = known + self.above(before)
            if voice == self.voices:
                break  # all voices are taken: nothing is left to be said
            log_p = self._log_p(known + self.place.weight[voice], lowest)
            key = said[..., voice]
            total = total - torch.where(going, log_p.gather(-1, key[..., None])[..., 0], 0.0)
            going = going & (key < self.keys)
            lowest = torch.where(going, key, lowest)
        return total

    def sample(
        self,
        hidden: Tensor,
        generator: torch.Generator,
        *,
        temperature: float,
        allowed: Tensor,
        fixed: Tensor,
    ) -> Tensor:
        """A frame [keys] bool, given hidden [H]: of the keys that are `allowed` [keys] bool; those
        that are `fixed` sound.
        """
        known = self.inner(hidden)
        frame, lowest, before = fixed.clone(), self.keys, self.keys
        waiting = [int(k) for k in fixed.nonzero().flatten().flip(0)]
        for voice in range(self.voices):
            known = known + self.above.weight[before]
            free = self.voices - voice > len(waiting)  # or the voices left are those that are fixed
            scores = (
                self._log_p(known + self.place.weight[voice], torch.tensor(lowest)) / temperature
            )
            may = torch.cat([allowed, torch.ones(1, dtype=torch.bool)])
            if waiting:
                may[-1] = False
                may[: waiting[0]] = False  # what is fixed is not passed over
                may[waiting[0]] = True
                if not free:
                    may[waiting[0] + 1 :] = False
            p = scores.masked_fill(~may, -torch.inf).softmax(-1)
            key = int(torch.multinomial(p, 1, generator=generator))
            if key == self.keys:
                break
            if waiting and key == waiting[0]:
                waiting.pop(0)
            frame[key] = True
            lowest = before = key
        return frame
