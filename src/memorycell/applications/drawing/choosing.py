"""Choose among candidates for a drawing: how surely does the model itself read what was asked?

The model gives the likelihood p(drawing | signs) of any drawing. By Bayes' rule with equal priors,
the probability that a drawing shows the signs that were asked, and not others, is

    p(signs | drawing) = p(drawing | signs) / Σ_other p(drawing | other),

where the others differ in one sign. No second model takes part. That probability does not show
that a drawing is well formed: a scribble may resemble the asked signs more than any other. So the
less likely half of the candidates is left out first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.drawing.model import DrawingBatch, Writer
from memorycell.models.batches import by_length, padded

MAX_ALTERNATIVES = 300
"""Other signs that the first candidates are compared with."""
MAX_RIVALS = 12
"""Of them, per first candidate, those that the others are compared with."""
FIRST_CANDIDATES = 2
BUDGET = 12_000
"""Moves per batch."""


def best_candidate(model: Writer, candidates: Sequence[Tensor], signs: Sequence[int]) -> Tensor:
    """The candidate, moves [T, 3], that the model reads most surely as the signs, of the half with
    the highest likelihood per move.
    """
    if len(candidates) == 1:
        return candidates[0]
    asked = np.array([list(signs)], np.int64)
    per_move = _log_likelihoods(model, candidates, asked)[:, 0] / [len(c) for c in candidates]
    likely = np.sort(np.argsort(-per_move, kind="stable")[: -(-len(candidates) // 2)])
    kept = [candidates[k] for k in likely]
    return kept[int(_log_posteriors(model, kept, signs).argmax())]


def _log_posteriors(
    model: Writer, candidates: Sequence[Tensor], signs: Sequence[int]
) -> np.ndarray:
    """The log-probability [C] that each candidate, moves [T, 3], shows the signs."""
    others = _alternatives(model.config.signs, signs)
    texts = np.array([list(signs), *others], np.int64)
    first = _log_likelihoods(model, candidates[:FIRST_CANDIDATES], texts)
    rivals = np.unique(np.argsort(-first[:, 1:], axis=1)[:, :MAX_RIVALS]) + 1
    texts = texts[[0, *rivals.tolist()]]
    log_p = _log_likelihoods(model, candidates, texts)
    highest = log_p.max(1, keepdims=True)
    total = highest[:, 0] + np.log(np.exp(log_p - highest).sum(1))
    result: np.ndarray = log_p[:, 0] - total
    return result


def _alternatives(count: int, signs: Sequence[int]) -> list[list[int]]:
    """Signs that differ from the given ones in one place, evenly chosen where there are many."""
    changed = [
        [*signs[:place], sign, *signs[place + 1 :]]
        for place in range(len(signs))
        for sign in range(count)
        if sign != signs[place]
    ]
    if len(changed) > MAX_ALTERNATIVES:
        at = np.linspace(0, len(changed) - 1, MAX_ALTERNATIVES).round().astype(int)
        changed = [changed[k] for k in at]
    return changed


@torch.inference_mode()
def _log_likelihoods(model: Writer, drawings: Sequence[Tensor], texts: np.ndarray) -> np.ndarray:
    """[C, N] of every drawing, moves [T, 3], given every row of texts [N, U]."""
    model.eval()
    pairs = [(c, n) for c in range(len(drawings)) for n in range(len(texts))]
    lengths = np.array([len(drawings[c]) for c, _ in pairs])
    result = np.zeros(len(pairs))
    for rows in by_length(lengths, BUDGET, 0):
        moves, own = padded([drawings[pairs[k][0]].numpy() for k in rows])
        signs = torch.from_numpy(texts[[pairs[k][1] for k in rows]])
        move, pen = model.nats(DrawingBatch(moves, own, signs))
        result[rows] = -(move + pen).sum(1).numpy()
    return result.reshape(len(drawings), len(texts))
