"""A conversation: what a person says goes in, a reply comes out; its state can be saved and taken
up again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application.modelfile import ModelFile
from memorycell.applications.chat.dialogues import LONGEST, ME, YOU
from memorycell.errors import DataError, StateError
from memorycell.language.codec import TextCodec, normalise
from memorycell.language.search import extend_beams, initial_beam, sample
from memorycell.streaming.stream import Stream

UNSURE = 0.12
"""Below this geometric mean of its tokens' probabilities a reply is marked as unsure."""


@dataclass(frozen=True)
class Replying:
    """What --set can say about replies.

    beam          beams in the search for the likeliest reply; 0: sampled instead
    temperature, top_k, top_p   of sampling, see `search.sample`
    length        tokens of a reply at most
    seed          the same seed samples the same reply
    """

    beam: int = 4
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.9
    length: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.beam <= 100 or self.length < 1 or self.top_k < 0:
            raise ValueError("beam: expected 0 to 100; length: 1 or more; top_k: 0 or more")
        if not (self.temperature >= 0 and 0 < self.top_p <= 1):
            raise ValueError("temperature: expected 0 or more; top_p: above 0, at most 1")


class Conversation:
    """One conversation with a model of dialogues. All it remembers is the `State` of its recurrent
    layers.
    """

    def __init__(
        self, file: ModelFile, precision: str = "float32", how: Replying | None = None
    ) -> None:
        self.codec: TextCodec = file.codec
        self.how = how or Replying()
        self._stream = Stream(file.model, precision, history=0)
        self._log_p = self._stream.step([1.0])
        self._turns = 0

    def say(self, text: str, how: Replying | None = None) -> dict[str, Any]:
        """`{"said", "reply", "p", "unsure"}`: p is the geometric mean of the reply's tokens'
        probabilities.

        Raises `DataError` where nothing is said; nothing is then remembered of it.
        """
        how = how or self.how
        tokens = self.codec.encode(normalise(text).strip()[:LONGEST])
        if not tokens:
            raise DataError("nothing was said")
        self._read([self.codec.token_ids[YOU], *tokens, self.codec.token_ids[ME]])
        rng = np.random.default_rng(how.seed + self._turns)
        reply, mean = self._beam(how) if how.beam else self._sampled(how, rng)
        self._read(reply)  # what it has said itself is remembered too
        self._turns += 1
        p = math.exp(mean)
        unsure = p < UNSURE or 2 * tokens.count(0) > len(tokens)
        record = {
            "said": text,
            "reply": self.codec.decode(reply).strip(),
            "p": round(p, 4),
            "unsure": unsure,
        }
        return (
            {**record, "note": f"only the first {LONGEST} characters were read"}
            if len(text) > LONGEST
            else record
        )

    def line(self, text: str, number: int) -> dict[str, Any] | None:
        """A turn a line; an empty line begins a new conversation."""
        if not text.strip():
            self._stream.reset()
            self._log_p, self._turns = self._stream.step([1.0]), 0
            return None
        return self.say(text)

    def _read(self, tokens: list[int]) -> None:
        for token in tokens:
            self._log_p = self._stream.step([float(token)])

    def _ends(self, token: int) -> bool:
        return token != 0 and token < self.codec.num_special

    def _sampled(self, how: Replying, rng: np.random.Generator) -> tuple[list[int], float]:
        """(tokens, mean log-probability), the state left as it was."""
        branch, log_p = self._stream.fork(), self._without_unknown(self._log_p)
        reply: list[int] = []
        total = 0.0
        while len(reply) < how.length:
            token = sample(
                log_p, rng, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p
            )
            total += float(log_p[token])
            if self._ends(token):
                break
            reply.append(token)
            log_p = self._without_unknown(branch.step([float(token)]))
        return reply, total / (len(reply) + 1)

    def _beam(self, how: Replying) -> tuple[list[int], float]:
        """The same by beam search: the reply with the best mean log-probability a token."""
        beams = [initial_beam(self._stream, self._log_p)]
        finished: list[tuple[float, tuple[int, ...]]] = []
        for _ in range(how.length):
            options = [
                (beam.score + float(log_p[token]), beam, int(token))
                for beam in beams
                for log_p in [self._without_unknown(beam.log_p)]
                for token in np.argsort(-log_p)[: 2 * how.beam]
                if math.isfinite(log_p[token])
            ]
            options.sort(key=lambda option: -option[0])
            finished += [
                (score / (len(beam.tokens) + 1), beam.tokens)
                for score, beam, token in options[: how.beam]
                if self._ends(token)
            ]
            going = [option for option in options if not self._ends(option[2])][: how.beam]
            if not going or (
                finished and max(finished)[0] > going[0][0] / (len(going[0][1].tokens) + 1)
            ):
                break  # nothing that goes on is better than what has ended
            beams = extend_beams(self._stream.stepper, going)
        if not finished:
            finished = [(beam.score / max(len(beam.tokens), 1), beam.tokens) for beam in beams]
        mean, reply = max(finished)
        return list(reply), mean

    def _without_unknown(self, log_p: np.ndarray) -> np.ndarray:
        log_p = log_p.copy()
        log_p[0] = -np.inf
        return log_p

    def save(self, path: str | Path) -> None:
        """See `Live`."""
        self._stream.save(path, log_p=self._log_p.tolist(), turns=self._turns)

    def load(self, path: str | Path) -> None:
        """See `Live`."""
        extra = self._stream.load(path)
        try:
            log_p, turns = np.array(extra["log_p"], np.float32), int(extra["turns"])
            if log_p.shape != self._log_p.shape:
                raise ValueError("another vocabulary")
        except (KeyError, TypeError, ValueError):
            raise StateError(f"{path}: not the state of a conversation; start without it") from None
        self._log_p, self._turns = log_p, turns


def predict(file: ModelFile, source: str | None, how: Replying) -> dict[str, Any]:
    """`{"turns": [{"said", "reply", "p", "unsure"}]}`: a reply to every line, one after another in
    one conversation.
    """
    lines = [line for line in normalise(source or "").split("\n") if line.strip()]
    if not lines:
        raise DataError("predict: nothing was said; give a line, or a file of lines")
    conversation = Conversation(file, how=how)
    return {"turns": [conversation.say(line) for line in lines]}


def show(record: dict[str, Any]) -> str:
    """The record for people."""
    lines = []
    for turn in record["turns"]:
        unsure, note = (
            "   (unsure)" if turn["unsure"] else "",
            f"   [{turn['note']}]" if "note" in turn else "",
        )
        lines.append(f"> {turn['said']}\n{turn['reply'] or '…'}{unsure}{note}")
    return "\n".join(lines)
