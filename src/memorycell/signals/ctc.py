"""From letters at every step (CTC) to text: the likeliest letter of each step, or a search among
the words of a lexicon.

Graves et al. (2006): of letters that follow each other the same are one, and blanks are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from memorycell.language.ngram import KneserNey, best_order
from memorycell.signals.codec import BLANK, SignalCodec

WIDTH = 100
"""Hypotheses a search keeps."""
NEVER = 1
"""The token that ends texts: no model of signals gives it."""


class Letter(NamedTuple):
    """A token, the steps at which it begins and ends, and how likely it was at the likeliest of
    them.
    """

    token: int
    begin: int
    end: int
    p: float


class Spelling:
    """Reads log-probabilities step by step and keeps the likeliest letters: the same in pieces as
    of the whole.

    letters   so far, but for those that were dropped; steps: read so far; last: the token of the
              last of them
    """

    def __init__(self, letters: Iterable[Letter] = (), steps: int = 0, last: int = BLANK) -> None:
        self.letters, self.steps, self.last = list(letters), steps, last

    def read(self, log_p: np.ndarray) -> None:
        """Log-probabilities [T, V] of further steps."""
        best = log_p.argmax(1)
        p = np.exp(log_p[np.arange(len(log_p)), best])
        for step, (token, sure) in enumerate(
            zip(best.tolist(), p.tolist(), strict=True), self.steps
        ):
            if token != BLANK and token == self.last and self.letters:
                old = self.letters[-1]
                self.letters[-1] = old._replace(end=step + 1, p=max(old.p, sure))
            elif token != BLANK:
                self.letters.append(Letter(token, step, step + 1, sure))
            self.last = token
        self.steps += len(log_p)

    def drop(self, end: int) -> None:
        """Forget the letters that begin before a step."""
        self.letters = [letter for letter in self.letters if letter.begin >= end]


def greedy(log_p: np.ndarray) -> list[Letter]:
    """The likeliest letters of log_p [T, V]."""
    spelling = Spelling()
    spelling.read(log_p)
    return spelling.letters


class Word(NamedTuple):
    """A word, the steps at which it begins and ends, and how likely its letters were (their
    geometric mean).
    """

    word: str
    begin: int
    end: int
    p: float


def words(codec: SignalCodec, letters: Iterable[Letter]) -> list[Word]:
    """The letters as words."""
    assert codec.text is not None
    found: list[list[Letter]] = []
    texts: list[str] = []
    for letter in letters:
        surface = codec.text.surfaces[letter.token]
        if not texts or surface[0] == " ":
            texts.append("")
            found.append([])
        texts[-1] += surface.strip()
        if surface != " ":
            found[-1].append(letter)
    return [
        Word(
            text,
            of[0].begin,
            of[-1].end,
            math.exp(sum(math.log(max(x.p, 1e-9)) for x in of) / len(of)),
        )
        for text, of in zip(texts, found, strict=True)
        if of
    ]


def text(codec: SignalCodec, letters: Iterable[Letter]) -> str:
    """The letters as a text, with one blank between words."""
    return " ".join(word.word for word in words(codec, letters))


# ---- a search with a lexicon and a language model ------------------------------------------------


class WordModel(Protocol):
    """A language model of words: how likely a word is after others, in nats (0 or less)."""

    def after(self, history: tuple[str, ...], word: str | None) -> float:
        """Log p(word | history); None ends the sentence."""


class Grams:
    """Interpolated Kneser-Ney over the words of sentences; see `baselines.ngram`."""

    def __init__(self, sentences: Sequence[str]) -> None:
        said = [sentence.split() for sentence in sentences]
        self.numbers = {w: k for k, w in enumerate(sorted({w for words in said for w in words}), 1)}
        tokens = np.array(
            [0, *(n for words in said for n in (*(self.numbers[w] for w in words), 0))], np.int64
        )
        size = len(self.numbers) + 1
        held = max(2, len(tokens) // 10)
        order = best_order(tokens[:-held], tokens[-held:], size).order if len(tokens) > 50 else 2
        self._model = KneserNey(tokens, size, order)
        self._known: dict[tuple[int, ...], float] = {}

    def after(self, history: tuple[str, ...], word: str | None) -> float:
        """See `WordModel`. A word that is not of the sentences counts as rarer than any."""
        reach = self._model.order - 1
        numbers = [self.numbers.get(w, -1) for w in history[-reach:]]
        numbers = [0, *numbers] if len(numbers) < reach else numbers
        key = (*numbers, 0 if word is None else self.numbers.get(word, -1))
        if key not in self._known:
            p = 1e-6 if key[-1] < 0 else float(self._model.probabilities(np.array(key))[-1])
            self._known[key] = math.log(p)
        return self._known[key]


class LexiconSearch:
    """The likeliest sequence of words of a lexicon, by letters and by a language model
    (flashlight-text):

    log p(letters | sound) + weight · log p(words) + bonus · number of words
    """

    def __init__(
        self,
        codec: SignalCodec,
        model: WordModel,
        lexicon: Sequence[str],
        *,
        weight: float,
        bonus: float,
    ) -> None:
        from flashlight.lib.text import decoder

        assert codec.text is not None
        self.codec, self.lexicon = codec, list(lexicon)
        # Where letters stand alone a blank ends every word, and may stand between words more than
        # once; pieces of words bring their blank with them, and the token that is never said takes
        # its place.
        self._blank = codec.text.numbers.get(" ") if codec.text.unit == "char" else None
        size, between = codec.outputs_size, NEVER if self._blank is None else self._blank
        trie = decoder.Trie(size, between)
        self._language = _language(decoder, model, self.lexicon)
        start = self._language.start(False)
        for number, word in enumerate(self.lexicon):
            tokens = (
                codec.targets(f" {word}")
                if self._blank is None
                else [*codec.targets(word), self._blank]
            )
            if tokens:
                _, score = self._language.score(start, number)
                trie.insert(tokens, number, score)
        trie.smear(decoder.SmearingMode.MAX)
        options = decoder.LexiconDecoderOptions(
            beam_size=WIDTH,
            beam_size_token=min(size, 40),
            beam_threshold=50.0,
            lm_weight=weight,
            word_score=bonus,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=decoder.CriterionType.CTC,
        )
        self._decoder = decoder.LexiconDecoder(
            options, trie, self._language, between, BLANK, -1, [], False
        )

    def find(self, log_p: np.ndarray) -> str:
        """The best words for log_p [T, V]."""
        emissions = np.ascontiguousarray(log_p, np.float32)
        if (
            self._blank is not None
        ):  # the blank that ends the last word is not said: it costs nothing after the end
            end = np.full((1, emissions.shape[1]), -1e4, np.float32)
            end[0, [BLANK, self._blank]] = 0
            emissions = np.concatenate([emissions, end])
        results = self._decoder.decode(emissions.ctypes.data, *emissions.shape)
        if not results:
            return ""
        return " ".join(self.lexicon[k] for k in results[0].words if k >= 0)


def search_of(
    codec: SignalCodec, weight: float, bonus: float, model: WordModel | None = None
) -> LexiconSearch:
    """A search among the words of the codec's sentences, by their language model or by another one."""
    lexicon = sorted({word for sentence in codec.sentences for word in sentence.split()})
    return LexiconSearch(
        codec, model or _grams(codec.sentences), lexicon, weight=weight, bonus=bonus
    )


