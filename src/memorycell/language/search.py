"""From distributions to sequences: one token sampled, beams from a live state, beam search over
whole translations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memorycell.streaming.stepping import Stepper
from memorycell.streaming.stream import Stream


def sample(
    log_p: np.ndarray,
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> int:
    """One token from log-probabilities [V].

    temperature   divides them: below 1 the likely ones get likelier; 0 takes the likeliest
    top_k         only so many of the likeliest; 0: all
    top_p         only the likeliest that together have at least this probability (Holtzman et al.
                  2020, arXiv:1904.09751)
    """
    if temperature == 0:
        return int(log_p.argmax())
    scaled = log_p.astype(np.float64) / temperature
    order = np.argsort(-scaled, kind="stable")
    p = np.exp(scaled[order] - scaled[order[0]])
    p /= p.sum()
    keep = len(p) if not top_k else min(top_k, len(p))
    if top_p < 1:
        keep = min(keep, int(np.searchsorted(p.cumsum(), top_p)) + 1)
    p = p[:keep] / p[:keep].sum()
    return int(order[rng.choice(keep, p=p)])


class Beam(NamedTuple):
    """One of the sequences that a search from a live state follows.

    score    log-probability of its tokens
    tokens   what it has said so far
    state    [width], its state as a row; see `Layout`
    log_p    [V], log-probabilities of what may follow
    """

    score: float
    tokens: tuple[int, ...]
    state: np.ndarray
    log_p: np.ndarray


def begin(stream: Stream, log_p: np.ndarray) -> Beam:
    """Nothing said yet, in a stream's state, which a search leaves as it is."""
    return Beam(0.0, (), stream.stepper.layout.rows(stream.state)[0], log_p)


def grown(stepper: Stepper, chosen: Sequence[tuple[float, Beam, int]]) -> list[Beam]:
    """Every chosen (score, beam, token) one token further: all of them in one step."""
    block = np.stack([beam.state for _, beam, _ in chosen])
    log_p = stepper.step_many(
        block, np.arange(len(chosen)), np.array([[token] for *_, token in chosen], np.float32)
    )
    return [
        Beam(score, (*beam.tokens, token), block[k], log_p[k])
        for k, (score, beam, token) in enumerate(chosen)
    ]
