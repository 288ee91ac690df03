"""From letters at every step to text: the loss against all alignments, the search against all
sentences.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorycell.language.codec import fit
from memorycell.models.heads import CTC
from memorycell.signals import ctc
from memorycell.signals.codec import SignalCodec, frames_needed, spoken
from memorycell.signals.dtw import NearestByWarping

SAID = ("ab cab", "cab", "bad cab ab", "ab ab")
CODEC = SignalCodec(text=fit(SAID, "char", vocabulary=50), sentences=SAID)


def random_log_p(steps: int, size: int, seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, 2, (steps, size))
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def collapsed(path) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


@pytest.mark.parametrize("target", [(1,), (1, 2), (1, 1), (2, 1, 2)])
def test_the_loss_is_the_sum_over_all_alignments(target):
    head = CTC(5, 3).double()
    hidden = torch.randn(2, 5, 5, dtype=torch.float64)
    log_p = head(hidden)
    targets = torch.tensor(
        [[*target, 0], [1, 0, 0, 0]][:2]
        if len(target) == 3
        else [[*target, 0, 0, 0][:4], [1, 0, 0, 0]]
    )
    nats = head.loss(log_p, torch.tensor([5, 4]), targets)
    for row, (steps, wanted) in enumerate(((5, target), (4, (1,)))):
        p = log_p[row].detach().exp().numpy()
        total = sum(
            math.prod(p[t, token] for t, token in enumerate(path))
            for path in itertools.product(range(3), repeat=steps)
            if collapsed(path) == wanted
        )
        assert float(nats[row].detach()) == pytest.approx(-math.log(total), rel=1e-5)


def test_what_does_not_fit_costs_nothing():
    head = CTC(5, 3)
    nats = head.loss(head(torch.randn(1, 2, 5)), torch.tensor([2]), torch.tensor([[1, 1]]))
    assert float(nats.detach()) == 0
    assert [frames_needed(t) for t in ((), (1,), (1, 1), (1, 2, 2, 2))] == [0, 1, 3, 6]


@given(seed=st.integers(0, 500), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_greedy_letters_in_pieces_are_those_of_the_whole(seed, cuts):
    log_p = random_log_p(40, 4, seed)
    whole = ctc.greedy(log_p)
    assert tuple(x.token for x in whole) == collapsed(log_p.argmax(1))
    for letter in whole:
        assert (log_p[letter.begin : letter.end].argmax(1) == letter.token).all()
        assert letter.p == pytest.approx(float(np.exp(log_p[letter.begin : letter.end].max())))
    pieces = ctc.Spelling()
    for part in np.split(log_p, sorted(cuts)):
        pieces.read(part)
    assert pieces.letters == whole


def test_words_have_the_times_of_their_letters():
    numbers = CODEC.text.numbers
    path = [
        0,
        numbers["a"],
        numbers["b"],
        0,
        numbers[" "],
        0,
        numbers["c"],
        numbers["c"],
        0,
        numbers["a"],
    ]
    log_p = np.full((len(path), CODEC.outputs_size), -9.0)
    log_p[np.arange(len(path)), path] = -0.1
    letters = ctc.greedy(log_p)
    assert [(w.word, w.begin, w.end) for w in ctc.words(CODEC, letters)] == [
        ("ab", 1, 3),
        ("ca", 6, 10),
    ]
    assert ctc.text(CODEC, letters) == "ab ca"


def test_the_grams_are_a_distribution():
    grams = ctc.Grams(SAID * 4)
    for history in ((), ("ab",), ("cab", "ab"), ("never",)):
        total = sum(math.exp(grams.after(history, word)) for word in [*grams.numbers, None])
        assert total == pytest.approx(1, abs=1e-6)
    assert grams.after(("bad",), "cab") > grams.after(("bad",), "bad")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("weight", "bonus"), [(0.0, 0.0), (1.5, 0.5)])
def test_the_search_finds_the_best_of_all_sentences(seed, weight, bonus):
    """All sentences of up to three words, each with its likeliest alignment."""
    log_p = random_log_p(9, CODEC.outputs_size, seed)
    lexicon = sorted({w for s in SAID for w in s.split()})
    grams = ctc.Grams(SAID * 4)

    def best_path(words: tuple[str, ...]) -> float:
        """Blanks before and between words may be said more than once."""
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
        language = sum(grams.after(words[:k], word) for k, word in enumerate(words)) + grams.after(
            words, None
        )
        return best_path(words) + weight * language + bonus * len(words)

    sentences = [words for n in (1, 2, 3) for words in itertools.product(lexicon, repeat=n)]
    best = max(sentences, key=total)
    search = ctc.LexiconSearch(CODEC, grams, lexicon, weight=weight, bonus=bonus)
    found = tuple(search.find(log_p).split())
    assert total(found) == pytest.approx(total(best), abs=1e-3)


def test_spoken_words_of_transcripts():
    assert spoken("Press 1, or “hang up”!  [beep]") == "press 1 or hang up"
    assert spoken("<beep> (a tone)") == ""
    assert spoken("That’s 'fine'") == "that's fine"
    assert spoken("नमस्ते दुनिया।") == "नमस्ते दुनिया"


def test_warping_is_the_recurrence():
    rng = np.random.default_rng(0)
    known = [rng.normal(size=(n, 3)) for n in (1, 4, 7, 7, 12, 30)]
    nearest = NearestByWarping(known, np.arange(6))
    for length in (1, 5, 13):
        query = rng.normal(size=(length, 3))
        found = dict(zip(nearest.classes.tolist(), nearest.distances(query), strict=True))
        for k, other in enumerate(known):
            cost = np.full((length + 1, len(other) + 1), np.inf)
            cost[0, 0] = 0
            for i, j in itertools.product(range(length), range(len(other))):
                step = ((query[i] - other[j]) ** 2).sum()
                cost[i + 1, j + 1] = step + min(cost[i, j + 1], cost[i + 1, j], cost[i, j])
            assert found[k] == pytest.approx(cost[-1, -1] / (length + len(other)), rel=1e-4)
    assert nearest.classify([known[3], known[5] + 1e-3]).tolist() == [3, 5]


def test_pieces_of_words_bring_their_blanks():
    said = ("ab cab dab", "cab bad", "bad cab ab", "dab dab ab") * 6
    codec = SignalCodec(text=fit(said, "piece", vocabulary=14), sentences=said)
    for text in ("cab bad", "ab dab"):
        tokens = codec.targets(text)
        path = [t for token in tokens for t in (0, token)]
        log_p = np.full((len(path), codec.outputs_size), -12.0)
        log_p[np.arange(len(path)), path] = -0.01
        assert ctc.text(codec, ctc.greedy(log_p)) == text
        lexicon = sorted({w for s in said for w in s.split()})
        assert (
            ctc.LexiconSearch(codec, ctc.Grams(said), lexicon, weight=1.0, bonus=0.0).find(log_p)
            == text
        )
