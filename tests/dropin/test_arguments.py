"""Arguments of constructors and calls: the same results, errors and warnings as torch.nn."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch_comparison import (
    BATCH,
    FORMS,
    HIDDEN,
    INPUTS,
    KINDS,
    STEPS,
    assert_same,
    assert_same_error,
    assert_same_errors,
    each_kind,
    pair,
    random_input,
    random_state,
    tensors_in,
)

pytestmark = pytest.mark.usefixtures("seed")


# ---- arguments of the constructor ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((0, 4), {}),
        ((-1, 4), {}),
        ((4.0, 4), {}),
        (("4", 4), {}),
        ((4, 0), {}),
        ((4, -2), {}),
        ((4, 5.0), {}),
        ((4, None), {}),
        ((4, 4, 0), {}),
        ((4, 4, -1), {}),
        ((4, 4, "2"), {}),
        ((4, 4), {"bias": 1}),
        ((4, 4), {"bias": None}),
        ((4, 4), {"batch_first": 0}),
        ((4, 4), {"batch_first": "yes"}),
        ((4, 4, 2), {"dropout": -0.1}),
        ((4, 4, 2), {"dropout": 1.1}),
        ((4, 4, 2), {"dropout": True}),
        ((4, 4, 2), {"dropout": "a"}),
        ((4, 4, 2), {"dropout": None}),
        ((4, 4), {"proj_size": -1}),
        ((4, 4), {"proj_size": 4}),
        ((4, 4), {"proj_size": 5}),
        ((4, 4), {"dtype": "float"}),
        ((4, 4), {"device": "nowhere"}),
    ],
    ids=str,
)
@each_kind
def test_wrong_constructor_arguments(family, kind, sizes, options):
    name, extra = KINDS[kind]
    assert_same_error(
        lambda: getattr(nn, name)(*sizes, **extra, **options),
        lambda: getattr(family, name)(*sizes, **extra, **options),
    )


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_projections_only_for_lstm(family, kind):
    assert_same_error(
        lambda: getattr(nn, kind)(4, 6, proj_size=2),
        lambda: getattr(family, kind)(4, 6, proj_size=2),
    )


@pytest.mark.parametrize("value", ["sigmoid", None, 1])
def test_unknown_nonlinearity(family, value):
    assert_same_error(
        lambda: nn.RNN(4, 6, nonlinearity=value), lambda: family.RNN(4, 6, nonlinearity=value)
    )
    assert_same_error(lambda: nn.RNN(4, 6, 1, value), lambda: family.RNN(4, 6, 1, value))


@pytest.mark.parametrize("arguments", [((), {}), ((4,), {}), ((4, 6), {"nonsense": 1})], ids=str)
@each_kind
def test_missing_and_unexpected_arguments(family, kind, arguments):
    sizes, options = arguments
    name = KINDS[kind][0]
    for source in (nn, family):
        with pytest.raises(TypeError, match=r"missing|nonsense"):
            getattr(source, name)(*sizes, **options)


def test_positional_arguments_in_torchs_order(family):
    given = {
        "LSTM": (4, 6, 2, False, True, 0.25, True, 3, "cpu", torch.float64),
        "GRU": (4, 6, 2, False, True, 0.25, True),
        "RNN": (4, 6, 2, "relu", False, True, 0.25, True),
    }
    for name, arguments in given.items():
        theirs, ours = getattr(nn, name)(*arguments), getattr(family, name)(*arguments)
        for attribute in [
            *nn.RNNBase.__constants__,
            "training",
            *(["nonlinearity"] if name == "RNN" else []),
        ]:
            assert getattr(ours, attribute) == getattr(theirs, attribute)
            assert type(getattr(ours, attribute)) is type(getattr(theirs, attribute))
        assert [(n, p.shape, p.dtype) for n, p in ours.named_parameters()] == [
            (n, p.shape, p.dtype) for n, p in theirs.named_parameters()
        ]


@each_kind
def test_dropout_of_one_layer_warns(family, kind):
    name, extra = KINDS[kind]
    caught = []
    for source in (nn, family):
        with pytest.warns(
            UserWarning, match="dropout option adds dropout after all but last"
        ) as record:
            getattr(source, name)(4, 6, dropout=0.5, **extra)
        caught.append([(w.category, str(w.message)) for w in record])
    assert caught[0] == caught[1]
    getattr(family, name)(4, 6, 2, dropout=0.5, **extra)  # a warning would be an error here
    getattr(family, name)(4, 6, dropout=0, **extra)


@each_kind
def test_default_dtype_and_device_context(family, kind):
    name, extra = KINDS[kind]
    torch.set_default_dtype(torch.float64)
    try:
        assert {p.dtype for p in getattr(family, name)(4, 6, **extra).parameters()} == {
            torch.float64
        }
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert {p.device.type for p in getattr(family, name)(4, 6, **extra).parameters()} == {
            "meta"
        }


@each_kind
def test_class_hierarchy(family, kind):
    theirs, ours = pair(family, kind)
    assert isinstance(ours, type(theirs))
    assert isinstance(ours, nn.RNNBase)
    assert ours.mode == theirs.mode
    assert repr(ours) == repr(theirs)
    cell = pair(family, kind, ending="Cell")[1]
    assert isinstance(cell, nn.RNNCellBase)


# ---- arguments of the call -----------------------------------------------------------------------


def wrong_calls(layer):
    """Name → arguments that torch rejects, for a layer with INPUTS and HIDDEN."""
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    lstm, first = layer.mode == "LSTM", layer.batch_first
    size = layer.proj_size or HIDDEN

    def x(*last, steps=STEPS):
        return torch.zeros(*((BATCH, steps) if first else (steps, BATCH)), *(last or (INPUTS,)))

    def state(*shape, c=None, dtype=None, device=None):
        h = torch.zeros(shape, dtype=dtype, device=device)
        return (
            (h, torch.zeros(c or (*shape[:-1], HIDDEN), dtype=dtype, device=device)) if lstm else h
        )

    alone = torch.zeros(STEPS, INPUTS)
    right = state(rows, BATCH, size)
    calls = {
        "no axis": (torch.zeros(()),),
        "one axis": (torch.zeros(INPUTS),),
        "four axes": (x(INPUTS, 1),),
        "features": (x(INPUTS + 1),),
        "features unbatched": (torch.zeros(STEPS, INPUTS - 1),),
        "no steps": (x(steps=0),),
        "no steps unbatched": (torch.zeros(0, INPUTS),),
        "state: rows": (x(), state(rows + 1, BATCH, size)),
        "state: batch": (x(), state(rows, BATCH + 1, size)),
        "state: batch of one": (x(), state(rows, 1, size)),
        "state: size": (x(), state(rows, BATCH, size - 1)),
        "state: two axes": (x(), state(rows, size)),
        "state: four axes": (x(), state(rows, BATCH, size, 1)),
        "state: batch first": (x(), state(BATCH, rows, size)),
        "state: rows unbatched": (alone, state(rows + 1, size)),
        "state: size unbatched": (alone, state(rows, size + 1)),
        "state: three axes unbatched": (alone, state(rows, 1, size)),
        "float64 input": (x().double(),),
        "float16 input": (x().half(),),
        "integers": (x().long(),),
        "float64 state": (x(), state(rows, BATCH, size, dtype=torch.float64)),
        "meta input": (x().to("meta"),),
        "meta state": (x(), state(rows, BATCH, size, device="meta")),
        "no input": (None,),
        "number": (3.0,),
        "list": ([x()],),
        "numpy": (x().numpy(),),
        "text as state": (x(), "ab"),
        "number as state": (x(), 1.0),
    }
    if lstm:
        h, c = right
        calls |= {
            "one tensor as state": (x(), h),
            "only h": (x(), (h,)),
            "three states": (x(), (h, c, c)),
            "h missing": (x(), (None, c)),
            "c missing": (x(), (h, None)),
            "c: size": (x(), (h, torch.zeros(rows, BATCH, HIDDEN + 1))),
            "c: batch": (x(), (h, torch.zeros(rows, 1, HIDDEN))),
            "c: rows": (x(), (h, torch.zeros(rows + 1, BATCH, HIDDEN))),
            "c: axes": (x(), (h, c[:, 0])),
            "c: axes unbatched": (alone, (h[:, 0], c)),
            "c: float64": (x(), (h, c.double())),
            "c: meta": (x(), (h, c.to("meta"))),
        }
    else:
        calls |= {"pair as state": (x(), (right, right)), "list as state": (x(), [right])}
    return calls


SHAPED = {
    **{
        (kind, form): FORMS[form]
        for kind in KINDS
        for form in ("plain", "both directions", "batch first")
    },
    ("LSTM", "projected"): {"num_layers": 2, "proj_size": 3},
}


@pytest.mark.parametrize(("kind", "form"), SHAPED)
def test_wrong_calls(family, kind, form):
    theirs, ours = pair(family, kind, **SHAPED[kind, form])
    assert_same_errors(theirs, ours, wrong_calls(theirs))
    with pytest.raises(TypeError, match="positional arguments"):
        ours(random_input(ours), random_state(ours), None)


@each_kind
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_wrong_packed_calls(family, kind, enforce_sorted):
    theirs, ours = pair(family, kind, **FORMS["both directions"])

    def packed(features=INPUTS, dtype=torch.float32, axes=()):
        parts = [
            torch.zeros(n, *axes, features, dtype=dtype)
            for n in ((5, 3, 2) if enforce_sorted else (3, 5, 2))
        ]
        return pack_sequence(parts, enforce_sorted=enforce_sorted)

    def state(*shape):
        return (torch.zeros(shape), torch.zeros(shape)) if kind == "LSTM" else torch.zeros(shape)

    calls = {
        "features": (packed(INPUTS + 1),),
        "dtype": (packed(dtype=torch.float64),),
        "axes": (packed(axes=(2,)),),
        "one axis": (PackedSequence(torch.zeros(10), torch.tensor([3, 3, 2, 1, 1])),),
        "state: batch": (packed(), state(4, BATCH - 1, HIDDEN)),
        "state: size": (packed(), state(4, BATCH, HIDDEN + 1)),
        "state: rows": (packed(), state(3, BATCH, HIDDEN)),
        "state: two axes": (packed(), state(4, HIDDEN)),
    }
    assert_same_errors(theirs, ours, calls)


@each_kind
def test_arguments_by_keyword(family, kind):
    theirs, ours = pair(family, kind)
    x, hx = random_input(theirs), random_state(theirs)
    assert_same(tensors_in(ours(input=x, hx=hx)), tensors_in(theirs(input=x, hx=hx)))
    assert_same(tensors_in(ours(hx=hx, input=x)), tensors_in(theirs(x, hx)))
    assert_same(tensors_in(ours(x, hx=None)), tensors_in(theirs(x)))
