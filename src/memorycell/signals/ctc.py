"""Greedy CTC decoding: per-step log-probabilities to letters, words and text.

Consecutive steps with the same best token give one letter; blanks are removed (Graves et al. 2006,
Connectionist temporal classification).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from memorycell.signals.codec import BLANK_ID, SignalCodec


class Letter(NamedTuple):
    """A token, its step range [begin, end), and its highest probability in that range."""

    token: int
    begin: int
    end: int
    p: float


class Word(NamedTuple):
    """A word, its step range [begin, end), and the geometric mean of its letters' probabilities."""

    word: str
    begin: int
    end: int
    p: float


class GreedyDecoder:
    """Incremental greedy decoding: chunks give the same letters as the full sequence.

    letters      decoded so far, except those removed by `drop_before`
    steps        decoded so far
    last_token   the best token of the last step
    """

    def __init__(
        self, letters: Iterable[Letter] = (), steps: int = 0, last_token: int = BLANK_ID
    ) -> None:
        self.letters, self.steps, self.last_token = list(letters), steps, last_token

    def feed(self, log_p: np.ndarray) -> None:
        """Decode the log-probabilities [T, V] of the next T steps."""
        best = log_p.argmax(1)
        probabilities = np.exp(log_p[np.arange(len(log_p)), best]).tolist()
        for k, (token, p) in enumerate(zip(best.tolist(), probabilities, strict=True)):
            step = self.steps + k
            if token != BLANK_ID and token == self.last_token and self.letters:
                letter = self.letters[-1]
                self.letters[-1] = letter._replace(end=step + 1, p=max(letter.p, p))
            elif token != BLANK_ID:
                self.letters.append(Letter(token, step, step + 1, p))
            self.last_token = token
        self.steps += len(log_p)

    def drop_before(self, step: int) -> None:
        """Remove the letters that begin before a step."""
        self.letters = [letter for letter in self.letters if letter.begin >= step]


def greedy_letters(log_p: np.ndarray) -> list[Letter]:
    """The letters of log-probabilities [T, V]."""
    decoder = GreedyDecoder()
    decoder.feed(log_p)
    return decoder.letters


def letters_to_words(codec: SignalCodec, letters: Iterable[Letter]) -> list[Word]:
    """Split letters into words at spaces."""
    assert codec.text is not None
    groups: list[list[Letter]] = []
    texts: list[str] = []
    for letter in letters:
        surface = codec.text.surfaces[letter.token]
        if not texts or surface[0] == " ":
            texts.append("")
            groups.append([])
        texts[-1] += surface.strip()
        if surface != " ":
            groups[-1].append(letter)
    return [
        Word(text, group[0].begin, group[-1].end, _geometric_mean(group))
        for text, group in zip(texts, groups, strict=True)
        if group
    ]


def letters_to_text(codec: SignalCodec, letters: Iterable[Letter]) -> str:
    """The words of the letters, separated by single spaces."""
    return " ".join(word.word for word in letters_to_words(codec, letters))


def _geometric_mean(letters: list[Letter]) -> float:
    return math.exp(sum(math.log(max(letter.p, 1e-9)) for letter in letters) / len(letters))
