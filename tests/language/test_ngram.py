"""The n-gram baseline against a dictionary implementation and an example worked out by hand."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorycell.language.ngram import KneserNey, fit_kneser_ney

tokens = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(lambda v: np.array(v, np.int64))


def plain(train: list[int], vocabulary: int, order: int):
    """p(w | history) by the definition, one n-gram at a time."""
    counts = [
        Counter(tuple(train[k : k + n]) for k in range(len(train) - n + 1))
        for n in range(1, order + 1)
    ]
    levels = []
    for n in range(1, order + 1):
        if n == order:
            count = dict(counts[n - 1])
        else:  # the number of its contexts; the n-gram at the start counts once
            before = defaultdict(set)
            for gram in counts[n]:
                before[gram[1:]].add(gram[0])
            count = {gram: max(1, len(before[gram])) for gram in counts[n - 1]}
        once, twice = (sum(v == k for v in count.values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once and twice else 0.5
        total, kinds = Counter(), Counter()
        for gram, value in count.items():
            total[gram[:-1]] += value
            kinds[gram[:-1]] += 1
        levels.append((count, discount, total, kinds))

    def probability(history: tuple[int, ...], word: int) -> float:
        p = 1 / vocabulary
        for n, (count, discount, total, kinds) in enumerate(levels):
            if n > len(history):
                break
            context = history[len(history) - n :]
            if context not in total:
                break
            own = max(count.get((*context, word), 0) - discount, 0)
            p = (own + discount * kinds[context] * p) / total[context]
        return p

    return probability


@given(tokens, tokens, st.integers(1, 4))
def test_probabilities_equal_the_definition(train, text, order):
    model, expected = KneserNey(train, 5, order), plain(train.tolist(), 5, order)
    text_list = text.tolist()
    wanted = [
        expected(tuple(text_list[max(0, k - order + 1) : k]), w) for k, w in enumerate(text_list)
    ]
    np.testing.assert_allclose(model.probabilities(text), wanted, rtol=1e-10)


@given(tokens, st.lists(st.integers(0, 4), max_size=4), st.integers(1, 4))
def test_probabilities_sum_to_one(train, history, order):
    model = KneserNey(train, 5, order)
    total = sum(model.probabilities(np.array([*history, w]))[-1] for w in range(5))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_a_bigram_by_hand():
    # a b a b a c: bigrams ab 2, ba 2, ac 1; n1 = 1, n2 = 2: D = 1/5.
    # contexts: b after {a} 1, a after {b} 1, c after {a} 1: all seen once, no twos: D = 0.5.
    model = KneserNey(np.array([0, 1, 0, 1, 0, 2]), 3, 2)
    lower_b = (1 - 0.5) / 3 + 0.5 * 3 / 3 / 3
    assert model.probabilities(np.array([0, 1]))[1] == pytest.approx(
        (2 - 0.2) / 3 + 0.2 * 2 / 3 * lower_b
    )


def test_the_order_is_selected_on_the_validation_split():
    rng = np.random.default_rng(0)
    draw = rng.integers(0, 3, 4000)
    text = np.cumsum(draw % 2) % 4  # only the last token matters
    model = fit_kneser_ney(text[:3000], text[3000:], 4)
    assert model.order in (2, 3)  # a third token has no information, but does little harm
    nats = float(-np.log(model.probabilities(text[3000:])[1:]).mean())
    assert nats == pytest.approx(math.log(3) - (2 / 3) * math.log(2), abs=0.05)
