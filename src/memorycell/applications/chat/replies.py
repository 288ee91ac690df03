"""Search for the reply of a language model of dialogues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memorycell.applications.chat.dialogues import REPLY_ID, USER_ID
from memorycell.language.codec import END_ID, UNKNOWN_ID
from memorycell.language.files import check_encoding
from memorycell.language.search import (
    check_sampling,
    extend_beams,
    initial_beam,
    sample,
    token_input,
)
from memorycell.streaming.stepping import Stepper
from memorycell.streaming.stream import Stream

MAX_BEAM, MAX_LENGTH, MAX_CANDIDATES = 100, 10_000, 1000
MAX_SPECIFIC = 1.0
"""Nats per token that a reply can gain by its message, so that an unlikely reply is not chosen for
being even less likely without it.
"""

Candidate = tuple[tuple[int, ...], float]
"""(tokens, log-probability with the end)"""


class ScoredReply(NamedTuple):
    """A reply that was found.

    tokens   without the end
    log_p    mean log-probability of its tokens and its end
    gain     what that gains by the message, compared with no message; 0 where it was not computed
    """

    tokens: list[int]
    log_p: float
    gain: float = 0.0


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    beam          beam width of the search for likely replies; 0: sample one instead
    candidates    replies that are sampled besides those of the beam
    mmi           weight of what a reply's log-probability gains by the message, compared with no
                  message at all: replies that answer anything lose (maximum mutual information, Li
                  et al. 2016, arXiv:1510.03055); 0: the most likely reply; by default as chosen on
                  the validation split
    temperature, top_k, top_p   of sampling, see `language.search.sample`
    length        maximum number of tokens of a reply
    nearest       reply as the nearest message of training was replied to, where the validation
                  split found that better: yes or no
    seed          the same seed samples the same replies
    encoding      of a text file, such as cp1252; by default UTF-8, or UTF-16 with a byte order mark
    """

    beam: int = 4
    candidates: int = 32
    mmi: float | None = None
    temperature: float = 0.5
    top_k: int = 0
    top_p: float = 0.9
    length: int = 60
    nearest: bool = True
    seed: int = 0
    encoding: str | None = None

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_k, self.top_p, self.seed)
        check_encoding(self.encoding)
        if not 0 <= self.beam <= MAX_BEAM:
            raise ValueError(f"beam={self.beam}: expected 0 to {MAX_BEAM}")
        if not 0 <= self.candidates <= MAX_CANDIDATES:
            raise ValueError(f"candidates={self.candidates}: expected 0 to {MAX_CANDIDATES}")
        if self.mmi is not None and not 0 <= self.mmi < 1:
            raise ValueError(f"mmi={self.mmi}: expected 0 to below 1")
        if not 1 <= self.length <= MAX_LENGTH:
            raise ValueError(f"length={self.length}: expected 1 to {MAX_LENGTH:,}")