def search_with(
    chosen: Tensor, codec: SignalCodec, model: WordModel | None = None
) -> LexiconSearch | None:
    """The search that training chose (`Transcriber.search`), or None; with a language model named,
    one in any case.
    """
    weight, bonus = chosen.tolist()
    if weight < 0 and model is None:
        return None
    return search_of(codec, abs(weight), bonus, model)


@lru_cache(maxsize=4)
def _grams(sentences: tuple[str, ...]) -> Grams:
    return Grams(sentences)


def _language(decoder: Any, model: WordModel, lexicon: Sequence[str]) -> Any:
    """A `WordModel` as flashlight-text asks for one. A state's words are kept by the state."""

    class Language(decoder.LM):  # type: ignore[misc]
        def __init__(self) -> None:
            decoder.LM.__init__(self)
            self.histories: dict[Any, tuple[str, ...]] = {}

        def start(self, start_with_nothing: bool) -> Any:
            state = decoder.LMState()
            self.histories = {state: ()}
            return state

        def score(self, state: Any, number: int) -> tuple[Any, float]:
            history = self.histories[state]
            after = state.child(number)
            self.histories.setdefault(after, (*history, lexicon[number]))
            return after, model.after(history, lexicon[number])

        def finish(self, state: Any) -> tuple[Any, float]:
            after = state.child(len(lexicon))
            self.histories.setdefault(after, self.histories[state])
            return after, model.after(self.histories[state], None)

    return Language()
