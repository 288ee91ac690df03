"""A live language model of text: reads text as it is typed, predicts the next words, generates."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from msgspec import Meta

from memorycell.application.contract import Item, ModelFile, NoOptions, Record
from memorycell.applications.text.next_words import NextWordSearch, is_word_char
from memorycell.errors import DataError
from memorycell.language.codec import END_ID, UNKNOWN_ID, TextCodec
from memorycell.language.lines import LineReader
from memorycell.language.model import LanguageModel
from memorycell.language.search import initial_beam, sample, token_input
from memorycell.language.snapshots import read_extra
from memorycell.setting_fields import parse_json
from memorycell.state import State
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream

NEXT_WORDS = 5
"""Next words in the answer to a line."""
MAX_NATS = 100_000
MAX_SAVED_CHARS = 1_000_000
"""Of an unfinished word in a snapshot."""


class TextSession:
    """Reads text in any pieces and predicts what follows at any point.

    An unfinished word is held back (`pending`), so that the tokens do not depend on the pieces.
    """

    def __init__(
        self,
        file: ModelFile[LanguageModel, TextCodec],
        precision: str = "float32",
        options: NoOptions | None = None,
    ) -> None:
        self.codec = file.codec
        self._stream = Stream(file.model, precision, history=0)
        self._lines = LineReader()
        self._tail = ""  # the text after the last span that was read
        self._line_start = True  # whether the tail is at the start of a line
        self._word_start = ""  # unit char: the letters of the current word, already read
        self._log_p = self._stream.step([float(END_ID)])
        self.nats: deque[float] = deque(maxlen=MAX_NATS)
        """Negative log-likelihoods of the tokens read since the last `feed`."""

    def feed(self, item: Item) -> list[Record]:
        """Read a line of text and a space after it, a newline for an empty line, or a quoted line
        as a JSON string without a space; `{"read", "nats", "next"}`.
        """
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        line = self._lines.read(item)
        if line.startswith('"'):
            try:
                text = str(parse_json(line))
            except ValueError:
                raise DataError(
                    f"{self._lines.place}: is not a JSON string; remove the quotes, or close them"
                ) from None
        else:
            text = line + " " if line else "\n"
        self.nats.clear()
        yield from self._read(text)
        nats = [round(v, 4) for v in self.nats]
        return [{"read": text, "nats": nats, "next": self.next_words(NEXT_WORDS)}]

    def close(self) -> list[Record]:
        """See `Session`: nothing. The unfinished word stays pending."""
        return []

    # ---- reading ---------------------------------------------------------------------------------

    @property
    def pending(self) -> str:
        """The unread text: an unfinished word with the space before it, or a space."""
        spans = self.codec.split_spans(self._tail, self._line_start)
        return spans[-1][0] if spans else self._tail[:1] and " "

    def read(self, text: str) -> None:
        """Read a piece of text. It may end inside a word, but not inside a character."""
        run(self._read(text))

    def _read(self, text: str) -> StreamSteps[None]:
        text = self._tail + self.codec.normalise(text)
        end_read = 0
        for span, end in self.codec.split_spans(text, self._line_start):
            if self.codec.unit != "char" and span != "\n" and end == len(text):
                break  # may be unfinished
            yield from self._read_span(span)
            end_read = end
        self._tail = text[end_read:]

    def finish_word(self) -> None:
        """Read the pending text as a finished word."""
        for span, _ in self.codec.split_spans(self._tail, self._line_start):
            run(self._read_span(span))
        self._tail = ""

    def _read_span(self, span: str) -> StreamSteps[None]:
        yield from self._read_tokens(self.codec.encode_span(span))
        self._update_position(span)

    def _update_position(self, surface: str) -> None:
        self._line_start = surface == "\n"
        if self.codec.unit == "char":
            self._word_start = self._word_start + surface if is_word_char(surface) else ""

    def _read_tokens(self, tokens: list[int]) -> StreamSteps[None]:
        for token in tokens:
            self.nats.append(-float(self._log_p[token]))
            self._log_p = yield self._stream, token_input(token)

    # ---- predicting ------------------------------------------------------------------------------

    def next_words(self, top: int) -> list[Record]:
        """The most likely next words, or completions of the unfinished word: `{"word", "p"}`."""
        if top < 1:
            return []
        words = self._next_word_search.run(
            initial_beam(self._stream, self._log_p),
            self._stream.stepper,
            word_start=self._word_start,
            pending=self.pending,
            top=top,
        )
        return [{"word": word, "p": float(f"{p:.4g}")} for word, p in words.items()]

    @cached_property
    def _next_word_search(self) -> NextWordSearch:
        return NextWordSearch(self.codec)

    def generate(
        self,
        *,
        length: int = 300,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str | None = None,
    ) -> Iterator[str]:
        """Generate text token by token, and read it. See `PredictOptions`."""
        drop_space = self.pending == " "  # it was read from the input
        self.finish_word()
        rng = np.random.default_rng(seed)
        text, yielded = "", 0
        for _ in range(length):
            log_p = self._without_special(self._log_p)
            if drop_space and self._starts_with_space.any():
                log_p = np.where(self._starts_with_space, log_p, -np.inf)
            token = sample(log_p, rng, temperature=temperature, top_k=top_k, top_p=top_p)
            if token == END_ID:
                break
            run(self._read_tokens([token]))
            surface = self.codec.surfaces[token]
            if drop_space or (self._line_start and self.codec.unit != "char"):
                text += surface.removeprefix(" ")
            else:
                text += surface
            drop_space = False
            self._update_position(surface)
            if stop and stop in text:
                text = text[: text.index(stop)]
                break
            safe = len(text) - (len(stop) - 1 if stop else 0)  # the rest may begin the stop text
            if safe > yielded:
                yield text[yielded:safe]
                yielded = safe
        yield text[yielded:]

    def _without_special(self, log_p: np.ndarray) -> np.ndarray:
        """Log-probabilities without special tokens except `END_ID`."""
        log_p = log_p.copy()
        log_p[UNKNOWN_ID] = -np.inf
        log_p[END_ID + 1 : self.codec.num_special] = -np.inf
        return log_p

    @cached_property
    def _starts_with_space(self) -> np.ndarray:
        """[V] bool."""
        special = self.codec.num_special
        return np.array([k >= special and s[0] == " " for k, s in enumerate(self.codec.surfaces)])

    # ---- state -----------------------------------------------------------------------------------

    def fork(self) -> TextSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._stream, other._lines = self._stream.fork(), copy.copy(self._lines)
        other.nats = deque(self.nats, MAX_NATS)
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        return self._stream.snapshot(
            tail=self._tail,
            begins=self._line_start,
            word=self._word_start,
            log_p=self._log_p.tolist(),
        )

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        saved = read_extra(_Saved, extra, "text", len(self.codec))
        self._stream.state = state
        self._tail, self._line_start, self._word_start = saved.tail, saved.begins, saved.word
        self._log_p = np.array(saved.log_p, np.float32)


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds besides the state of the layers."""

    tail: Annotated[str, Meta(max_length=MAX_SAVED_CHARS)]
    begins: bool
    word: Annotated[str, Meta(max_length=MAX_SAVED_CHARS)]
    log_p: tuple[float, ...]
