"""The table of n-grams in a model file, and the mixture of a network with it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorycell.application.modelfile import _built
from memorycell.language.mixing import NGramMix, Sequences, fit_weights
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.language.ngram import KneserNey
from memorycell.language.ngram_fitting import mix_where_better
from memorycell.language.ngram_trie import (
    CHILD_BIT,
    LAST_BIT,
    NGramTrie,
    pack,
    pack_counts,
    unpack_counts,
)
from memorycell.models.heads import IGNORE
from memorycell.proof import prove
from memorycell.streaming.stream import Stream

SIZE = 5
tokens = st.lists(st.integers(0, SIZE - 1), min_size=3, max_size=60).map(
    lambda v: np.array(v, np.int64)
)


def table(train, order):
    return NGramTrie(*pack(KneserNey(train, SIZE, order)), SIZE)


@given(tokens, tokens, st.integers(2, 4))
def test_probabilities_are_those_of_the_n_gram_model(train, text, order):
    trie = table(train, order)
    expected = KneserNey(train, SIZE, order).probabilities(text)
    context = trie.contexts(text[None], np.zeros((1, trie.order - 1), np.int64), None)[0]
    p = trie.probabilities(context[:-1])
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    # The discounts are float32.
    np.testing.assert_allclose(p[np.arange(len(p)), text[1:]], expected[1:], rtol=1e-6)
    target = trie.target_probabilities(context[:-1], text[1:])
    np.testing.assert_allclose(target, expected[1:], rtol=1e-6)


@given(tokens, tokens, st.integers(2, 4), st.data())
def test_contexts_in_steps_and_in_parts_are_those_of_the_whole(train, text, order, data):
    trie = table(train, order)
    start = np.zeros((1, trie.order - 1), np.int64)
    reset = np.array([data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))])
    whole = trie.contexts(text[None], start, reset)[0]
    now, steps = start, []
    for token, new in zip(text, reset[0], strict=True):
        now = trie.step(start if new else now, np.array([token]))
        steps.append(now[0])
    np.testing.assert_array_equal(whole, steps)
    cut = data.draw(st.integers(1, len(text) - 1))
    rest = trie.contexts(text[None, cut:], whole[None, cut - 1], reset[:, cut:])[0]
    np.testing.assert_array_equal(rest, whole[cut:])


@given(st.integers(1, 30_000_000))
def test_counts_are_exact_below_512_and_close_above(count):
    found = int(unpack_counts(pack_counts(np.array([count])))[0])
    assert found == count if count < 512 else abs(found - count) <= count / 32


def test_damaged_tables_are_refused():
    packed, discounts = pack(KneserNey(np.arange(40) % SIZE, SIZE, 3))
    NGramTrie(packed, discounts, SIZE)
    for at in range(len(packed)):
        for bit in (CHILD_BIT, LAST_BIT, 1 << 19):  # a flag, or a token out of range
            damaged = packed.copy().view(np.uint32)
            damaged[at] ^= bit
            with pytest.raises(ValueError, match="n-gram table"):
                NGramTrie(damaged.view(np.int32), discounts, SIZE)
    with pytest.raises(ValueError, match="discount"):
        NGramTrie(packed, np.full(3, np.nan, np.float32), SIZE)


def test_weights_are_those_of_highest_likelihood():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 20_000))
    weights = fit_weights(first, second, np.zeros(20_000, np.int64), 2)
    grid = np.linspace(0, 1, 201)
    losses = [-np.log((1 - w) * first + w * second).mean() for w in grid]
    assert weights[0] == pytest.approx(grid[np.argmin(losses)], abs=0.01)
    assert weights[1] == pytest.approx(weights[0], abs=0.01)  # without tokens: as the others


@pytest.fixture(scope="module")
def mixed():
    """An untrained network with the n-gram model of a text."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    text = np.cumsum(rng.integers(0, 3, 900)) % SIZE
    sizes = {"vocabulary": SIZE, "hidden_size": 6, "embedding_size": 4, "tied": False}
    model = LanguageModel(LanguageConfig(**sizes)).eval()
    valid = torch.from_numpy(text[600:])[None]
    target = valid[:, 1:].clone()
    target[0, :40] = IGNORE
    data = Sequences(valid[:, :-1], target)
    alone = model.network_nats(data.x, data.target)
    note = mix_where_better(model, KneserNey(text[:600], SIZE, 3), [data])
    return model, data, alone, note


def test_the_mixture_is_better_than_both_and_says_so(mixed):
    model, data, alone, note = mixed
    count = int((data.target >= 0).sum())
    nats = model.nats(data.x, data.target)
    assert (nats[0, :40] == 0).all()
    assert float(nats.sum()) < float(alone.sum())
    assert f"mixed {float(nats.sum()) / count:.4f}" in note
    assert note.startswith("mixed with the 3-gram")


def test_forward_and_nats_agree(mixed):
    model, data, _, _ = mixed
    log_p, _ = model(data.x)
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(1), atol=1e-5)
    wanted = -log_p.gather(-1, data.target.clamp(min=0)[..., None])[..., 0]
    nats = model.nats(data.x, data.target)
    assert torch.allclose(nats[:, 40:], wanted[:, 40:], atol=1e-5)


def test_all_ways_to_run_a_mixed_model_agree(mixed):
    model, data, _, _ = mixed
    proof = prove(model, data.x[0, :60, None].float().numpy(), precisions=["float32"])
    assert proof.ok
    assert len(proof.checks) >= 5
    assert "mix=no" in proof.skipped["onnx in float32"]


def test_a_state_of_other_tokens_is_no_context(mixed):
    model, _, _, _ = mixed
    stream = Stream(model)
    stream.row[0, -model.ngram.order + 1 :] = [3e38, -2.0][: model.ngram.order - 1]
    assert np.exp(stream.step([1.0])).sum() == pytest.approx(1, abs=1e-5)


def test_a_model_file_keeps_the_table(mixed):
    model, data, _, _ = mixed
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    again = _built(LanguageModel, model.config, weights).eval()
    assert torch.equal(again.nats(data.x, data.target), model.nats(data.x, data.target))
    weights["ngram.packed"][0] = 0
    with pytest.raises(ValueError, match="n-gram table"):
        _built(LanguageModel, model.config, weights)


def test_no_mixture_where_it_does_not_help():
    torch.manual_seed(0)
    sizes = {"vocabulary": SIZE, "hidden_size": 6, "embedding_size": 4}
    model = LanguageModel(LanguageConfig(**sizes)).eval()
    rng = np.random.default_rng(1)
    text = torch.from_numpy(rng.integers(0, SIZE, 300))[None]  # nothing to learn
    note = mix_where_better(
        model,
        KneserNey(np.zeros(50, np.int64), SIZE, 2),
        [Sequences(text[:, :-1], text[:, 1:])],
    )
    assert note.startswith("not mixed")
    assert model.ngram is None


def test_a_table_too_large_is_left_out(mixed, monkeypatch):
    monkeypatch.setattr("memorycell.language.mixing.MAX_NODES", 10)
    assert NGramMix.of(KneserNey(np.arange(40) % SIZE, SIZE, 3)) is None
