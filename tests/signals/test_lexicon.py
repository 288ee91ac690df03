"""Lexicon search: against all sentences, and the n-gram model as a distribution."""

import itertools
import math

import numpy as np
import pytest

from memorycell.language.codec import fit_text_codec
from memorycell.signals import ctc
from memorycell.signals.lexicon import LexiconSearch, NgramWordModel
from memorycell.signals.strokes import StrokeCodec

TRANSCRIPTS = ("ab cab", "cab", "bad cab ab", "ab ab")
CODEC = StrokeCodec(text=fit_text_codec(TRANSCRIPTS, "char", vocabulary=50), sentences=TRANSCRIPTS)


def random_log_p(steps: int, size: int, seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, 2, (steps, size))
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def test_ngrams_are_a_distribution():
    ngrams = NgramWordModel(TRANSCRIPTS * 4)
    for history in ((), ("ab",), ("cab", "ab"), ("never",)):
        total = sum(math.exp(ngrams.log_p(history, word)) for word in [*ngrams.ids, None])
        assert total == pytest.approx(1, abs=1e-6)
    assert ngrams.log_p(("bad",), "cab") > ngrams.log_p(("bad",), "bad")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("weight", "bonus"), [(0.0, 0.0), (1.5, 0.5)])
def test_the_search_finds_the_best_of_all_sentences(seed, weight, bonus):
    """All sentences of up to three words, each with its best alignment."""
    log_p = random_log_p(9, CODEC.output_size, seed)
    lexicon = sorted({w for s in TRANSCRIPTS for w in s.split()})
    ngrams = NgramWordModel(TRANSCRIPTS * 4)

    def best_path(words: tuple[str, ...]) -> float:
        """Spaces before and between words may be repeated."""
        gaps = itertools.product(
            ["", " ", "  "], *[[" ", "  ", "   "]] * (len(words) - 1), ["", " ", "  "]
        )
        return max(
            of_text("".join(g + w for g, w in zip(gap, words, strict=False)) + gap[-1])
            for gap in gaps
        )

    def of_text(text: str) -> float:
        tokens = [0]
        for token in CODEC.targets(text):
            tokens += [token, 0]
        score = np.full(len(tokens), -np.inf)
        for t, row in enumerate(log_p):
            before = score.copy()
            for s, token in enumerate(tokens):
                from_ = [before[s]] + ([before[s - 1]] if s else [])
                if s > 1 and token != 0 and token != tokens[s - 2]:
                    from_.append(before[s - 2])
                score[s] = (max(from_) if t else (0.0 if s < 2 else -np.inf)) + row[token]
        return max(score[-1], score[-2])

    def total(words: tuple[str, ...]) -> float:
        language = sum(ngrams.log_p(words[:k], word) for k, word in enumerate(words))
        language += ngrams.log_p(words, None)
        return best_path(words) + weight * language + bonus * len(words)

    sentences = [words for n in (1, 2, 3) for words in itertools.product(lexicon, repeat=n)]
    best = max(sentences, key=total)
    search = LexiconSearch(CODEC, ngrams, lexicon, weight=weight, bonus=bonus)
    found = tuple(search.decode(log_p).split())
    assert total(found) == pytest.approx(total(best), abs=1e-3)


def test_subwords_include_their_spaces():
    transcripts = ("ab cab dab", "cab bad", "bad cab ab", "dab dab ab") * 6
    text_codec = fit_text_codec(transcripts, "piece", vocabulary=14)
    codec = StrokeCodec(text=text_codec, sentences=transcripts)
    lexicon = sorted({w for s in transcripts for w in s.split()})
    search = LexiconSearch(codec, NgramWordModel(transcripts), lexicon, weight=1.0, bonus=0.0)
    for text in ("cab bad", "ab dab"):
        path = [t for token in codec.targets(text) for t in (0, token)]
        log_p = np.full((len(path), codec.output_size), -12.0)
        log_p[np.arange(len(path)), path] = -0.01
        assert ctc.letters_to_text(codec, ctc.greedy_letters(log_p)) == text
        assert search.decode(log_p) == text
