"""CTC: the loss against all alignments, greedy decoding, and transcripts."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorycell.language.codec import fit_text_codec
from memorycell.models.heads import CTC
from memorycell.signals import ctc
from memorycell.signals.codec import min_ctc_steps, normalise_transcript
from memorycell.signals.strokes import StrokeCodec

TRANSCRIPTS = ("ab cab", "cab", "bad cab ab", "ab ab")
CODEC = StrokeCodec(text=fit_text_codec(TRANSCRIPTS, "char", vocabulary=50), sentences=TRANSCRIPTS)


def random_log_p(steps: int, size: int, seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, 2, (steps, size))
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def collapse(path) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


@pytest.mark.parametrize("target", [(1,), (1, 2), (1, 1), (2, 1, 2)])
def test_loss_is_the_sum_over_all_alignments(target):
    head = CTC(5, 3).double()
    hidden = torch.randn(2, 5, 5, dtype=torch.float64)
    log_p = head(hidden)
    targets = torch.tensor([[*target, 0, 0, 0][:4], [1, 0, 0, 0]])
    nats = head.loss(log_p, torch.tensor([5, 4]), targets)
    for row, (steps, expected) in enumerate(((5, target), (4, (1,)))):
        p = log_p[row].detach().exp().numpy()
        total = sum(
            math.prod(p[t, token] for t, token in enumerate(path))
            for path in itertools.product(range(3), repeat=steps)
            if collapse(path) == expected
        )
        assert float(nats[row].detach()) == pytest.approx(-math.log(total), rel=1e-5)


def test_loss_of_a_target_that_is_too_long_is_zero():
    head = CTC(5, 3)
    nats = head.loss(head(torch.randn(1, 2, 5)), torch.tensor([2]), torch.tensor([[1, 1]]))
    assert float(nats.detach()) == 0
    assert [min_ctc_steps(t) for t in ((), (1,), (1, 1), (1, 2, 2, 2))] == [0, 1, 3, 6]


@given(seed=st.integers(0, 500), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_greedy_decoding_in_chunks_is_that_of_the_full_sequence(seed, cuts):
    log_p = random_log_p(40, 4, seed)
    letters = ctc.greedy_letters(log_p)
    assert tuple(x.token for x in letters) == collapse(log_p.argmax(1))
    for letter in letters:
        assert (log_p[letter.begin : letter.end].argmax(1) == letter.token).all()
        assert letter.p == pytest.approx(float(np.exp(log_p[letter.begin : letter.end].max())))
    decoder = ctc.GreedyDecoder()
    for part in np.split(log_p, sorted(cuts)):
        decoder.feed(part)
    assert decoder.letters == letters


def test_words_have_the_times_of_their_letters():
    ids = CODEC.text.token_ids
    path = [0, ids["a"], ids["b"], 0, ids[" "], 0, ids["c"], ids["c"], 0, ids["a"]]
    log_p = np.full((len(path), CODEC.output_size), -9.0)
    log_p[np.arange(len(path)), path] = -0.1
    letters = ctc.greedy_letters(log_p)
    words = ctc.letters_to_words(CODEC, letters)
    assert [(w.word, w.begin, w.end) for w in words] == [("ab", 1, 3), ("ca", 6, 10)]
    assert [w.p for w in words] == pytest.approx([math.exp(-0.1)] * 2)
    assert ctc.letters_to_text(CODEC, letters) == "ab ca"


def test_transcripts_are_normalised():
    assert normalise_transcript("Press 1, or “hang up”!  [beep]") == "press 1 or hang up"
    assert normalise_transcript("<beep> (a tone)") == ""
    assert normalise_transcript("That’s 'fine'") == "that's fine"
    assert normalise_transcript("नमस्ते दुनिया।") == "नमस्ते दुनिया"
