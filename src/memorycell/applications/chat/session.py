"""A live conversation: messages in, replies out."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from memorycell.application.contract import Item, ModelFile, NoOptions, Record
from memorycell.applications.chat.dialogues import MAX_TURN_CHARS, REPLY_ID, USER_ID, check_codec
from memorycell.applications.chat.limits import read_limits
from memorycell.applications.chat.masking import mask, mask_tokens
from memorycell.applications.chat.replies import PredictOptions, ReplySearch, ScoredReply
from memorycell.errors import DataError
from memorycell.language.codec import END_ID, UNKNOWN_ID, TextCodec
from memorycell.language.lines import LineReader
from memorycell.language.model import LanguageModel
from memorycell.language.search import token_input
from memorycell.language.snapshots import read_extra
from memorycell.reading import normalise
from memorycell.state import State
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream

MAX_EQUALLY_NEAR, EQUALLY_NEAR = 32, 1e-6
"""Messages of training that are equally near, and how much their similarities may differ."""


class ChatSession:
    """One conversation. Its only memory is the `State` of the recurrent layers."""

    def __init__(
        self,
        file: ModelFile[LanguageModel, TextCodec],
        precision: str = "float32",
        options: NoOptions | None = None,
    ) -> None:
        check_codec(file.codec)
        self.codec = file.codec
        self._stream = Stream(file.model, precision, history=0)
        self._limits, self._nearest = read_limits(file.arrays)
        self._search = ReplySearch(
            self._stream.stepper, file.codec.num_special, mask_tokens(file.codec)
        )
        self._lines = LineReader()
        self._begin()

    def _begin(self) -> None:
        self._log_p = self._stream.step([float(END_ID)])
        self._turns = 0

    def feed(self, item: Item) -> list[Record]:
        """The reply to a line, see `say`; an empty line begins a new conversation."""
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        line = self._lines.read(item)
        if not line.strip():
            self._stream.reset()
            self._begin()
            return []
        return [(yield from self._say(line))]

    def close(self) -> list[Record]:
        """See `Session`: nothing."""
        return []

    def say(self, text: str, options: PredictOptions | None = None) -> dict[str, Any]:
        """`{"said", "reply", "p", "unsure", "nats"}`; p is the geometric mean of the probabilities
        of the reply's tokens, nats are those of the message per token; and "similarity" where the
        reply is that to the nearest message of training.

        Raises `DataError` for an empty message, which changes nothing.
        """
        return run(self._say(text, options))

    def _say(self, text: str, options: PredictOptions | None = None) -> StreamSteps[dict[str, Any]]:
        options = options or PredictOptions()
        message = _as_read(text)
        tokens = self.codec.encode(message)
        if not tokens:
            raise DataError("the message is empty")
        nats = yield from self._read_message(tokens)
        record: dict[str, Any] = {"said": text}
        if options.nearest and (remembered := self._remembered(message)):
            record["reply"], reply, mean_log_p, similarity = remembered
            record["similarity"] = round(similarity, 4)
        else:
            mmi = self._limits.mmi if options.mmi is None else options.mmi
            seed = options.seed + self._turns
            reply, mean_log_p, _ = self._search.find(self._stream, self._log_p, options, mmi, seed)
            record["reply"] = self.codec.decode(reply).strip()
        yield from self._read(reply)
        self._turns += 1
        p = math.exp(mean_log_p)
        mostly_unknown = 2 * tokens.count(UNKNOWN_ID) > len(tokens)
        is_unlikely = p < self._limits.min_p or nats > self._limits.max_nats
        record |= {
            "p": round(p, 4),
            "unsure": mostly_unknown or ("similarity" not in record and is_unlikely),
            "nats": round(nats, 4),
        }
        if len(text) > MAX_TURN_CHARS:
            record["note"] = f"only the first {MAX_TURN_CHARS} characters were read"
        return record

    def _remembered(self, message: str) -> tuple[str, list[int], float, float] | None:
        """(the reply to the nearest message of training, its tokens, its mean log-probability, the
        similarity), if one is near enough; of equally near ones the likeliest reply.
        """
        if self._nearest is None:
            return None
        ((*near,),) = self._nearest.find_several([message], MAX_EQUALLY_NEAR)
        if not near or near[0][0] < self._limits.similarity:
            return None
        replies = {self._nearest.targets[at] for s, at in near if s > near[0][0] - EQUALLY_NEAR}
        scored = []
        for text in sorted(replies):
            tokens = self.codec.encode(text)
            log_p = self._search.mean_log_p(self._stream, self._log_p, tokens)
            scored.append((text, tokens, log_p, near[0][0]))
        return max(scored, key=lambda reply: reply[2])

    def candidates(
        self, text: str, options: PredictOptions
    ) -> tuple[float, list[tuple[str, ScoredReply]]]:
        """(nats of a message per token, the replies to choose from with their texts); the message
        is read, no reply is.
        """
        nats = run(self._read_message(self.codec.encode(_as_read(text))))
        seed = options.seed + self._turns
        found = self._search.candidates(self._stream, self._log_p, options, seed)
        return nats, [(self.codec.decode(reply.tokens).strip(), reply) for reply in found]

    def read_reply(self, text: str) -> None:
        """Read a reply that the model did not give itself, such as a greeting."""
        run(self._read([REPLY_ID, *self.codec.encode(normalise(text).strip()[:MAX_TURN_CHARS])]))

    def _read_message(self, tokens: list[int]) -> StreamSteps[float]:
        """The nats of a message per token; a reply follows."""
        yield from self._read([USER_ID])
        nats = yield from self._read(tokens)
        yield from self._read([REPLY_ID])
        return nats / len(tokens)

    def _read(self, tokens: list[int]) -> StreamSteps[float]:
        """The nats of the tokens."""
        nats = 0.0
        for token in tokens:
            nats -= float(self._log_p[token])
            self._log_p = yield self._stream, token_input(token)
        return nats

    def fork(self) -> ChatSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._stream, other._lines = self._stream.fork(), copy.copy(self._lines)
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        return self._stream.snapshot(log_p=self._log_p.tolist(), turns=self._turns)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        saved = read_extra(_Saved, extra, "chat", len(self.codec))
        self._stream.state = state
        self._log_p, self._turns = np.array(saved.log_p, np.float32), saved.turns


def _as_read(text: str) -> str:
    return mask(normalise(text).strip()[:MAX_TURN_CHARS])


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds besides the state of the layers."""

    log_p: tuple[float, ...]
    turns: Annotated[int, Meta(ge=0, le=2**53)]
