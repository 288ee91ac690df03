"""The most likely next words, by a beam search over tokens from a live state."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator

import numpy as np

from memorycell.language.codec import TextCodec
from memorycell.language.search import Beam, extend_beams
from memorycell.streaming.stepping import Stepper

BEAM_WIDTH = 24
MAX_WORD_TOKENS = 24


class NextWordSearch:
    """Finds the most likely words after a text, or completions of its last word."""

    def __init__(self, codec: TextCodec) -> None:
        self.codec = codec
        self._is_text = np.arange(len(codec)) >= codec.num_special
        self._in_word = self._is_text & np.array(
            [all(map(is_word_char, surface)) for surface in codec.surfaces]
        )

    def run(
        self, start: Beam, stepper: Stepper, *, word_start: str, pending: str, top: int
    ) -> dict[str, float]:
        """Word -> probability given the text so far; at most `top`, the most likely first.

        start        the empty beam at the state of the text
        word_start   the letters of an unfinished word that the state includes
        pending      unread text; words must begin with it. The probabilities are then conditional
                     on it

        A probability is slightly too low where the search pruned one of the word's tokenisations.
        """
        words: dict[str, float] = {}
        beams = [start]
        for _ in range(MAX_WORD_TOKENS):
            candidates: list[tuple[float, Beam, int]] = []
            for beam in beams:
                text = "".join(self.codec.surfaces[token] for token in beam.tokens)
                word = (word_start + text).strip()
                if word and len(text) >= len(pending):
                    p = math.exp(beam.score) * self._p_word_end(beam.log_p)
                    words[word] = words.get(word, 0.0) + p
                for token in self._continuations(beam.log_p, word_start, text, pending):
                    score = beam.score + float(beam.log_p[token])
                    longer = (word + self.codec.surfaces[token]).strip()
                    if self.codec.unit == "word" and longer:
                        words[longer] = words.get(longer, 0.0) + math.exp(score)
                    else:
                        candidates.append((score, beam, token))
            best = sorted(candidates, key=lambda c: -c[0])[:BEAM_WIDTH]
            ranked = sorted(words.values(), reverse=True)
            if not best or (len(ranked) >= top and math.exp(best[0][0]) < ranked[top - 1]):
                break
            beams = extend_beams(stepper, best)
        total = sum(words.values()) if pending.strip() else 1.0
        likely = sorted(words.items(), key=lambda item: -item[1])[:top]
        return {word: p / max(total, 1e-300) for word, p in likely}

    def _p_word_end(self, log_p: np.ndarray) -> float:
        """The probability that the next token does not continue the word."""
        return float(np.exp(log_p[~self._in_word]).sum())

    def _continuations(
        self, log_p: np.ndarray, word_start: str, text: str, pending: str
    ) -> Iterator[int]:
        """The tokens that may follow `text` so that it agrees with `pending`, likely ones first."""
        in_word = bool((word_start + text).strip())
        allowed = self._in_word if in_word else self._is_text
        order = np.argsort(-np.where(allowed, log_p, -np.inf))
        for token in order[: 4 * BEAM_WIDTH if text else allowed.sum()]:
            longer = text + self.codec.surfaces[token]
            if allowed[token] and (longer.startswith(pending) or pending.startswith(longer)):
                yield int(token)


def is_word_char(character: str) -> bool:
    """Whether a grapheme cluster can be part of a word."""
    if character.isascii():
        return character.isalnum() or character in "'-"
    if character.isalnum() or character == "’":
        return True
    is_symbol = unicodedata.category(character[0])[0] in "PSZC"
    return not character.isspace() and character.isprintable() and not is_symbol