class ReplySearch:
    """Finds the replies of one model.

    num_special   the special tokens, the first ids; one of them ends a reply
    excluded      further token ids that no reply has
    """

    def __init__(self, stepper: Stepper, num_special: int, excluded: Sequence[int]) -> None:
        self.stepper, self.num_special = stepper, num_special
        self._excluded = [UNKNOWN_ID, *excluded]

    def find(
        self, stream: Stream, log_p: np.ndarray, options: PredictOptions, mmi: float, seed: int
    ) -> ScoredReply:
        """The reply with the weight `mmi`. The stream is unchanged.

        log_p   [V], log-probabilities of the first token
        """
        if not options.beam:
            rng = np.random.default_rng(seed)
            return _scored(self._sample(stream, log_p, options, rng, 1)[0])
        if mmi:
            return best_reply(self.candidates(stream, log_p, options, seed), mmi)
        found = map(_scored, self._beam(stream, log_p, options))
        return max(found, key=lambda reply: (reply.log_p, reply.tokens))

    def candidates(
        self, stream: Stream, log_p: np.ndarray, options: PredictOptions, seed: int
    ) -> list[ScoredReply]:
        """The distinct replies of beam search and sampling, with their gains. The stream is
        unchanged; see `find`.
        """
        found = self._beam(stream, log_p, options)
        found += self._sample(
            stream, log_p, options, np.random.default_rng(seed), options.candidates
        )
        distinct = list(dict.fromkeys(found))
        generic = self._generic_log_p([tokens for tokens, _ in distinct])
        return [
            reply._replace(gain=reply.log_p - other)
            for reply, other in zip(map(_scored, distinct), generic, strict=True)
        ]

    def mean_log_p(self, stream: Stream, log_p: np.ndarray, reply: Sequence[int]) -> float:
        """The mean log-probability of a given reply. The stream is unchanged."""
        branch, total = stream.fork(), 0.0
        for token in reply:
            total += float(log_p[token])
            log_p = branch.step(token_input(token))
        return (total + float(log_p[: self.num_special].max())) / (len(reply) + 1)

    def _sample(
        self,
        stream: Stream,
        log_p: np.ndarray,
        options: PredictOptions,
        rng: np.random.Generator,
        count: int,
    ) -> list[Candidate]:
        """Sampled replies, all in one batch."""
        block = np.repeat(stream.row, count, 0)
        replies: list[list[int]] = [[] for _ in range(count)]
        totals = [0.0] * count
        active, now = list(range(count)), np.repeat(log_p[None], count, 0)
        for step in range(options.length + 1):
            going = []
            for k in active:
                allowed = self._allowed(now[k])
                if step == options.length:
                    break
                token = sample(
                    allowed,
                    rng,
                    temperature=options.temperature,
                    top_k=options.top_k,
                    top_p=options.top_p,
                )
                totals[k] += float(allowed[token])
                if token >= self.num_special:
                    replies[k].append(token)
                    going.append(k)
            active = going
            if not active:
                break
            x = np.array([[replies[k][-1]] for k in active], np.float32)
            now[active] = self.stepper.step_many(block, np.array(active), x)
        return [(tuple(tokens), total) for tokens, total in zip(replies, totals, strict=True)]

    def _beam(self, stream: Stream, log_p: np.ndarray, options: PredictOptions) -> list[Candidate]:
        """By beam search: finished replies, at least one."""
        beams = [initial_beam(stream, log_p)]
        finished: list[Candidate] = []
        best = -math.inf
        for _ in range(options.length):
            candidates = [
                (beam.score + float(allowed[token]), beam, int(token))
                for beam in beams
                for allowed in [self._allowed(beam.log_p)]
                for token in np.argsort(-allowed)[: 2 * options.beam]
                if math.isfinite(allowed[token])
            ]
            candidates.sort(key=lambda candidate: -candidate[0])
            for score, beam, token in candidates[: options.beam]:
                if token < self.num_special:
                    finished.append((beam.tokens, score))
                    best = max(best, score / (len(beam.tokens) + 1))
            unfinished = [c for c in candidates if c[2] >= self.num_special][: options.beam]
            if not unfinished:
                break
            score, beam, _ = unfinished[0]
            if finished and best > score / (len(beam.tokens) + 1):
                break
            beams = extend_beams(self.stepper, unfinished)
        return finished or [(beam.tokens, beam.score) for beam in beams]

    def _generic_log_p(self, replies: Sequence[tuple[int, ...]]) -> list[float]:
        """The mean log-probabilities of replies to an empty message."""
        block = np.zeros((len(replies), self.stepper.layout.width), np.float32)
        rows = np.arange(len(replies))
        for token in (END_ID, USER_ID, REPLY_ID):
            x = np.repeat(token_input(token)[None], len(replies), 0)
            log_p = self.stepper.step_many(block, rows, x)
        totals = np.zeros(len(replies))
        for step in range(max(map(len, replies)) + 1):
            ended = np.array([k for k, reply in enumerate(replies) if len(reply) == step], np.int64)
            totals[ended] += np.logaddexp.reduce(log_p[ended, : self.num_special], 1)
            active = np.array([k for k, reply in enumerate(replies) if len(reply) > step], np.int64)
            if not len(active):
                break
            tokens = np.array([replies[k][step] for k in active])
            totals[active] += log_p[active, tokens]
            log_p[active] = self.stepper.step_many(
                block, active, tokens[:, None].astype(np.float32)
            )
        return [total / (len(r) + 1) for total, r in zip(totals.tolist(), replies, strict=True)]

    def _allowed(self, log_p: np.ndarray) -> np.ndarray:
        log_p = log_p.copy()
        log_p[self._excluded] = -np.inf
        return log_p


def best_reply(candidates: Sequence[ScoredReply], mmi: float) -> ScoredReply:
    """The reply whose mean of log-probability and gain, of weights 1 - mmi and mmi, is highest."""
    scores = [(1 - mmi) * reply.log_p + mmi * min(reply.gain, MAX_SPECIFIC) for reply in candidates]
    return candidates[int(np.argmax(scores))]


def _scored(candidate: Candidate) -> ScoredReply:
    tokens, total = candidate
    return ScoredReply(list(tokens), total / (len(tokens) + 1))
