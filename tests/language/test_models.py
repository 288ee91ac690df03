"""Language models, classifiers and translators: compared with torch's layers, single with batched,
full sequences with steps.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from memorycell.applications.translation.model import PairBatch, Translator, TranslatorConfig
from memorycell.applications.translation.search import UNKNOWN_PENALTY, beam_search
from memorycell.language.codec import END_ID, UNKNOWN_ID
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.language.search import sample
from memorycell.models.batches import LaneBatch, PaddedBatch, by_length, padded
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.models.heads import IGNORE, Classify, NextStep
from memorycell.nn.attention import Attention
from memorycell.nn.regularise import dropout
from memorycell.streaming.stream import Stream

torch.manual_seed(0)


def language(**options) -> LanguageModel:
    torch.manual_seed(1)
    model = LanguageModel(
        LanguageConfig(
            **{"vocabulary": 11, "embedding_size": 7, "hidden_size": 9, "num_layers": 2, **options}
        )
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_equals_torch(tied):
    model = language(tied=tied)
    lstm = nn.LSTM(7, 9, 2, batch_first=True)
    lstm.load_state_dict(model.recurrent.state_dict())
    x, y = torch.randint(0, 11, (3, 17)), torch.randint(0, 11, (3, 17))
    y[0, 5:] = IGNORE
    hidden = lstm(F.embedding(x, model.embedding.weight))[0]
    if tied:
        scores = hidden @ model.head.project.weight.T @ model.embedding.weight.T + model.head.bias
    else:
        scores = hidden @ model.head.weight.T + model.head.bias
    expected = F.cross_entropy(scores[y != IGNORE], y[y != IGNORE])
    loss, _ = model.loss(LaneBatch(x, y, torch.zeros(3, 17, dtype=torch.bool), False), None)
    torch.testing.assert_close(loss, expected)
    ours = torch.autograd.grad(loss, list(model.recurrent.parameters()))
    theirs = torch.autograd.grad(expected, list(lstm.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model(x)[0], F.log_softmax(scores, -1), rtol=1e-4, atol=1e-5)
    masked = torch.where(
        y == IGNORE, 0, -F.log_softmax(scores, -1).gather(2, y.clamp(min=0)[..., None])[..., 0]
    )
    torch.testing.assert_close(model.nats(x, y, chunk=5), masked, rtol=1e-4, atol=1e-5)


def test_steps_of_a_language_model_equal_the_full_sequence():
    model = language()
    x = torch.randint(0, 11, (1, 20))
    full = model(x)[0][0].detach().numpy()
    stream = Stream(model, history=4)
    steps = np.stack([stream.step([float(t)]) for t in x[0]])
    np.testing.assert_allclose(steps, full, atol=2e-6)
    np.testing.assert_allclose(np.exp(steps).sum(1), 1, atol=1e-5)


def test_activation_regularisation():
    model = language(activation=2.0, slowness=1.0).train()
    x, y = torch.randint(0, 11, (2, 6)), torch.randint(0, 11, (2, 6))
    hidden = model.hidden(x, None)[0]
    plain = F.cross_entropy(model.head(hidden, model.embedding.weight).flatten(0, 1), y.flatten())
    expected = plain + 2 * hidden.square().mean() + (hidden[:, 1:] - hidden[:, :-1]).square().mean()
    torch.testing.assert_close(
        model.loss(LaneBatch(x, y, torch.zeros(2, 6, dtype=torch.bool), False), None)[0], expected
    )


def classifier(pooling: str, bidirectional: bool, **options) -> Classifier:
    torch.manual_seed(2)
    model = Classifier(
        ClassifierConfig(
            vocabulary=12,
            input_size=5,
            hidden_size=6,
            classes=3,
            pooling=pooling,
            bidirectional=bidirectional,
            **options,
        )
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("pooling", ["attention", "max", "last"])
def test_a_classifier_single_batched_and_live(pooling, bidirectional, pairs):
    model = classifier(pooling, bidirectional, pairs=pairs)
    rows = [np.random.default_rng(k).integers(0, 12, n) for k, n in enumerate((1, 7, 4, 17))]
    together = model.classify(*padded(rows))
    torch.testing.assert_close(together.exp().sum(-1), torch.ones(4))
    for k, row in enumerate(rows):
        torch.testing.assert_close(
            model.classify(*padded([row]))[0], together[k], rtol=1e-4, atol=1e-5
        )
    if bidirectional:
        with pytest.raises(ValueError, match="bidirectional"):
            Stream(model)
        return
    for k, row in enumerate(rows):  # live, in any chunks
        stream = Stream(model)
        for token in row[:3]:
            last = stream.step([float(token)])
        for chunk in np.split(row[3:], [2]) if len(row) > 3 else []:
            if len(chunk):
                last = stream.step(chunk[:, None].astype(np.float32))[-1]
        np.testing.assert_allclose(last, together[k].detach().numpy(), atol=1e-5)
        at_once = Stream(model, history=0)
        at_once.step(row[:, None].astype(np.float32))
        for name, value in stream.state.asdict().items():
            torch.testing.assert_close(value, getattr(at_once.state, name), rtol=1e-4, atol=1e-5)


def test_poolings_equal_their_definitions():
    row = torch.randint(0, 12, (1, 8))
    for pooling in ("max", "last", "attention"):
        model = classifier(pooling, False)
        hidden = model.recurrent(model.embedding(row))[0][0]
        if pooling == "max":
            z = hidden.max(0).values
        elif pooling == "last":
            z = hidden[-1]
        else:
            inner = torch.tanh(hidden @ model.pool.inner.weight.T + model.pool.inner.bias)
            share = (inner @ model.pool.score.weight.T).softmax(0)
            z = (share * hidden).sum(0)
        expected = F.log_softmax(z @ model.head.linear.weight.T + model.head.linear.bias, -1)
        torch.testing.assert_close(
            model.classify(row, torch.tensor([8]))[0], expected, rtol=1e-4, atol=1e-5
        )


def test_weighted_and_soft_targets():
    model = classifier("max", True)
    model.class_weight.copy_(torch.tensor([1.0, 3.0, 0.5]))
    x, lengths = padded([np.arange(4), np.arange(9)])
    soft = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0]])
    log_p = model.classify(x, lengths)
    expected = -(log_p * soft * model.class_weight).sum() / 2
    torch.testing.assert_close(model.loss(PaddedBatch(x, lengths, soft), None)[0], expected)


def test_calibration_recovers_a_temperature():
    torch.manual_seed(0)
    scores = torch.randn(4000, 3) * 2
    target = torch.distributions.Categorical(logits=scores).sample()
    head = Classify(3, 3)
    head.calibrate(F.log_softmax(scores * 2.5, -1), target)
    assert float(head.temperature) == pytest.approx(2.5, rel=0.1)


def translator(**options) -> Translator:
    torch.manual_seed(3)
    model = Translator(
        TranslatorConfig(
            **{
                "vocabulary": 9,
                "source_vocabulary": 8,
                "embedding_size": 6,
                "hidden_size": 10,
                "smoothing": 0.0,
                **options,
            }
        )
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def test_attention_is_a_weighted_mean():
    layer = Attention(4, 3)
    q, m = torch.randn(2, 5, 4), torch.randn(2, 6, 3)
    is_padding = torch.zeros(2, 6, dtype=torch.bool)
    is_padding[1, 4:] = True
    context, weights = layer(q, layer.keys(m), m, is_padding)
    scores = torch.einsum("btq,qm,bsm->bts", q, layer.key.weight, m) / 2
    expected = torch.where(is_padding[:, None], 0, scores.exp())
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(context, expected @ m)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_translator_by_steps_and_in_a_batch(cell):
    model = translator(cell=cell, num_layers=2)
    sources = [np.random.default_rng(k).integers(2, 8, n) for k, n in enumerate((3, 9, 1))]
    x = torch.randint(0, 9, (3, 7))
    together, _, attention = model.decode(x, *model.encode(*padded(sources)))
    for k, row in enumerate(sources):
        source, state = model.encode(*padded([row]))
        steps = []
        for t in range(7):
            scores, state, weights = model.decode(x[k : k + 1, t : t + 1], source, state)
            torch.testing.assert_close(
                weights[0, 0], attention[k, t, : len(row)], rtol=1e-4, atol=1e-5
            )
            steps.append(scores[0, 0])
        torch.testing.assert_close(torch.stack(steps), together[k], rtol=1e-4, atol=1e-5)


def test_padding_has_no_loss():
    model = translator()
    pairs = [
        (np.array([3, 4]), np.array([1, 5, 1])),
        (np.array([2, 5, 6, 7]), np.array([1, 4, 6, 3, 8, 1])),
    ]

    def batch(which):
        source, lengths = padded([pairs[k][0] for k in which])
        return PairBatch(
            source,
            lengths,
            padded([pairs[k][1][:-1] for k in which])[0],
            padded([pairs[k][1][1:] for k in which], IGNORE)[0],
        )

    losses = [model.loss(batch([k]), None)[0] for k in (0, 1)]
    both = model.loss(batch([0, 1]), None)[0]
    assert batch([0, 1]).steps == 7
    torch.testing.assert_close(both, (2 * losses[0] + 5 * losses[1]) / 7)


@torch.no_grad()
def log_p_of(model, source, state, tokens):
    scores, _, _ = model.decode(torch.tensor([[END_ID, *tokens[:-1]]]), source, state)
    log_p = scores[0].log_softmax(-1)
    log_p[:, UNKNOWN_ID] -= UNKNOWN_PENALTY
    return float(log_p[torch.arange(len(tokens)), torch.tensor(tokens)].sum())


def test_a_wide_beam_finds_the_optimum():
    model = translator(vocabulary=5)
    with torch.no_grad():
        model.head.bias[END_ID] += 1.5
    source, lengths = padded([np.array([3, 4, 5])])
    encoded, state = model.encode(source, lengths)
    best = max(
        (log_p_of(model, encoded, state, [*body, END_ID]) / (len(body) + 1), body)
        for n in range(5)
        for body in np.ndindex(*([5] * n))
        if END_ID not in body
    )
    # At most four tokens.
    (found,) = beam_search(model, source, lengths, width=600, alpha=1.0, max_ratio=-4 / 3)
    assert tuple(found.tokens) == best[1]
    assert found.score == pytest.approx(best[0], abs=1e-5)
    assert found.score == pytest.approx(
        log_p_of(model, encoded, state, [*found.tokens, END_ID]) / (len(found.tokens) + 1), abs=1e-4
    )


def test_beam_search_greedy_and_batched():
    model = translator()
    sources = [np.array([3, 4, 5]), np.array([2]), np.array([7, 6, 5, 4, 3])]
    together = beam_search(model, *padded(sources), width=3)
    for row, found in zip(sources, together, strict=True):
        alone = beam_search(model, *padded([row]), width=3)[0]
        assert alone.tokens.tolist() == found.tokens.tolist()
        assert found.attention.shape == (len(found.tokens), len(row))
    encoded, state = model.encode(*padded([sources[0]]))
    greedy, token = [], torch.tensor([[END_ID]])
    for _ in range(14):
        scores, state, _ = model.decode(token, encoded, state)
        log_p = scores[0, 0].log_softmax(-1)
        log_p[UNKNOWN_ID] -= UNKNOWN_PENALTY
        token = log_p.argmax()[None, None]
        if int(token) == END_ID:
            break
        greedy.append(int(token))
    assert beam_search(model, *padded([sources[0]]), width=1)[0].tokens.tolist() == greedy


@pytest.mark.parametrize("required", [[2, 1], [0, 0], [1, 0]])
def test_copied_tokens_have_the_required_counts(required):
    for seed in range(5):
        model = translator()
        torch.manual_seed(seed)
        nn.init.normal_(model.head.bias, std=2.0)
        source, lengths = padded([np.array([3, 4, 5])])
        found = beam_search(
            model, source, lengths, width=3, copied=(7, 8), required=torch.tensor([required])
        )[0].tokens.tolist()
        assert [found.count(7), found.count(8)] == required


def test_sampling():
    rng = np.random.default_rng(0)
    log_p = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    frequencies = np.bincount([sample(log_p, rng) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(frequencies, np.exp(log_p), atol=0.03)
    assert {sample(log_p, rng, top_k=2) for _ in range(200)} == {0, 1}
    assert {sample(log_p, rng, top_p=0.79) for _ in range(200)} == {0, 1}
    assert {sample(log_p, rng, temperature=0) for _ in range(20)} == {0}
    cold = (
        np.bincount([sample(log_p, rng, temperature=0.5) for _ in range(4000)], minlength=4) / 4000
    )
    np.testing.assert_allclose(cold, np.exp(2 * log_p) / np.exp(2 * log_p).sum(), atol=0.03)


@pytest.mark.parametrize("budget", [1, 30, 10_000])
def test_batches_by_length(budget):
    lengths = np.random.default_rng(0).integers(1, 20, 101)
    batches = by_length(lengths, budget, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(101))
    assert all(len(b) == 1 or len(b) * lengths[b].max() <= budget for b in batches)
    again = by_length(lengths, budget, 0)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_next_step_smoothing():
    head = NextStep(3, 4)
    scores, target = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, IGNORE])
    log_p = scores[:4].log_softmax(-1)
    own = -log_p[torch.arange(4), target[:4]].mean()
    assert float(head.loss(scores[None], target[None])) == pytest.approx(float(own), rel=1e-5)
    smooth = 0.9 * own - 0.1 * log_p.mean()
    assert float(head.loss(scores[None], target[None], 0.1)) == pytest.approx(
        float(smooth), rel=1e-5
    )
    assert math.isfinite(float(smooth))


@pytest.mark.parametrize("p", [0.3, 0.5, 0.9])
def test_dropout_has_the_distribution_of_torch(p):
    torch.manual_seed(0)
    x = torch.ones(501, 397, requires_grad=True)
    y = dropout(x, p, True)
    dropped = (y == 0).double()
    assert float(dropped.mean()) == pytest.approx(p, abs=0.005)
    assert float(y.detach().mean()) == pytest.approx(1.0, abs=0.02)
    assert sorted(y.detach().unique().tolist()) == pytest.approx([0.0, 1 / (1 - p)], rel=1e-4)
    for axis in (0, 1):  # columns and rows are alike, neighbours independent
        assert float((dropped.mean(axis) - p).abs().max()) < 6 * math.sqrt(p * (1 - p) / 397)
    assert (
        abs(
            float(
                torch.corrcoef(torch.stack([dropped[:, :-1].flatten(), dropped[:, 1:].flatten()]))[
                    0, 1
                ]
            )
        )
        < 0.01
    )
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, y.detach())
    assert dropout(x, p, False) is x
    torch.manual_seed(0)
    assert torch.equal(dropout(x, p, True), y)
    assert dropout(torch.ones(3, 5, dtype=torch.bfloat16), p, True).dtype == torch.bfloat16
