"""Search for the reply of a language model of dialogues."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memorycell.language.codec import UNKNOWN_ID
from memorycell.language.files import check_encoding
from memorycell.language.search import check_sampling, extend_beams, initial_beam, sample
from memorycell.streaming.stream import Stream

MAX_BEAM, MAX_LENGTH = 100, 10_000


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    beam          beam width of the search for the most likely reply; 0: sample instead
    temperature, top_k, top_p   of sampling, see `language.search.sample`
    length        maximum number of tokens of a reply
    seed          the same seed samples the same reply
    encoding      of a text file, such as cp1252; by default UTF-8, or UTF-16 with a byte order mark
    """

    beam: int = 4
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.9
    length: int = 60
    seed: int = 0
    encoding: str | None = None

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_k, self.top_p, self.seed)
        check_encoding(self.encoding)
        if not 0 <= self.beam <= MAX_BEAM:
            raise ValueError(f"beam={self.beam}: expected 0 to {MAX_BEAM}")
        if not 1 <= self.length <= MAX_LENGTH:
            raise ValueError(f"length={self.length}: expected 1 to {MAX_LENGTH:,}")


def find_reply(
    stream: Stream, log_p: np.ndarray, num_special: int, options: PredictOptions, seed: int
) -> tuple[list[int], float]:
    """(tokens, mean log-probability) of a reply. A special token ends it. The stream is unchanged.

    log_p   [V], log-probabilities of the first token
    """
    if options.beam:
        return _most_likely(stream, log_p, num_special, options)
    return _sampled(stream, log_p, num_special, options, np.random.default_rng(seed))


def _sampled(
    stream: Stream,
    log_p: np.ndarray,
    num_special: int,
    options: PredictOptions,
    rng: np.random.Generator,
) -> tuple[list[int], float]:
    branch, log_p = stream.fork(), _without_unknown(log_p)
    reply: list[int] = []
    total = 0.0
    while len(reply) < options.length:
        token = sample(
            log_p,
            rng,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
        )
        total += float(log_p[token])
        if token < num_special:
            break
        reply.append(token)
        log_p = _without_unknown(branch.step([float(token)]))
    return reply, total / (len(reply) + 1)


def _most_likely(
    stream: Stream, log_p: np.ndarray, num_special: int, options: PredictOptions
) -> tuple[list[int], float]:
    """By beam search: the reply with the highest mean log-probability per token."""
    beams = [initial_beam(stream, log_p)]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(options.length):
        candidates = [
            (beam.score + float(log_p[token]), beam, int(token))
            for beam in beams
            for log_p in [_without_unknown(beam.log_p)]
            for token in np.argsort(-log_p)[: 2 * options.beam]
            if math.isfinite(log_p[token])
        ]
        candidates.sort(key=lambda candidate: -candidate[0])
        finished += [
            (score / (len(beam.tokens) + 1), beam.tokens)
            for score, beam, token in candidates[: options.beam]
            if token < num_special
        ]
        unfinished = [c for c in candidates if c[2] >= num_special][: options.beam]
        if not unfinished:
            break
        best_score, best_beam, _ = unfinished[0]
        if finished and max(finished)[0] > best_score / (len(best_beam.tokens) + 1):
            break
        beams = extend_beams(stream.stepper, unfinished)
    if not finished:
        finished = [(beam.score / max(len(beam.tokens), 1), beam.tokens) for beam in beams]
    mean, reply = max(finished)
    return list(reply), mean


def _without_unknown(log_p: np.ndarray) -> np.ndarray:
    log_p = log_p.copy()
    log_p[UNKNOWN_ID] = -np.inf
    return log_p
