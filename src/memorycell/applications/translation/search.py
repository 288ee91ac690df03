"""Beam search for the most likely translation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.translation.model import Translator

UNKNOWN_COST = 1.0
"""What an unknown word costs more, in nats: it will be copied from the source, which is often
wrong.
"""
BEGIN_END = 1
"""The token before the first and after the last; `data.text.END`."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation.

    tokens      [T], without the one that ends it
    score       log-probability over length^alpha (Wu et al. 2016, arXiv:1609.08144, their equation
                14, simplified)
    log_p       mean log-probability of a token
    attention   [T, S]: what each looked at
    """

    tokens: np.ndarray
    score: float
    log_p: float
    attention: np.ndarray


@torch.inference_mode()
def beam_search(
    model: Translator,
    source: Tensor,
    lengths: Tensor,
    *,
    width: int = 5,
    alpha: float = 1.0,
    once: tuple[int, ...] = (),
    owed: Tensor | None = None,
    longest: float = 2.0,
) -> list[Hypothesis]:
    """The best translation of every source [B, S] int64 with lengths [B].

    once      tokens that must be in a translation exactly as often as `owed` [B, len(once)] says:
              what is held as it is
    longest   a translation may be this many times as long as its source, and 8 tokens more
    """
    model.eval()
    batch = len(source)
    read, state = model.read(source, lengths)
    rows = torch.arange(batch).repeat_interleave(width)
    read, state = read.select(rows), state.select(rows)
    held = torch.tensor(once, dtype=torch.int64)
    owed = torch.zeros(batch, len(once), dtype=torch.int64) if owed is None else owed
    limit = (longest * lengths).long() + 8 + owed.sum(1)
    owed = owed[rows].view(batch, width, len(once))
    scores = torch.full((batch, width), -torch.inf)
    scores[:, 0] = 0.0
    tokens = torch.full((batch * width,), BEGIN_END)
    trail: list[
        tuple[Tensor, Tensor, Tensor]
    ] = []  # of every step: tokens, whose successors they are, what they looked at
    finished: list[list[tuple[float, float, int, int]]] = [
        [] for _ in range(batch)
    ]  # (score, log_p, step, hypothesis)
    done = [False] * batch
    for step in range(int(limit.max()) + 1):
        out, state, attention = model.write(tokens[:, None], read, state)
        log_p = out[:, 0].float().log_softmax(-1).view(batch, width, -1)
        log_p[..., 0] -= UNKNOWN_COST
        log_p = _allowed(log_p, owed, held, (limit - step)[:, None])
        vocabulary = log_p.shape[-1]
        best, place = (
            (scores[..., None] + log_p).flatten(1).topk(min(2 * width, width * vocabulary), dim=1)
        )
        parent, token = place // vocabulary, place % vocabulary
        ends = (token == BEGIN_END) & best.isfinite()
        for row, column in ends.nonzero().tolist():
            if (
                column < width and not done[row]
            ):  # of the second half, those that go on are wanted, not those that end
                total = float(best[row, column])
                mean = total / (step + 1)
                finished[row].append(
                    (total / (step + 1) ** alpha, mean, step, int(parent[row, column]))
                )
        done = [len(f) >= width or step >= int(limit[k]) for k, f in enumerate(finished)]
        if all(done):
            break
        # The best that go on; those that end are put behind all others.
        going = torch.where(ends, -torch.inf, best).topk(width, dim=1)
        parent, token, scores = (
            parent.gather(1, going.indices),
            token.gather(1, going.indices),
            going.values,
        )
        trail.append((token, parent, attention[:, 0].view(batch, width, -1)))
        where = (parent + torch.arange(batch)[:, None] * width).flatten()
        state, tokens = state.select(where), token.flatten()
        owed = owed.view(batch * width, len(once))[where].view(batch, width, len(once))
        owed = owed - (token[..., None] == held).long()
    return [_traced(trail, *max(finished[row]), row, int(lengths[row])) for row in range(batch)]


def _allowed(log_p: Tensor, owed: Tensor, held: Tensor, left: Tensor) -> Tensor:
    """Log-probabilities [B, K, V] without what must not come: what is not owed, the end while
    something is; and, when no more than `left` [B, 1] tokens may come, everything but what is owed
    or, where nothing is, the end.
    """
    some = (owed > 0).any(-1)
    must = owed.sum(-1) >= left
    own = log_p[..., held].masked_fill(owed <= 0, -torch.inf)
    end = log_p[..., BEGIN_END].masked_fill(some, -torch.inf)
    log_p = log_p.masked_fill(must[..., None], -torch.inf)
    log_p[..., held] = own
    log_p[..., BEGIN_END] = end
    return log_p


def _traced(
    trail: list[tuple[Tensor, Tensor, Tensor]],
    score: float,
    mean: float,
    step: int,
    at: int,
    row: int,
    length: int,
) -> Hypothesis:
    """A hypothesis that ended, walked back to its beginning."""
    tokens, attention = [], []
    for token, parent, weights in reversed(trail[:step]):
        tokens.append(int(token[row, at]))
        at = int(parent[row, at])
        attention.append(weights[row, at, :length].numpy())
    empty = np.zeros((0, length), np.float32)
    return Hypothesis(
        np.array(tokens[::-1], np.int64),
        score,
        mean,
        np.array(attention[::-1]) if attention else empty,
    )
