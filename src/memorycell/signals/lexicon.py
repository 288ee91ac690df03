"""CTC beam search over the words of a lexicon with a language model (flashlight-text)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from memorycell.language.codec import END_ID
from memorycell.language.ngram import KneserNey, fit_kneser_ney
from memorycell.signals.codec import BLANK_ID, SignalCodec
from memorycell.signals.transcriber import Transcriber

BEAM_SIZE = 100
MAX_BEAM_TOKENS = 40
"""Tokens by which a hypothesis is extended at a step."""
BOUNDARY_ID = 0
"""Before and after every sentence."""
UNKNOWN_WORD_P = 1e-6
"""Probability of a word that the n-grams do not contain."""
MIN_TUNING_TOKENS = 50
"""With fewer, the n-gram order is 2 and not selected on held-out text."""
FINAL_PENALTY = -1e4
"""Log-probability of other tokens at the appended last step."""


class WordModel(Protocol):
    """A language model of words."""

    def log_p(self, history: tuple[str, ...], word: str | None) -> float:
        """Log p(word | history) in nats; None: the end of the sentence."""


class NgramWordModel:
    """Interpolated Kneser-Ney over the words of sentences; see `KneserNey`."""

    def __init__(self, sentences: Sequence[str]) -> None:
        split = [sentence.split() for sentence in sentences]
        vocabulary = sorted({word for words in split for word in words})
        self.ids = {word: k for k, word in enumerate(vocabulary, 1)}
        ids = [[*(self.ids[word] for word in words), BOUNDARY_ID] for words in split]
        tokens = np.array([BOUNDARY_ID, *itertools.chain(*ids)], np.int64)
        size = len(self.ids) + 1
        held_out = max(2, len(tokens) // 10)
        order = 2
        if len(tokens) > MIN_TUNING_TOKENS:
            order = fit_kneser_ney(tokens[:-held_out], tokens[-held_out:], size).order
        self._model = KneserNey(tokens, size, order)
        self._cache: dict[tuple[int, ...], float] = {}

    def log_p(self, history: tuple[str, ...], word: str | None) -> float:
        """See `WordModel`."""
        length = self._model.order - 1
        context = [self.ids.get(w, -1) for w in history[-length:]]
        context = [BOUNDARY_ID, *context] if len(context) < length else context
        key = (*context, BOUNDARY_ID if word is None else self.ids.get(word, -1))
        if key not in self._cache:
            known = key[-1] >= 0
            p = float(self._model.probabilities(np.array(key))[-1]) if known else UNKNOWN_WORD_P
            self._cache[key] = math.log(p)
        return self._cache[key]


class LexiconSearch:
    """Finds the word sequence that maximises

    log p(letters | signal) + weight · log p(words) + bonus · number of words
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
        self.lexicon = list(lexicon)
        # With characters, a space ends every word and may be repeated between words. Subwords
        # include their space; the end token, which no model of signals emits, replaces it.
        self._space = codec.text.token_ids.get(" ") if codec.text.unit == "char" else None
        size, separator = codec.output_size, END_ID if self._space is None else self._space
        trie = decoder.Trie(size, separator)
        self._language = _flashlight_model(decoder, model, self.lexicon)
        start = self._language.start(False)
        for index, word in enumerate(self.lexicon):
            if self._space is None:
                tokens = codec.targets(f" {word}")
            else:
                tokens = [*codec.targets(word), self._space]
            if tokens:
                _, score = self._language.score(start, index)
                trie.insert(tokens, index, score)
        trie.smear(decoder.SmearingMode.MAX)
        options = decoder.LexiconDecoderOptions(
            beam_size=BEAM_SIZE,
            beam_size_token=min(size, MAX_BEAM_TOKENS),
            beam_threshold=50.0,
            lm_weight=weight,
            word_score=bonus,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=decoder.CriterionType.CTC,
        )
        self._decoder = decoder.LexiconDecoder(
            options, trie, self._language, separator, BLANK_ID, -1, [], False
        )

    def decode(self, log_p: np.ndarray) -> str:
        """The best words for log-probabilities [T, V]."""
        emissions = np.ascontiguousarray(log_p, np.float32)
        if self._space is not None:  # a free last step for the space that ends the last word
            end = np.full((1, emissions.shape[1]), FINAL_PENALTY, np.float32)
            end[0, [BLANK_ID, self._space]] = 0
            emissions = np.concatenate([emissions, end])
        results = self._decoder.decode(emissions.ctypes.data, *emissions.shape)
        if not results:
            return ""
        return " ".join(self.lexicon[k] for k in results[0].words if k >= 0)


def lexicon_search(
    codec: SignalCodec, weight: float, bonus: float, model: WordModel | None = None
) -> LexiconSearch:
    """A search over the words of the training transcripts.

    model   the language model; by default n-grams of the training transcripts
    """
    lexicon = sorted({word for sentence in codec.sentences for word in sentence.split()})
    model = model or _ngram_model(codec.sentences)
    return LexiconSearch(codec, model, lexicon, weight=weight, bonus=bonus)


def selected_search(
    model: Transcriber, codec: SignalCodec, word_model: WordModel | None = None
) -> LexiconSearch | None:
    """The search with the weights selected in training.

    None where no search was selected and no `word_model` is given, or there is no lexicon.
    """
    weight, bonus = model.search.tolist()
    has_words = any(sentence.split() for sentence in codec.sentences)
    if not has_words or (weight < 0 and word_model is None):
        return None
    return lexicon_search(codec, abs(weight), bonus, word_model)


@lru_cache(maxsize=4)
def _ngram_model(sentences: tuple[str, ...]) -> NgramWordModel:
    return NgramWordModel(sentences)


def _flashlight_model(decoder: Any, model: WordModel, lexicon: Sequence[str]) -> Any:
    """A `WordModel` as a language model of flashlight-text."""

    class FlashlightModel(decoder.LM):  # type: ignore[misc]
        def __init__(self) -> None:
            decoder.LM.__init__(self)
            self.histories: dict[Any, tuple[str, ...]] = {}

        def start(self, start_with_nothing: bool) -> Any:
            state = decoder.LMState()
            self.histories = {state: ()}
            return state

        def score(self, state: Any, index: int) -> tuple[Any, float]:
            history = self.histories[state]
            child = state.child(index)
            self.histories.setdefault(child, (*history, lexicon[index]))
            return child, model.log_p(history, lexicon[index])

        def finish(self, state: Any) -> tuple[Any, float]:
            child = state.child(len(lexicon))
            self.histories.setdefault(child, self.histories[state])
            return child, model.log_p(self.histories[state], None)

    return FlashlightModel()
