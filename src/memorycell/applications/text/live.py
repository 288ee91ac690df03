"""A language model at work: it writes on, completes words, and says how likely a text is."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import NoOptions
from memorycell.application.modelfile import ModelFile
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.codec import TextCodec, normalise
from memorycell.language.model import LanguageModel
from memorycell.language.search import Beam, begin, grown, sample
from memorycell.streaming.stream import Stream

WIDTH, LONGEST_WORD = 24, 24
"""Beams, and tokens a word may have, in the search for the next words."""
MOST = 100_000
"""Characters that `predict` reads; `evaluate` reads any number."""


@dataclass(frozen=True)
class Writing:
    """What --set can say about writing on.

    length        tokens to write at most; stop: a text at which it ends, left out
    temperature, top_k, top_p   see `search.sample`
    seed          the same seed writes the same text
    top           how many of the likeliest next words are told
    """

    length: int = 300
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: str | None = None
    top: int = 10

    def __post_init__(self) -> None:
        if self.length < 0 or self.top < 0 or self.top_k < 0:
            raise ValueError("length, top, top_k: expected 0 or more")
        if not (self.temperature >= 0 and 0 < self.top_p <= 1):
            raise ValueError("temperature: expected 0 or more; top_p: above 0, at most 1")


class LiveText:
    """Text goes in as it is typed; what may follow can be asked at any time.

    A word that is not finished is kept aside (`pending`) until it is, so that pieces give the
    tokens of the whole text.
    """

    def __init__(
        self, file: ModelFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        self.codec: TextCodec = file.codec
        self._stream = Stream(file.model, precision, history=0)
        self._tail = ""  # what was typed after the last finished span
        self._begins = True  # whether a line begins there
        self._word = (  # of the unit char: the letters of the word that is being written, already read
            ""
        )
        self._log_p = self._stream.step([1.0])  # every text begins after END
        self.nats: deque[float] = deque(maxlen=MOST)
        """Of the tokens read since the last `line`, how unlikely each was."""

    # ---- reading ---------------------------------------------------------------------------------

    @property
    def pending(self) -> str:
        """What is not read yet: a word that may go on, with the blank before it; or the blank
        alone.
        """
        spans = self.codec.cut(self._tail, self._begins)
        return spans[-1][0] if spans else self._tail[:1] and " "

    def feed(self, text: str) -> None:
        """Read on. A piece of text may end inside a word, but not inside a character."""
        text = self._tail + self.codec.normalise(text)
        read = 0
        for span, end in self.codec.cut(text, self._begins):
            if self.codec.unit != "char" and span != "\n" and end == len(text):
                break  # it may go on
            self._read_span(span)
            read = end
        self._tail = text[read:]

    def close(self) -> None:
        """Read what is pending as a finished word."""
        for span, _ in self.codec.cut(self._tail, self._begins):
            self._read_span(span)
        self._tail = ""

    def _read_span(self, span: str) -> None:
        self._read(self.codec.encode_span(span))
        self._follow(span)

    def _follow(self, surface: str) -> None:
        """Note where in a line, and in a word, what was read or written has ended."""
        self._begins = surface == "\n"
        if self.codec.unit == "char":
            self._word = self._word + surface if _of_word(surface) else ""

    def line(self, text: str, number: int) -> dict[str, Any]:
        """What is typed next, with a blank after it; an empty line ends a line; in quotes it is
        read as it is, as JSON.

        Gives the next words with their probabilities, and the nats of what was read.
        """
        text = text.rstrip("\n")
        if text.startswith('"'):
            try:
                typed = str(json.loads(text))
            except ValueError:
                raise DataError(
                    f"stdin, line {number}: is not a JSON string; leave the quotes away, or close"
                    " them"
                ) from None
        else:
            typed = text + " " if text else "\n"
        self.nats.clear()
        self.feed(typed)
        return {"read": typed, "nats": [round(v, 4) for v in self.nats], "next": self.next_words(5)}

    def _read(self, tokens: list[int]) -> None:
        for token in tokens:
            self.nats.append(-float(self._log_p[token]))
            self._log_p = self._stream.step([float(token)])

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, how: Writing) -> Iterator[str]:
        """The text that follows, token by token; what is written is read too."""
        blank = self.pending == " "
        self.close()
        rng = np.random.default_rng(how.seed)
        written, told = "", 0
        for _ in range(how.length):
            log_p = self._allowed(self._log_p)
            if blank:  # was typed already
                log_p = np.where(self._spaced, log_p, -np.inf)
            token = sample(
                log_p, rng, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p
            )
            if token == 1:
                break
            self._read([token])
            surface = self.codec.surfaces[token]
            unspoken = blank or (self._begins and self.codec.unit != "char")
            written += surface.removeprefix(" ") if unspoken else surface
            blank = False
            self._follow(surface)
            if how.stop and how.stop in written:
                written = written[: written.index(how.stop)]
                break
            safe = len(written) - (len(how.stop) - 1 if how.stop else 0)  # the stop may have begun
            if safe > told:
                yield written[told:safe]
                told = safe
        yield written[told:]

    def _allowed(self, log_p: np.ndarray) -> np.ndarray:
        log_p = log_p.copy()
        log_p[0] = -np.inf
        log_p[2 : self.codec.marks] = -np.inf
        return log_p

    @cached_property
    def _inside(self) -> np.ndarray:
        """[V] bool: tokens that only go on with a word."""
        return np.array(
            [
                k >= self.codec.marks and all(map(_of_word, s))
                for k, s in enumerate(self.codec.surfaces)
            ]
        )

    @cached_property
    def _spaced(self) -> np.ndarray:
        """[V] bool: tokens that begin with a blank."""
        return np.array(
            [k >= self.codec.marks and s[0] == " " for k, s in enumerate(self.codec.surfaces)]
        )

    @cached_property
    def _texts(self) -> np.ndarray:
        """[V] bool: tokens that stand for text."""
        return np.arange(len(self.codec)) >= self.codec.marks

    def next_words(self, top: int) -> list[dict[str, Any]]:
        """The likeliest words that come next, or that finish the word being written, with their
        probabilities.

        A beam search over tokens until a word ends; probabilities are of the word given all before
        it, and a little too small where the search left something out.
        """
        if top < 1:
            return []
        pending = self.pending
        found: dict[str, float] = {}
        beams = [begin(self._stream, self._log_p)]
        for _ in range(LONGEST_WORD):
            candidates: list[tuple[float, Beam, int]] = []
            for beam in beams:
                text = "".join(self.codec.surfaces[token] for token in beam.tokens)
                word = (self._word + text).strip()
                if word and len(text) >= len(pending):  # it may end here
                    found[word] = found.get(word, 0.0) + math.exp(beam.score) * self._ends(
                        beam.log_p
                    )
                for token in self._continues(beam.log_p, text, pending):
                    score, whole = (
                        beam.score + float(beam.log_p[token]),
                        word + self.codec.surfaces[token],
                    )
                    if self.codec.unit == "word" and whole.strip():
                        found[whole.strip()] = found.get(whole.strip(), 0.0) + math.exp(score)
                    else:
                        candidates.append((score, beam, token))
            best = sorted(candidates, key=lambda c: -c[0])[:WIDTH]
            known = sorted(found.values(), reverse=True)
            if not best or (len(known) >= top and math.exp(best[0][0]) < known[top - 1]):
                break
            beams = grown(self._stream.stepper, best)
        ranked = sorted(found.items(), key=lambda item: -item[1])[:top]
        total = (
            sum(found.values()) if pending.strip() else 1.0
        )  # given that the word begins as it was typed
        return [{"word": word, "p": float(f"{p / max(total, 1e-300):.4g}")} for word, p in ranked]

    def _ends(self, log_p: np.ndarray) -> float:
        """The probability that a word ends here."""
        return float(np.exp(log_p[~self._inside]).sum())

    def _continues(self, log_p: np.ndarray, text: str, pending: str) -> Iterator[int]:
        """The tokens with which `text`, said since the last word, may go on as a word that begins
        as `pending` does.
        """
        inside = bool((self._word + text).strip())
        allowed = self._inside if inside else self._texts
        order = np.argsort(-np.where(allowed, log_p, -np.inf))
        for token in order[: 4 * WIDTH if text else allowed.sum()]:
            said = text + self.codec.surfaces[token]
            if allowed[token] and (said.startswith(pending) or pending.startswith(said)):
                yield int(token)

    # ---- keeping ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """See `Live`."""
        told = {
            "tail": self._tail,
            "begins": self._begins,
            "word": self._word,
            "log_p": self._log_p.tolist(),
        }
        self._stream.save(path, **told)

    def load(self, path: str | Path) -> None:
        """See `Live`."""
        extra = self._stream.load(path)
        try:
            log_p = np.array(extra["log_p"], np.float32)
            if log_p.shape != self._log_p.shape:
                raise ValueError("another vocabulary")
            self._tail, self._begins, self._word = (
                str(extra["tail"]),
                bool(extra["begins"]),
                str(extra["word"]),
            )
            self._log_p = log_p
        except (KeyError, TypeError, ValueError):
            raise StateError(f"{path}: not the state of a text; start without it") from None


def score(file: ModelFile, text: str) -> dict[str, Any]:
    """How likely a text is: nats and perplexity a token, bits a character, and every token with its
    nats.

    Raises `DataError` for an empty text.
    """
    codec: TextCodec = file.codec
    tokens = [1, *codec.encode(text)]
    if len(tokens) == 1:
        raise DataError("predict: no text to score")
    sequence = torch.tensor(tokens)[None]
    nats = file.model.nats(sequence[:, :-1], sequence[:, 1:])[0].double().numpy()
    told = [
        {"token": codec.surfaces[t], "nats": round(float(n), 4)}
        for t, n in zip(tokens[1:], nats, strict=True)
    ]
    return {
        "nats": float(nats.mean()),
        "perplexity": math.exp(min(float(nats.mean()), 700.0)),
        "bits_per_character": float(nats.sum()) / math.log(2) / len(normalise(text)),
        "unknown": tokens[1:].count(0),
        "tokens": told,
    }


def predict(file: ModelFile, source: str | None, how: Writing) -> dict[str, Any]:
    """A text written on, with the next words and how likely the text is: `{"text", "continuation",
    "next", "score"}`.
    """
    if not isinstance(file.model, LanguageModel):
        raise UserError("predict: not a language model")
    live = LiveText(file)
    text = normalise(source or "")
    note = (
        f"only the last {MOST:,} of {len(text):,} characters were read"
        if len(text) > MOST
        else None
    )
    text = text[-MOST:]
    live.feed(text)
    following = live.next_words(how.top)
    record = {
        "text": text,
        "continuation": "".join(live.write(how)),
        "next": following,
        "score": score(file, text) if text else None,
    }
    return {**record, "note": note} if note else record


def show(record: dict[str, Any]) -> str:
    """The record for people."""
    lines = [record["text"] + record["continuation"], ""]
    if record["next"]:
        lines.append("next: " + "  ".join(f"{w['word']} {w['p']:.1%}" for w in record["next"]))
    if record["score"]:
        lines.append(
            "what was given: {nats:.3f} nats a token, perplexity {perplexity:.3g},"
            " {bits_per_character:.3f} bits a character".format(**record["score"])
        )
    if "note" in record:
        lines.append(record["note"])
    return "\n".join(lines)


def _of_word(character: str) -> bool:
    return (
        character.isalnum()
        or character in "'’-"
        or (
            not character.isascii()
            and not character.isspace()
            and character.isprintable()
            and not _sign(character)
        )
    )


def _sign(character: str) -> bool:
    import unicodedata

    return unicodedata.category(character[0])[0] in "PSZC"
