"""Dropout between layers: where it is applied, its statistics and its gradients."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch_comparison import (
    FORMS,
    TOLERANCE,
    assert_same,
    each_dtype,
    each_kind,
    pair,
    random_input,
    random_state,
    results,
    tensors_in,
)

pytestmark = pytest.mark.usefixtures("seed")


def masked(family, probability, *, bidirectional=False, layers=2, hidden=64):
    """A ReLU network whose layers are the identity and whose first outputs ones: its output is the
    dropout mask.
    """
    layer = family.RNN(
        1, hidden, layers, "relu", bias=False, dropout=probability, bidirectional=bidirectional
    )
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            weight.zero_()
            if name.startswith("weight_ih_l0"):
                weight.fill_(1)
            elif name.startswith("weight_ih"):
                at = hidden if name.endswith("_reverse") else 0
                weight[:, at : at + hidden] = torch.eye(hidden)
    return layer


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("probability", [0, 0.2, 0.7, 1])
def test_dropout_statistics(family, probability, bidirectional):
    layer = masked(family, probability, bidirectional=bidirectional)
    x = torch.ones(20, 30, 1)
    output, h = layer(x)
    kept = 1 / (1 - probability) if probability < 1 else 0.0
    assert ((output == 0) | ((output - kept).abs() < 1e-5)).all()
    dropped = (output == 0).double()
    deviation = (probability * (1 - probability)) ** 0.5
    assert abs(dropped.mean() - probability) <= 5 * deviation / dropped.numel() ** 0.5
    for axis in range(3):  # independent for every step, sequence and feature
        means = dropped.mean(dim=[other for other in range(3) if other != axis])
        count = dropped.numel() / len(means)
        assert (means - probability).abs().max() <= 6 * deviation / count**0.5
        if 0 < probability < 1:
            assert not torch.equal(dropped.select(axis, 0), dropped.select(axis, 1))
    half = len(h) // 2
    assert (h[:half] == 1).all()  # the states of the first layer are not dropped
    assert torch.equal(h[half], output[-1, :, : h.shape[-1]])
    output, h = layer.eval()(x)
    assert (output == 1).all()
    assert (h == 1).all()


def test_dropout_only_between_layers(family):
    kept = 2.0
    output, h = masked(family, 0.5, layers=3)(torch.ones(10, 8, 1))
    assert set(output.unique().tolist()) == {0.0, kept**2}
    assert set(h[1].unique().tolist()) == {0.0, kept}
    assert abs((output == 0).double().mean() - 0.75) < 0.05


def test_dropout_of_packed_sequences(family):
    layer = masked(family, 0.5)
    packed = pack_sequence([torch.ones(n, 1) for n in (4, 9, 6)], enforce_sorted=False)
    output, h = layer(packed)
    assert set(output.data.unique().tolist()) == {0.0, 2.0}
    assert abs((output.data == 0).double().mean() - 0.5) < 0.1
    assert (h[0] == 1).all()
    assert (layer.eval()(packed)[0].data == 1).all()


@each_dtype
@each_kind
def test_dropout_with_a_seed(family, kind, dtype):
    _, ours = pair(family, kind, dtype=dtype, dropout=0.5, **FORMS["both directions"])
    x = random_input(ours)

    def run(seed):
        torch.manual_seed(seed)
        return ours(x)[0]

    first = run(3)
    assert torch.equal(run(3), first)
    assert not torch.equal(run(4), first)
    torch.manual_seed(3)
    assert torch.equal(ours(x)[0], first)
    assert not torch.equal(ours(x)[0], first)  # the next call draws other numbers
    before = torch.get_rng_state()
    ours.eval()(x)
    assert torch.equal(torch.get_rng_state(), before)


@each_kind
def test_dropout_masks_equal_those_of_torch(family, kind):
    """float64 runs on torch's own forward, and float32 with `backend="torch"`."""
    for dtype, options in ((torch.float64, {}), (torch.float32, {"backend": "torch"})):
        if options and family is nn:
            continue
        theirs, ours = pair(family, kind, dtype=dtype, dropout=0.5, **FORMS["both directions"])
        x, hx = random_input(theirs), random_state(theirs)
        torch.manual_seed(5)
        other = results(theirs, x, hx)
        torch.manual_seed(5)
        assert_same(results(ours, x, hx, **options), other, TOLERANCE[dtype])


@each_kind
def test_gradients_through_dropout(family, kind):
    _, ours = pair(family, kind, 3, 4, dropout=0.4, dtype=torch.float64, **FORMS["stacked"])
    x = random_input(ours, 4, 2).requires_grad_()

    def run(x, *_):
        torch.manual_seed(11)
        return tuple(tensors_in(ours(x)))

    assert torch.autograd.gradcheck(run, (x, *ours.parameters()), fast_mode=True)


@pytest.mark.filterwarnings("ignore:Input #[0-9]+ requires gradient and is not a double precision")
@pytest.mark.parametrize(
    "kind", ["LSTM", "GRU", "RNN"]
)  # finite differences in float32 cross the kink of a ReLU
def test_gradients_through_dropout_in_float32(family, kind):
    _, ours = pair(family, kind, 3, 4, dropout=0.4, **FORMS["stacked"])
    x = random_input(ours, 4, 2).requires_grad_()

    def run(x, *_):
        torch.manual_seed(11)
        return tuple(tensors_in(ours(x)))

    assert torch.autograd.gradcheck(
        run, (x, *ours.parameters()), fast_mode=True, eps=1e-3, atol=1e-2
    )


@each_kind
def test_dropout_with_probability_one(family, kind):
    theirs, ours = pair(family, kind, dropout=1.0, **FORMS["both directions"])
    x, hx = random_input(theirs), random_state(theirs)
    mine, other = results(ours, x, hx), results(theirs, x, hx)
    assert_same(mine, other)
    at = [name for name, _ in ours.named_parameters()].index("weight_ih_l1") - len(
        list(ours.parameters())
    )
    assert not mine[at].any()


@each_kind
def test_dropout_changed_after_construction(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
    expected = tensors_in(theirs(x))
    ours.dropout = 0.5
    assert not torch.equal(ours(x)[0], ours(x)[0])
    assert_same(tensors_in(ours.eval()(x)), expected)
    ours.train().dropout = 0.0
    assert_same(tensors_in(ours(x)), expected)
    ours.dropout = theirs.dropout = 1
    assert_same(tensors_in(ours(x)), tensors_in(theirs(x)))


@each_kind
def test_training_and_evaluation(family, kind):
    theirs, ours = pair(family, kind, dropout=0.5, **FORMS["both directions"])
    assert ours.training
    x, hx = random_input(theirs), random_state(theirs)
    assert_same(results(ours.eval(), x, hx), results(theirs.eval(), x, hx))
    assert not ours.training
    assert ours.train() is ours
    whole = nn.Sequential(ours)
    whole.eval()
    assert torch.equal(ours(x)[0], ours(x)[0])
