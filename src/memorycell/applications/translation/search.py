"""Beam search for translations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.translation.model import Translator
from memorycell.errors import UserError
from memorycell.language.codec import END_ID, UNKNOWN_ID

MAX_BEAM, MAX_ALPHA = 100, 5.0
UNKNOWN_PENALTY = 1.0
"""Nats subtracted for the unknown token, which is replaced by a source word, often a wrong one."""
MIN_LENGTH_LIMIT = 8
MIN_COVERED = 0.05
"""Attention that a source token counts as having had at least."""


def check_search(beam: int, alpha: float, coverage: float = 0.0) -> None:
    """Raises ValueError for an option of `beam_search` that is out of its range."""
    if not 1 <= beam <= MAX_BEAM:
        raise ValueError(f"beam={beam}: expected 1 to {MAX_BEAM}")
    if not 0 <= alpha <= MAX_ALPHA:
        raise ValueError(f"alpha={alpha}: expected 0 to {MAX_ALPHA}")
    if not 0 <= coverage <= MAX_ALPHA:
        raise ValueError(f"coverage={coverage}: expected 0 to {MAX_ALPHA}")


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation.

    tokens      [T], without `END_ID`
    score       log-probability / length^alpha (simplified from equation 14 of Wu et al. 2016,
                arXiv:1609.08144), plus the coverage
    log_p       mean log-probability per token
    attention   [T, S]
    """

    tokens: np.ndarray
    score: float
    log_p: float
    attention: np.ndarray


class _Step(NamedTuple):
    """What a step of the search chose for the K beams of each of B sources.

    token       [B, K] token ids
    parent      [B, K] the beams of the step before that they extend
    attention   [B, K, S] of the step before
    """

    token: Tensor
    parent: Tensor
    attention: Tensor


class _Finished(NamedTuple):
    """A finished hypothesis: the beam that ended at a step; ordered by score."""

    score: float
    log_p: float
    step: int
    beam: int


@torch.inference_mode()
def beam_search(
    model: Translator,
    source: Tensor,
    lengths: Tensor,
    *,
    width: int = 5,
    alpha: float = 1.0,
    coverage: float = 0.0,
    copied: tuple[int, ...] = (),
    required: Tensor | None = None,
    max_ratio: float = 2.0,
) -> list[Hypothesis]:
    """The best translation of each source [B, S] int64 with lengths [B].

    width       number of beams
    alpha       length penalty: higher values favour longer translations
    coverage    weight of Σ_s log(min(Σ_t attention, 1)), which is added to the scores of finished
                translations: those lose that left parts of the source unread (equation 14 of Wu et
                al. 2016)
    copied      token ids that a translation has exactly as often as `required` [B, len(copied)]
    max_ratio   maximum length of a translation relative to its source, plus 8 tokens and the
                required ones
    """
    model.eval()
    batch = len(source)
    encoded, state = model.encode(source, lengths)
    rows = torch.arange(batch).repeat_interleave(width)
    encoded, state = encoded.select(rows), state.select(rows)
    copied_ids = torch.tensor(copied, dtype=torch.int64)
    if required is None:
        required = torch.zeros(batch, len(copied), dtype=torch.int64)
    max_length = (max_ratio * lengths).long() + MIN_LENGTH_LIMIT + required.sum(1)
    required = required[rows].view(batch, width, len(copied))
    scores = torch.full((batch, width), -torch.inf)
    scores[:, 0] = 0.0
    covered = torch.zeros(batch, width, source.shape[1])
    outside = torch.arange(source.shape[1]) >= lengths[:, None]
    tokens = torch.full((batch * width,), END_ID)
    steps: list[_Step] = []
    finished: list[list[_Finished]] = [[] for _ in range(batch)]
    done = [False] * batch
    for step in range(int(max_length.max()) + 1):
        logits, state, attention = model.decode(tokens[:, None], encoded, state)
        attended = attention[:, 0].view(batch, width, -1)
        covered = covered + attended
        log_p = logits[:, 0].float().log_softmax(-1).view(batch, width, -1)
        log_p[..., UNKNOWN_ID] -= UNKNOWN_PENALTY
        log_p = _constrained(log_p, required, copied_ids, (max_length - step)[:, None])
        vocabulary = log_p.shape[-1]
        count = min(2 * width, width * vocabulary)
        best, index = (scores[..., None] + log_p).flatten(1).topk(count, dim=1)
        parent, token = index // vocabulary, index % vocabulary
        ends = (token == END_ID) & best.isfinite()
        for row, column in ends.nonzero().tolist():
            if column < width and not done[row]:  # the other half only replaces ended beams
                total = float(best[row, column])
                beam = int(parent[row, column])
                score = total / (step + 1) ** alpha
                if coverage:
                    score += coverage * _coverage(covered[row, beam], outside[row])
                finished[row].append(_Finished(score, total / (step + 1), step, beam))
        done = [len(f) >= width or step >= int(max_length[k]) for k, f in enumerate(finished)]
        if all(done):
            break
        unfinished = torch.where(ends, -torch.inf, best).topk(width, dim=1)
        parent, token = parent.gather(1, unfinished.indices), token.gather(1, unfinished.indices)
        scores = unfinished.values
        steps.append(_Step(token, parent, attended))
        rows = (parent + torch.arange(batch)[:, None] * width).flatten()
        state, tokens = state.select(rows), token.flatten()
        covered = covered.view(batch * width, -1)[rows].view(batch, width, -1)
        required = required.view(batch * width, len(copied))[rows].view(batch, width, len(copied))
        required = required - (token[..., None] == copied_ids).long()
    if not all(finished):
        raise UserError("the translator's outputs are not finite; train it again")
    return [_hypothesis(steps, max(finished[row]), row, int(lengths[row])) for row in range(batch)]


def _coverage(covered: Tensor, outside: Tensor) -> float:
    """Σ_s log(min(covered, 1)) over the source, at least log(`MIN_COVERED`) each."""
    logs = covered.clamp(MIN_COVERED, 1).log()
    return float(logs.masked_fill(outside, 0).sum())


def _constrained(log_p: Tensor, required: Tensor, copied: Tensor, left: Tensor) -> Tensor:
    """Log-probabilities [B, K, V] with -inf for tokens that would violate the required counts
    [B, K, C] of the copied token ids [C] within the `left` [B, 1] tokens.

    A copied token is allowed while it is required, the end when none is. When only the required
    tokens still fit, nothing else is allowed; when none is required, only the end.
    """
    some_required = (required > 0).any(-1)
    must_copy = required.sum(-1) >= left
    copied_log_p = log_p[..., copied].masked_fill(required <= 0, -torch.inf)
    end_log_p = log_p[..., END_ID].masked_fill(some_required, -torch.inf)
    log_p = log_p.masked_fill(must_copy[..., None], -torch.inf)
    log_p[..., copied] = copied_log_p
    log_p[..., END_ID] = end_log_p
    return log_p


def _hypothesis(steps: list[_Step], finished: _Finished, row: int, length: int) -> Hypothesis:
    """Follow the parents of a finished hypothesis back to the start."""
    tokens, attention = [], []
    beam = finished.beam
    for step in reversed(steps[: finished.step]):
        tokens.append(int(step.token[row, beam]))
        beam = int(step.parent[row, beam])
        attention.append(step.attention[row, beam, :length].numpy())
    empty = np.zeros((0, length), np.float32)
    return Hypothesis(
        np.array(tokens[::-1], np.int64),
        finished.score,
        finished.log_p,
        np.array(attention[::-1]) if attention else empty,
    )
