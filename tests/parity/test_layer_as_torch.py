"""The layers against torch.nn, outputs and every gradient, for random shapes; models written for
torch that adopt them.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layer_gradients import KINDS, adopt_copy, assert_same, gradients
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

import memorycell
from memorycell.ops import binding

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@given(
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 7), st.integers(2, 9)),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    batch_first=st.booleans(),
    projected=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    backend=st.sampled_from([None, "reference", "torch"]),
)
def test_drop_in_for_torch(
    kind, sizes, layers, bidirectional, bias, batch_first, projected, dtype, backend
):
    batch, steps, inputs, hidden = sizes
    options = {
        "num_layers": layers,
        "bias": bias,
        "batch_first": batch_first,
        "bidirectional": bidirectional,
        "dtype": dtype,
    }
    if projected and kind == "LSTM":
        options["proj_size"] = hidden - 1
    torch.manual_seed(3)
    theirs = getattr(torch.nn, kind)(inputs, hidden, **options)
    torch.manual_seed(3)
    ours = KINDS[kind](inputs, hidden, **options)
    for (name, mine), (other_name, other) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == other_name
        assert torch.equal(mine, other)  # the same seed gives the same initial values
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn((batch, steps, inputs) if batch_first else (steps, batch, inputs), dtype=dtype)
    rows = layers * (2 if bidirectional else 1)
    hx = [torch.randn(rows, batch, options.get("proj_size", hidden), dtype=dtype)]
    hx += [torch.randn(rows, batch, hidden, dtype=dtype)] if kind == "LSTM" else []
    assert_same(gradients(ours, x, hx, backend=backend), gradients(theirs, x, hx), TOLERANCE[dtype])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_odd_sizes_in_float32(kind):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(31, 63, 2, bidirectional=True, batch_first=True)
    ours = adopt_copy(theirs)
    x, hx = (
        torch.randn(3, 17, 31),
        [torch.randn(4, 3, 63) for _ in range(2 if kind == "LSTM" else 1)],
    )
    for backend in ("reference", "torch"):
        assert_same(gradients(ours, x, hx, backend=backend), gradients(theirs, x, hx), 1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_unbatched_input(kind):
    theirs = getattr(torch.nn, kind)(4, 5, 2)
    ours = adopt_copy(theirs)
    x, hx = torch.randn(6, 4), [torch.randn(2, 5) for _ in range(2 if kind == "LSTM" else 1)]
    assert_same(gradients(ours, x, hx), gradients(theirs, x, hx), 1e-6)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_packed_sequences(kind, enforce_sorted, backend):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(4, 5, 2, bidirectional=True)
    ours = adopt_copy(theirs)
    lengths = [7, 4, 1] if enforce_sorted else [4, 7, 1]
    packed = pack_sequence([torch.randn(n, 4) for n in lengths], enforce_sorted=enforce_sorted)
    hx = [torch.randn(4, 3, 5) for _ in range(2 if kind == "LSTM" else 1)]
    hx = tuple(hx) if kind == "LSTM" else hx[0]
    (mine, final), (other, other_final) = ours(packed, hx, backend=backend), theirs(packed, hx)
    assert isinstance(mine, PackedSequence)
    torch.testing.assert_close(mine.data, other.data, rtol=0, atol=1e-6)
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        a, b = getattr(mine, field), getattr(other, field)
        assert (a is None and b is None) or torch.equal(a, b)
    for a, b in zip(
        final if kind == "LSTM" else [final],
        other_final if kind == "LSTM" else [other_final],
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_dropout_between_layers_as_in_torch():
    """In training the same fraction of features is dropped between layers, none after the last."""
    layer = memorycell.LSTM(3, 400, 2, dropout=0.5, batch_first=True)
    x = torch.randn(1, 5, 3)
    once, again = layer(x)[0], layer(x)[0]
    assert not torch.equal(once, again)
    assert (once != 0).all()  # the last layer's output is not dropped
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_adopt_shares_parameters_and_keeps_outputs():
    class Tagger(torch.nn.Module):
        """Embeds words, packs, and tags: a typical model, written for torch."""

        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(20, 6)
            self.rnn = torch.nn.LSTM(6, 7, 2, bidirectional=True, batch_first=True, dropout=0.1)
            self.same = self.rnn
            self.tags = torch.nn.Linear(14, 4)

        def forward(self, tokens, lengths):
            self.rnn.flatten_parameters()
            packed = pack_padded_sequence(
                self.words(tokens), lengths, batch_first=True, enforce_sorted=False
            )
            return self.tags(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])

    torch.manual_seed(0)
    model = Tagger().eval()
    tokens, lengths = torch.randint(20, (3, 5)), torch.tensor([2, 5, 3])
    expected = model(tokens, lengths)
    before = dict(model.named_parameters())
    assert memorycell.adopt(model).adopted == {"rnn": "memorycell.LSTM"}
    assert isinstance(model.rnn, memorycell.LSTM)
    assert model.same is model.rnn
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    torch.testing.assert_close(model(tokens, lengths), expected, rtol=0, atol=1e-6)
    assert not model.rnn.training


class Seq2Seq(torch.nn.Module):
    """Encodes a sequence and decodes another step by step: a typical model, written for torch."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(20, 6)
        self.encoder = torch.nn.LSTM(6, 7, 2, batch_first=True)
        self.decoder = torch.nn.LSTM(6, 7, 2, batch_first=True)
        self.out = torch.nn.Linear(7, 20)

    def forward(self, source, target):
        _, state = self.encoder(self.words(source))
        logits = []
        for k in range(target.shape[1]):
            y, (h, c) = self.decoder(self.words(target[:, k : k + 1]), state)
            state = (h, c)
            logits.append(self.out(y))
        return torch.cat(logits, 1)

    @torch.no_grad()
    def greedy(self, source, steps):
        _, state = self.encoder(self.words(source))
        token, written = source[:, :1] * 0, []
        for _ in range(steps):
            y, state = self.decoder(self.words(token), state)
            token = self.out(y).argmax(-1)
            written.append(token)
        return torch.cat(written, 1)


def test_an_adopted_encoder_decoder_trains_and_decodes_the_same():
    """It learns to reverse its input: the losses of all training steps, and the decoded output."""
    torch.manual_seed(0)
    theirs = Seq2Seq()
    ours = adopt_copy(theirs)
    expected = "native" if binding.engine is not None else "torch"
    assert memorycell.explain(ours.decoder, torch.zeros(4, 9, 6)).backend == expected
    losses = []
    for model in (theirs, ours):
        generator = torch.Generator().manual_seed(1)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        history = []
        for _ in range(60):
            source = torch.randint(1, 20, (16, 4), generator=generator)
            target = source.flip(1)
            before = torch.cat([target[:, :1] * 0, target[:, :-1]], 1)
            loss = torch.nn.functional.cross_entropy(
                model.train()(source, before).flatten(0, 1), target.flatten()
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            history.append(loss.item())
        losses.append(history)
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert losses[1][-1] < 0.9 * losses[1][0]  # it learns
    source = torch.randint(1, 20, (8, 4), generator=torch.Generator().manual_seed(2))
    ours.load_state_dict(theirs.state_dict())  # bitwise equal weights: the same words
    assert torch.equal(theirs.eval().greedy(source, 4), ours.eval().greedy(source, 4))
