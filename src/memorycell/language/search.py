"""Sampling, and the beams of a search from a live state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memorycell.streaming.stepping import Stepper
from memorycell.streaming.stream import Stream

MAX_TEMPERATURE = 1000


def token_input(token: int) -> np.ndarray:
    """The input [1] float32 of the step that reads a token."""
    return np.array([token], np.float32)


def sample(
    log_p: np.ndarray,
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> int:
    """A token sampled from log-probabilities [V].

    temperature   divides the log-probabilities; 0: the most likely token
    top_k         only the k most likely tokens; 0: all
    top_p         only the most likely tokens that together have at least this probability (Holtzman
                  et al. 2020, arXiv:1904.09751)
    """
    if temperature == 0:
        return int(log_p.argmax())
    order = np.argsort(-log_p, kind="stable")
    below_best = log_p[order].astype(np.float64) - float(log_p[order[0]])
    p = np.exp(below_best / temperature)
    p /= p.sum()
    count = len(p) if not top_k else min(top_k, len(p))
    if top_p < 1:
        count = min(count, int(np.searchsorted(p.cumsum(), top_p)) + 1)
    p = p[:count] / p[:count].sum()
    return int(order[rng.choice(count, p=p)])


def check_sampling(temperature: float, top_k: int, top_p: float, seed: int) -> None:
    """Raises ValueError for an option of `sample`, or a seed, that is out of its range."""
    if not 0 <= temperature <= MAX_TEMPERATURE:
        raise ValueError(f"temperature={temperature}: expected 0 to {MAX_TEMPERATURE}")
    if top_k < 0:
        raise ValueError(f"top_k={top_k}: expected 1 or more, or 0 for all tokens")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: expected a probability above 0, at most 1")
    if seed < 0:
        raise ValueError(f"seed={seed}: expected 0 or more")


class Beam(NamedTuple):
    """A candidate sequence in a beam search from a live state.

    score    log-probability of its tokens
    tokens   its token ids
    state    [width], the recurrent state after them; see `Layout`
    log_p    [V], log-probabilities of the next token
    """

    score: float
    tokens: tuple[int, ...]
    state: np.ndarray
    log_p: np.ndarray


def initial_beam(stream: Stream, log_p: np.ndarray) -> Beam:
    """The empty sequence at a stream's state. The search does not change the stream."""
    return Beam(0.0, (), stream.row[0].copy(), log_p)


def extend_beams(stepper: Stepper, candidates: Sequence[tuple[float, Beam, int]]) -> list[Beam]:
    """Extend each (new score, beam, token) by its token; all in one batched step."""
    block = np.stack([beam.state for _, beam, _ in candidates])
    x = np.array([[token] for *_, token in candidates], np.float32)
    log_p = stepper.step_many(block, np.arange(len(candidates)), x)
    return [
        Beam(score, (*beam.tokens, token), block[k], log_p[k])
        for k, (score, beam, token) in enumerate(candidates)
    ]
