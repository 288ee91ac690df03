"""What PyTorch's own tests ask of its recurrent layers and cells, asked of ours: every answer is
compared with torch.nn's.

`DROPIN_FAMILY=torch pytest tests/dropin` runs the same tests on torch.nn's classes: what fails
there asks too much.
"""

import copy
import importlib
import io
import itertools
import os
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
)
from torch.utils import _pytree as pytree

FAMILY = os.environ.get("DROPIN_FAMILY", "memorycell")
KINDS = {
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "RNN": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
}
FORMS = {
    "plain": {},
    "stacked": {"num_layers": 2},
    "both directions": {"num_layers": 2, "bidirectional": True},
    "batch first": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "no bias": {"bias": False},
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6

each_kind = pytest.mark.parametrize("kind", KINDS)
each_form = pytest.mark.parametrize("form", FORMS)
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


@pytest.fixture(scope="module")
def family():
    """The module that holds the classes under test: memorycell, or torch.nn to test the tests."""
    return torch.nn if FAMILY == "torch" else importlib.import_module(FAMILY)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pair(family, kind, *sizes, ending="", **options):
    """(torch.nn's layer or cell, ours) with the same weights."""
    name, extra = KINDS[kind]
    theirs, ours = (
        getattr(source, name + ending)(*(sizes or (INPUTS, HIDDEN)), **{**extra, **options})
        for source in (nn, family)
    )
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def steps_of(layer, steps=STEPS, batch=BATCH):
    """A random input as the layer wants it laid out; batch None for an unbatched one."""
    shape = [steps, batch] if not layer.batch_first else [batch, steps]
    dtype = layer.weight_ih_l0.dtype
    return torch.randn(
        [size for size in shape if size is not None] + [layer.input_size], dtype=dtype
    )


def state_of(layer, batch=BATCH, make=torch.randn):
    """A random state as the layer wants it; batch None for an unbatched one."""
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    axes = [rows] if batch is None else [rows, batch]
    sizes = [
        layer.proj_size or layer.hidden_size,
        *([layer.hidden_size] if layer.mode == "LSTM" else []),
    ]
    parts = tuple(make([*axes, size], dtype=layer.weight_ih_l0.dtype) for size in sizes)
    return parts if layer.mode == "LSTM" else parts[0]


def mapped(value, change):
    """The same structure with every tensor of numbers changed; the index tensors of a
    PackedSequence stay.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, PackedSequence):
        return PackedSequence(change(value.data), *value[1:])
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(part, change) for part in value)
    return value


def leaves(value):
    """The tensors of numbers in order."""
    found = []
    mapped(value, lambda tensor: found.append(tensor) or tensor)
    return found


def weighed(outputs):
    """A loss that weighs every element differently, the same for the same shapes."""
    generator = torch.Generator().manual_seed(7)
    weights = [
        torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
        for out in outputs
    ]
    return sum((out * weight).sum() for out, weight in zip(outputs, weights, strict=True))


def results(module, *given, **options):
    """[outputs…, gradients of every input and every parameter that wants one…]; None where there is
    none.
    """
    given = mapped(given, lambda tensor: tensor.detach().requires_grad_())
    outputs = leaves(module(*given, **options))
    wanted = [*leaves(given), *(p for p in module.parameters() if p.requires_grad)]
    return [*outputs, *torch.autograd.grad(weighed(outputs), wanted, allow_unused=True)]


def assert_same(mine, other, tolerance=1e-5):
    """Same number, shapes, dtypes and values; the tolerance is relative to the largest value of
    each tensor.
    """
    assert len(mine) == len(other)
    for ours, theirs in zip(mine, other, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is None:
            continue
        assert (ours.shape, ours.dtype, ours.device) == (theirs.shape, theirs.dtype, theirs.device)
        finite = theirs.detach()[theirs.isfinite()].abs()
        scale = max(1.0, float(finite.max()) if finite.numel() else 0.0)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale, equal_nan=True)


def error_of(call):
    """What the call raises."""
    try:
        call()
    except Exception as error:
        return error
    return None


def assert_same_error(theirs, ours, name=""):
    """torch's call raises, and ours raises the same type with the same text."""
    expected, found = error_of(theirs), error_of(ours)
    assert expected is not None, f"{name}: torch raises nothing"
    assert type(found) is type(expected), f"{name}: expected {expected!r}, got {found!r}"
    assert str(found) == str(expected), name


def assert_same_refusals(theirs, ours, calls):
    """Every call, name → arguments, raises the same in both, with gradients and without."""
    for name, arguments in calls.items():
        for mode in (torch.enable_grad, torch.no_grad):
            with mode():
                assert_same_error(
                    lambda a=arguments: theirs(*a), lambda a=arguments: ours(*a), name
                )


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
def test_projections_are_for_lstm(family, kind):
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
def test_kinship(family, kind):
    theirs, ours = pair(family, kind)
    assert isinstance(ours, type(theirs))
    assert isinstance(ours, nn.RNNBase)
    assert ours.mode == theirs.mode
    assert repr(ours) == repr(theirs)
    cell = pair(family, kind, ending="Cell")[1]
    assert isinstance(cell, nn.RNNCellBase)


# ---- arguments of the call -----------------------------------------------------------------------


def wrong_calls(layer):
    """Name → arguments that torch refuses, for a layer of INPUTS, HIDDEN."""
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
    assert_same_refusals(theirs, ours, wrong_calls(theirs))
    with pytest.raises(TypeError, match="positional arguments"):
        ours(steps_of(ours), state_of(ours), None)


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
    assert_same_refusals(theirs, ours, calls)


@each_kind
def test_arguments_by_keyword(family, kind):
    theirs, ours = pair(family, kind)
    x, hx = steps_of(theirs), state_of(theirs)
    assert_same(leaves(ours(input=x, hx=hx)), leaves(theirs(input=x, hx=hx)))
    assert_same(leaves(ours(hx=hx, input=x)), leaves(theirs(x, hx)))
    assert_same(leaves(ours(x, hx=None)), leaves(theirs(x)))


# ---- values --------------------------------------------------------------------------------------


@each_dtype
@each_form
@each_kind
def test_outputs_and_gradients(family, kind, form, dtype):
    theirs, ours = pair(family, kind, dtype=dtype, **FORMS[form])
    for batch in (BATCH, 1, None):
        x, hx = steps_of(theirs, batch=batch), state_of(theirs, batch=batch)
        assert_same(results(ours, x), results(theirs, x), TOLERANCE[dtype])
        assert_same(results(ours, x, hx), results(theirs, x, hx), TOLERANCE[dtype])
    x = steps_of(theirs, steps=1)
    assert_same(results(ours, x), results(theirs, x), TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize(
    "options", [{}, FORMS["batch first"], {"bias": False, "num_layers": 2}], ids=str
)
def test_projections(family, options, dtype):
    theirs, ours = pair(family, "LSTM", proj_size=2, dtype=dtype, **options)
    for batch in (BATCH, None):
        x, hx = steps_of(theirs, batch=batch), state_of(theirs, batch=batch)
        assert_same(results(ours, x, hx), results(theirs, x, hx), TOLERANCE[dtype])
        assert_same(results(ours, x), results(theirs, x), TOLERANCE[dtype])
    _, (h, c) = ours(steps_of(ours))
    assert h.shape[-1] == 2
    assert c.shape[-1] == HIDDEN


@each_form
@each_kind
def test_no_state_is_a_state_of_zeros(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    for batch in (BATCH, None):
        x = steps_of(ours, batch=batch)
        zeros = state_of(ours, batch, torch.zeros)
        for mine, other in zip(leaves(ours(x)), leaves(ours(x, zeros)), strict=True):
            assert torch.equal(mine, other)
        assert_same(leaves(ours(x)), leaves(theirs(x, zeros)))


@each_form
@each_kind
def test_structure_and_layout_of_the_result(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    for batch in (BATCH, None):
        x = steps_of(theirs, batch=batch)
        result, expected = ours(x), theirs(x)
        assert type(result) is tuple
        assert type(result[1]) is type(expected[1]) is (tuple if kind == "LSTM" else torch.Tensor)
        assert [type(leaf) for leaf in pytree.tree_leaves(result)] == [torch.Tensor] * (
            3 if kind == "LSTM" else 2
        )
        assert pytree.tree_structure(result) == pytree.tree_structure(expected)
        assert all(state.is_contiguous() for state in leaves(result[1]))
        if (
            expected[0].is_contiguous() or family is not nn
        ):  # torch's is a transposed view with batch_first
            assert result[0].is_contiguous()
            flat = result[0].view(-1, result[0].shape[-1])
            assert_same([flat], [expected[0].reshape(flat.shape)])
        directions = 2 if ours.bidirectional else 1
        assert result[0].reshape(*x.shape[:-1], directions, HIDDEN).shape == (
            *x.shape[:-1],
            directions,
            HIDDEN,
        )


@each_kind
def test_results_have_memory_of_their_own(family, kind):
    for form in ("plain", "both directions"):
        _, ours = pair(family, kind, **FORMS[form])
        x, hx = steps_of(ours), state_of(ours)
        before = [tensor.clone() for tensor in (x, *leaves(hx))]
        with torch.no_grad():
            first = leaves(ours(x, hx))
            kept = [tensor.clone() for tensor in first]
            ours(steps_of(ours), hx)
            assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))
            for at, tensor in enumerate(
                first
            ):  # writing over one changes none of the others, nor the weights
                tensor.fill_(at)
                assert all(
                    torch.equal(a, b) for a, b in zip(first[at + 1 :], kept[at + 1 :], strict=True)
                )
            assert_same(leaves(ours(x, hx)), kept, 0.0)
        assert all(torch.equal(a, b) for a, b in zip((x, *leaves(hx)), before, strict=True))


LAYOUTS = {
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "features first": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "every second feature": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "part of a larger one": lambda x: torch.cat([x + 1, x, x + 2], 1)[
        :, x.shape[1] : 2 * x.shape[1]
    ],
    "expanded over the batch": lambda x: x[:, :1].expand_as(x),
    "expanded over the steps": lambda x: x[:1].expand_as(x),
    "expanded over the features": lambda x: x[..., :1].expand_as(x),
    "backwards": lambda x: x.flip(0),
    "offset": lambda x: torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@each_kind
def test_layouts_of_inputs_and_states(family, kind, layout):
    for form in ("stacked", "batch first"):
        theirs, ours = pair(family, kind, **FORMS[form])
        x = LAYOUTS[layout](steps_of(theirs))
        hx = mapped(state_of(theirs), LAYOUTS[layout])
        assert_same(results(ours, x, hx), results(theirs, x, hx))


@each_kind
def test_expanded_learned_state(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    start = mapped(state_of(theirs, 1), nn.Parameter)
    x = steps_of(theirs)
    found = []
    for layer in (ours, theirs):
        hx = mapped(start, lambda tensor: tensor.expand(-1, BATCH, -1))
        outputs = leaves(layer(x, hx))
        found.append(
            [
                *outputs,
                *torch.autograd.grad(weighed(outputs), [*leaves(start), *layer.parameters()]),
            ]
        )
    assert_same(*found)
    start = mapped(state_of(theirs), nn.Parameter)
    assert_same(
        *(
            torch.autograd.grad(weighed(leaves(layer(x, start))), leaves(start))
            for layer in (ours, theirs)
        )
    )


def test_a_list_as_the_state_of_an_lstm(family):
    theirs, ours = pair(family, "LSTM")
    x, hx = steps_of(theirs), list(state_of(theirs))
    assert_same(results(ours, x, hx), results(theirs, x, hx))
    assert type(ours(x, hx)[1]) is tuple


@each_kind
def test_a_parameter_as_input(family, kind):
    theirs, ours = pair(family, kind)
    x = nn.Parameter(steps_of(theirs))
    assert_same(*(torch.autograd.grad(weighed(leaves(layer(x))), x) for layer in (ours, theirs)))


@each_kind
def test_pieces_with_the_state_carried(family, kind):
    """`type(h)(v.detach() for v in h)` is how people cut the graph between pieces."""

    def repackaged(h):
        return h.detach() if isinstance(h, torch.Tensor) else type(h)(v.detach() for v in h)

    theirs, ours = pair(family, kind, **FORMS["stacked"])
    x = steps_of(theirs, steps=9)
    whole, end = ours(x)
    h, outputs = None, []
    for piece in x.split([4, 1, 4]):
        output, h = ours(piece, h)
        h = repackaged(h)
        assert not any(state.requires_grad for state in leaves(h))
        outputs.append(output)
    assert_same([torch.cat(outputs), *leaves(h)], [whole, *leaves(end)])
    found = []
    for layer in (ours, theirs):  # and with the graph kept through all of them
        h, outputs = None, []
        for piece in x.split([4, 1, 4]):
            output, h = layer(piece, h)
            outputs.append(output)
        found.append(
            torch.autograd.grad(weighed([torch.cat(outputs), *leaves(h)]), list(layer.parameters()))
        )
    assert_same(*found)


@each_form
@each_kind
def test_empty_batches(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    results(ours, steps_of(ours))
    x = steps_of(theirs, batch=0)
    for given in ((x,), (x, state_of(theirs, 0))):
        for parameter in ours.parameters():
            torch.full_like(
                parameter, float("nan")
            )  # what lies in freed memory, were it taken for a gradient
        mine, other = results(ours, *given), results(theirs, *given)
        assert_same(mine, other)
        parameters = list(ours.parameters())
        for gradient, parameter in zip(mine[-len(parameters) :], parameters, strict=True):
            assert gradient.shape == parameter.shape
            assert not gradient.any()
        with torch.no_grad():
            assert_same(leaves(ours(*given)), leaves(theirs(*given)))


def test_empty_batches_with_projections(family):
    theirs, ours = pair(family, "LSTM", proj_size=2, **FORMS["batch first"])
    x = steps_of(theirs, batch=0)
    assert_same(results(ours, x), results(theirs, x))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e4])
@each_kind
def test_values_that_are_not_finite_or_large(family, kind, value):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    x[2, 1, 0] = value
    assert_same(leaves(ours(x)), leaves(theirs(x)))
    hx = state_of(theirs)
    leaves(hx)[-1][1, 0, 2] = value
    x = steps_of(theirs)
    assert_same(leaves(ours(x, hx)), leaves(theirs(x, hx)))
    with torch.no_grad():
        for layer in (theirs, ours):
            layer.weight_hh_l1[1, 2] = value
        assert_same(leaves(ours(x)), leaves(theirs(x)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@each_kind
def test_half_precision(family, kind, dtype):
    theirs, ours = pair(family, kind, dtype=dtype, **FORMS["both directions"])
    x, hx = steps_of(theirs), state_of(theirs)
    assert_same(leaves(ours(x, hx)), leaves(theirs(x, hx)), 0.01)
    assert_same(results(ours, x), results(theirs, x), 0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_kind
def test_autocast(family, kind, dtype):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x, hx = steps_of(theirs), state_of(theirs)
    half = (x.to(dtype), mapped(hx, lambda tensor: tensor.to(dtype)))
    for given in ((x,), (x, hx), (half[0],), half):
        with torch.autocast("cpu", dtype):
            if dtype == torch.float16 and error_of(lambda given=given: theirs(*given)):
                continue  # not every processor has torch's LSTM in float16
            mine, other = leaves(ours(*given)), leaves(theirs(*given))
        assert [out.dtype for out in mine] == [out.dtype for out in other]
        assert_same(mine, other, 0.03)
        gradients = [
            torch.autograd.grad(weighed(outputs), list(layer.parameters()))
            for outputs, layer in ((mine, ours), (other, theirs))
        ]
        assert_same(*gradients, 0.05)
    with torch.autocast("cpu", dtype), torch.autocast("cpu", enabled=False):
        assert_same(leaves(ours(x, hx)), leaves(theirs(x, hx)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert [out.dtype for out in leaves(ours(x))] == [out.dtype for out in leaves(theirs(x))]
    assert_same(results(ours, x, hx), results(theirs, x, hx))  # nothing of it stays


# ---- sequences of several lengths ----------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("enforce_sorted", [True, False])
@each_kind
def test_packed_sequences(family, kind, enforce_sorted, dtype):
    for form in ("plain", "both directions", "batch first"):
        theirs, ours = pair(family, kind, dtype=dtype, **FORMS[form])
        lengths = [7, 4, 4, 1] if enforce_sorted else [4, 1, 7, 4]
        sequences = [torch.randn(n, INPUTS, dtype=dtype) for n in lengths]
        packed = pack_sequence(sequences, enforce_sorted=enforce_sorted)
        hx = state_of(theirs, len(lengths))
        assert_same(results(ours, packed), results(theirs, packed), TOLERANCE[dtype])
        assert_same(results(ours, packed, hx), results(theirs, packed, hx), TOLERANCE[dtype])
        (output, end), (expected, _) = ours(packed, hx), theirs(packed, hx)
        assert type(output) is PackedSequence
        assert type(end) is (tuple if kind == "LSTM" else torch.Tensor)
        assert torch.equal(output.batch_sizes, expected.batch_sizes)
        for field in ("sorted_indices", "unsorted_indices"):
            mine, other = getattr(output, field), getattr(expected, field)
            assert (mine is None) == (other is None)
            assert mine is None or torch.equal(mine, other)
        for at, (alone, sequence) in enumerate(
            zip(unpack_sequence(output), sequences, strict=True)
        ):
            start = mapped(hx, lambda tensor, at=at: tensor[:, at])
            one, one_end = ours(sequence, start)  # each as if it were run alone
            assert_same([alone], [one], TOLERANCE[dtype])
            assert_same(
                [tensor[:, at] for tensor in leaves(end)], leaves(one_end), TOLERANCE[dtype]
            )


@pytest.mark.parametrize("batch_first", [True, False])
@each_kind
def test_padding_after_packing(family, kind, batch_first):
    theirs, ours = pair(family, kind, batch_first=batch_first)
    x = pad_sequence([torch.randn(n, INPUTS) for n in (2, 5, 3)], batch_first=batch_first)
    found = []
    for layer in (ours, theirs):
        packed = pack_padded_sequence(x, torch.tensor([2, 5, 3]), batch_first, enforce_sorted=False)
        output, lengths = pad_packed_sequence(
            layer(packed)[0], batch_first, padding_value=-1.0, total_length=8
        )
        assert lengths.tolist() == [2, 5, 3]
        assert output.shape == ((3, 8, HIDDEN) if batch_first else (8, 3, HIDDEN))
        assert ((output[0, 2:] if batch_first else output[2:, 0]) == -1).all()
        found.append([output])
    assert_same(*found)


@each_kind
def test_packed_sequence_made_by_hand(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    packed = PackedSequence(torch.randn(6, INPUTS), torch.tensor([3, 2, 1]))
    assert_same(results(ours, packed), results(theirs, packed))
    same = pack_sequence([torch.randn(4, INPUTS) for _ in range(3)])  # all of one length
    assert_same(results(ours, same), results(theirs, same))
    dense = pad_packed_sequence(same)[0]
    output, end = ours(same)
    assert_same([pad_packed_sequence(output)[0], *leaves(end)], leaves(ours(dense)))
    single = pack_sequence([torch.randn(4, INPUTS)])
    assert_same(results(ours, single), results(theirs, single))
    ours, theirs, packed = ours.double(), theirs.double(), packed.double()
    assert_same(results(ours, packed), results(theirs, packed), 1e-10)


def test_packed_sequences_with_projections(family):
    theirs, ours = pair(family, "LSTM", proj_size=2, **FORMS["both directions"])
    packed = pack_sequence([torch.randn(n, INPUTS) for n in (2, 5, 3)], enforce_sorted=False)
    hx = state_of(theirs, 3)
    assert_same(results(ours, packed, hx), results(theirs, packed, hx))


# ---- dropout -------------------------------------------------------------------------------------


def masked(family, probability, *, bidirectional=False, layers=2, hidden=64):
    """A ReLU network whose layers pass on what they get and whose first gives ones: its output is
    the dropout itself.
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
    for axis in range(3):  # drawn anew for every step, sequence and feature
        means = dropped.mean(dim=[other for other in range(3) if other != axis])
        count = dropped.numel() / len(means)
        assert (means - probability).abs().max() <= 6 * deviation / count**0.5
        if 0 < probability < 1:
            assert not torch.equal(dropped.select(axis, 0), dropped.select(axis, 1))
    half = len(h) // 2
    assert (h[:half] == 1).all()  # the states of the first layer are whole
    assert torch.equal(h[half], output[-1, :, : h.shape[-1]])
    output, h = layer.eval()(x)
    assert (output == 1).all()
    assert (h == 1).all()


def test_dropout_stands_between_layers_only(family):
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
def test_dropout_of_a_seed(family, kind, dtype):
    _, ours = pair(family, kind, dtype=dtype, dropout=0.5, **FORMS["both directions"])
    x = steps_of(ours)

    def run(seed):
        torch.manual_seed(seed)
        return ours(x)[0]

    first = run(3)
    assert torch.equal(run(3), first)
    assert not torch.equal(run(4), first)
    torch.manual_seed(3)
    assert torch.equal(ours(x)[0], first)
    assert not torch.equal(ours(x)[0], first)  # the next call draws on
    before = torch.get_rng_state()
    ours.eval()(x)
    assert torch.equal(torch.get_rng_state(), before)


@each_kind
def test_dropout_draws_as_torch_on_its_kernels(family, kind):
    """float64 runs on torch's own forward; in float32 `backend="torch"` does."""
    for dtype, options in ((torch.float64, {}), (torch.float32, {"backend": "torch"})):
        if options and family is nn:
            continue
        theirs, ours = pair(family, kind, dtype=dtype, dropout=0.5, **FORMS["both directions"])
        x, hx = steps_of(theirs), state_of(theirs)
        torch.manual_seed(5)
        other = results(theirs, x, hx)
        torch.manual_seed(5)
        assert_same(results(ours, x, hx, **options), other, TOLERANCE[dtype])


@each_kind
def test_gradients_through_dropout(family, kind):
    _, ours = pair(family, kind, 3, 4, dropout=0.4, dtype=torch.float64, **FORMS["stacked"])
    x = steps_of(ours, 4, 2).requires_grad_()

    def run(x, *_):
        torch.manual_seed(11)
        return tuple(leaves(ours(x)))

    assert torch.autograd.gradcheck(run, (x, *ours.parameters()), fast_mode=True)


@pytest.mark.filterwarnings("ignore:Input #[0-9]+ requires gradient and is not a double precision")
@pytest.mark.parametrize(
    "kind", ["LSTM", "GRU", "RNN"]
)  # finite differences of float32 cross the corner of a ReLU
def test_gradients_through_dropout_in_float32(family, kind):
    _, ours = pair(family, kind, 3, 4, dropout=0.4, **FORMS["stacked"])
    x = steps_of(ours, 4, 2).requires_grad_()

    def run(x, *_):
        torch.manual_seed(11)
        return tuple(leaves(ours(x)))

    assert torch.autograd.gradcheck(
        run, (x, *ours.parameters()), fast_mode=True, eps=1e-3, atol=1e-2
    )


@each_kind
def test_dropout_of_everything(family, kind):
    theirs, ours = pair(family, kind, dropout=1.0, **FORMS["both directions"])
    x, hx = steps_of(theirs), state_of(theirs)
    mine, other = results(ours, x, hx), results(theirs, x, hx)
    assert_same(mine, other)
    at = [name for name, _ in ours.named_parameters()].index("weight_ih_l1") - len(
        list(ours.parameters())
    )
    assert not mine[at].any()


@each_kind
def test_dropout_changed_after_construction(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    expected = leaves(theirs(x))
    ours.dropout = 0.5
    assert not torch.equal(ours(x)[0], ours(x)[0])
    assert_same(leaves(ours.eval()(x)), expected)
    ours.train().dropout = 0.0
    assert_same(leaves(ours(x)), expected)
    ours.dropout = theirs.dropout = 1
    assert_same(leaves(ours(x)), leaves(theirs(x)))


@each_kind
def test_training_and_evaluation(family, kind):
    theirs, ours = pair(family, kind, dropout=0.5, **FORMS["both directions"])
    assert ours.training
    x, hx = steps_of(theirs), state_of(theirs)
    assert_same(results(ours.eval(), x, hx), results(theirs.eval(), x, hx))
    assert not ours.training
    assert ours.train() is ours
    whole = nn.Sequential(ours)
    whole.eval()
    assert torch.equal(ours(x)[0], ours(x)[0])


# ---- gradients -----------------------------------------------------------------------------------


@each_kind
def test_two_backward_passes(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    found = []
    for layer in (ours, theirs):
        loss = weighed(leaves(layer(x)))
        loss.backward(retain_graph=True)
        once = [p.grad.clone() for p in layer.parameters()]
        loss.backward()
        twice = [p.grad for p in layer.parameters()]
        assert_same(twice, [2 * gradient for gradient in once])
        found.append(twice)
        error = error_of(loss.backward)
        assert type(error) is RuntimeError
        assert "backward through the graph a second time" in str(error)
    assert_same(*found)


CHANGES = {
    "recurrent weight": lambda layer, x: layer.weight_hh_l0.mul_(1.5),
    "input weight of the second layer": lambda layer, x: layer.weight_ih_l1[0].zero_(),
    "recurrent weight of the other direction": lambda layer, x: layer.weight_hh_l1_reverse.add_(1),
    "input": lambda layer, x: x.add_(1),
}


@pytest.mark.parametrize("change", CHANGES)
@each_kind
def test_changes_in_place_before_backward_are_refused(family, kind, change):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    for layer in (theirs, ours):
        x = steps_of(layer)
        loss = layer(x)[0].sum()
        with torch.no_grad():
            CHANGES[change](layer, x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@each_kind
def test_an_output_changed_in_place_gives_the_right_gradient_or_an_error(family, kind):
    theirs, _ = pair(family, kind, **FORMS["stacked"])
    x = steps_of(theirs)
    output, h = theirs(x)
    expected = torch.autograd.grad(weighed([output * 2, *leaves(h)]), list(theirs.parameters()))
    for detached in (False, True):
        _, ours = pair(family, kind, **FORMS["stacked"])
        ours.load_state_dict(theirs.state_dict())
        output, h = ours(x)
        if detached:
            loss = weighed([output * 2, *leaves(h)])
            output.detach().zero_()  # shares its version counter with the output
        else:
            loss = weighed([output.mul_(2), *leaves(h)])
        try:
            found = torch.autograd.grad(loss, list(ours.parameters()))
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)
        else:
            assert_same(found, expected)


@each_kind
def test_weights_changed_between_calls_are_used(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)

    def at_data(layer):
        layer.weight_hh_l0.data.mul_(0.5)

    def new_data(layer):
        layer.weight_ih_l1.data = layer.weight_ih_l1.data * 2

    def copied(layer):
        with torch.no_grad():
            layer.bias_hh_l0.copy_(torch.arange(len(layer.bias_hh_l0)) / 10)

    def in_numpy(layer):
        layer.weight_hh_l1.detach().numpy()[1, 2] += 1.0

    def through_a_view(layer):
        layer.weight_hh_l1_reverse.detach()[2].fill_(0.25)

    def at_inference(layer):
        with torch.inference_mode():
            layer.weight_ih_l0.add_(0.5)

    def stepped(layer):
        layer(x)[0].sum().backward()
        torch.optim.SGD(layer.parameters(), lr=0.1).step()
        layer.zero_grad()

    for change in (at_data, new_data, copied, in_numpy, through_a_view, at_inference, stepped):
        for training in (True, False):
            with torch.set_grad_enabled(training):
                ours(x)
        change(ours), change(theirs)
        assert_same(results(ours, x), results(theirs, x))
        with torch.no_grad():
            assert_same(leaves(ours(x)), leaves(theirs(x)))


@each_kind
def test_gradients_of_parts(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x, hx = steps_of(theirs), state_of(theirs)
    count = len(leaves(theirs(x)))
    for picked in (*((k,) for k in range(count)), (0, count - 1)):
        found = []
        for layer in (ours, theirs):
            given = mapped((x, hx), lambda tensor: tensor.detach().requires_grad_())
            outputs = leaves(layer(*given))
            wanted = [*leaves(given), *layer.parameters()]
            gradients = torch.autograd.grad(
                weighed([outputs[k] for k in picked]), wanted, allow_unused=True
            )
            # torch may say None where no gradient arrives; zeros say the same
            found.append(
                [
                    torch.zeros_like(w) if g is None else g
                    for g, w in zip(gradients, wanted, strict=True)
                ]
            )
        assert_same(*found)
    for wanted_of in (
        lambda given, layer: given[:1],
        lambda given, layer: leaves(given[1]),
        lambda given, layer: [layer.weight_hh_l1],
    ):
        found = []
        for layer in (ours, theirs):
            given = mapped((x, hx), lambda tensor: tensor.detach().requires_grad_())
            found.append(
                torch.autograd.grad(weighed(leaves(layer(*given))), list(wanted_of(given, layer)))
            )
        assert_same(*found)


@each_kind
def test_frozen_parameters(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    names = [name for name, _ in theirs.named_parameters()]
    for frozen in (
        ["weight_hh_l0"],
        [n for n in names if "bias" in n],
        [n for n in names if "l0" in n],
        names,
    ):
        found = []
        for layer in (ours, theirs):
            layer.zero_grad()
            for name, parameter in layer.named_parameters():
                parameter.requires_grad_(name not in frozen)
            free = layer(x)[0]
            assert free.requires_grad == (frozen is not names)
            given = x.clone().requires_grad_()
            weighed(leaves(layer(given))).backward()
            gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
            assert {name for name, gradient in gradients.items() if gradient is None} == set(frozen)
            found.append([given.grad, *gradients.values()])
        assert_same(*found)


@each_kind
def test_hooks(family, kind):
    theirs, ours = pair(family, kind)
    x = steps_of(theirs)
    found = []
    for layer in (ours, theirs):
        seen = []
        layer.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args))
        layer.register_forward_hook(lambda module, args, result, seen=seen: seen.append(result))
        layer.weight_hh_l0.register_hook(lambda gradient: gradient * 2)
        output, _ = layer(x)
        output.retain_grad()
        output.register_hook(lambda gradient: gradient * 3)
        output.pow(2).sum().backward()
        assert pytree.tree_structure(seen[0]) == pytree.tree_structure((x,))
        found.append([*leaves(seen[1]), output.grad, *(p.grad for p in layer.parameters())])
    assert_same(*found)


@each_kind
def test_two_layers_in_a_row(family, kind):
    pairs = [
        pair(family, kind, INPUTS, HIDDEN, bidirectional=True),
        pair(family, kind, 2 * HIDDEN, 5, 2),
    ]
    found = []
    x = steps_of(pairs[0][0])
    for which in (1, 0):
        first, second = pairs[0][which], pairs[1][which]
        x = x.detach().requires_grad_()
        middle, h = first(x)
        outputs = [*leaves(second(torch.relu(middle))), *leaves(h)]
        wanted = [x, *first.parameters(), *second.parameters()]
        found.append([*outputs, *torch.autograd.grad(weighed(outputs), wanted)])
    assert_same(*found)


# ---- second derivatives --------------------------------------------------------------------------


def zeroed(gradients, like):
    """Zeros for None: they say the same, and which of the two comes is not agreed upon."""
    return [
        torch.zeros_like(other) if g is None else g
        for g, other in zip(gradients, like, strict=True)
    ]


def second_derivatives(module, x, hx=None):
    """[gradients…, gradients of the sizes of the gradients…] for x, the states and the parameters."""
    given = mapped((x, hx), lambda tensor: tensor.detach().requires_grad_())
    wanted = [*leaves(given), *module.parameters()]
    first = torch.autograd.grad(weighed(leaves(module(*given))), wanted, create_graph=True)
    second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted, allow_unused=True)
    return [*first, *zeroed(second, wanted)]


@pytest.mark.parametrize("form", ["plain", "both directions", "batch first", "no bias"])
@each_kind
def test_second_derivatives(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    x, hx = steps_of(theirs), state_of(theirs)
    exact = second_derivatives(
        copy.deepcopy(theirs).double(), *mapped((x, hx), torch.Tensor.double)
    )
    for strides in (torch.Tensor.clone, LAYOUTS["transposed"], LAYOUTS["features first"]):
        mine = second_derivatives(ours, strides(x), mapped(hx, strides))
        assert_same(mine, second_derivatives(theirs, strides(x), mapped(hx, strides)), 1e-4)
        assert_same([gradient.double() for gradient in mine], exact, 1e-4)


@pytest.mark.parametrize("batch_first", [False, True])
@each_kind
def test_second_derivatives_behind_an_embedding(family, kind, batch_first):
    theirs, ours = pair(family, kind, batch_first=batch_first)
    words = torch.randint(0, 10, (BATCH, STEPS))
    table = torch.randn(10, INPUTS)
    found = []
    for layer in (ours, theirs):
        embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False)
        x = embedding(words)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Using backward\\(\\) with create_graph=True", UserWarning
            )
            layer(x if batch_first else x.transpose(0, 1))[0].sum().backward(create_graph=True)
        gradient = embedding.weight.grad
        assert gradient.requires_grad
        wanted = [embedding.weight, *layer.parameters()]
        second = torch.autograd.grad(gradient.pow(2).sum(), wanted, allow_unused=True)
        found.append([gradient, *zeroed(second, wanted)])
        for parameter in wanted:
            parameter.grad = None  # or it and its graph hold each other for ever
    assert_same(*found, 1e-4)


@each_dtype
@each_kind
def test_hessian_vector_product_through_two_layers(family, kind, dtype):
    pairs = [
        pair(family, kind, INPUTS, HIDDEN, dtype=dtype),
        pair(family, kind, HIDDEN, 5, dtype=dtype),
    ]
    x = steps_of(pairs[0][0])
    found = []
    for which in (1, 0):
        first, second = pairs[0][which], pairs[1][which]
        parameters = [*first.parameters(), *second.parameters()]
        loss = second(first(x)[0])[0].pow(2).sum()
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        generator = torch.Generator().manual_seed(3)
        vector = [torch.randn(p.shape, generator=generator, dtype=dtype) for p in parameters]
        found.append(torch.autograd.grad(gradients, parameters, vector))
    assert_same(*found, 10 * TOLERANCE[dtype])


@each_kind
def test_second_derivatives_of_one_gradient_at_a_time(family, kind):
    theirs, ours = pair(family, kind, **FORMS["stacked"])
    x, hx = steps_of(theirs), state_of(theirs)
    count = 1 + len(leaves(hx)) + len(list(theirs.parameters()))
    for at in range(count):
        found = []
        for layer in (ours, theirs):
            given = mapped((x, hx), lambda tensor: tensor.detach().requires_grad_())
            wanted = [*leaves(given), *layer.parameters()]
            (first,) = torch.autograd.grad(
                weighed(leaves(layer(*given))), wanted[at], create_graph=True
            )
            second = torch.autograd.grad(first.pow(2).sum(), wanted, allow_unused=True)
            found.append([first, *zeroed(second, wanted)])
        assert_same(*found, 1e-4)


@each_kind
def test_second_derivatives_of_an_expanded_learned_state(family, kind):
    theirs, ours = pair(family, kind)
    start = mapped(state_of(theirs, 1), nn.Parameter)
    x = steps_of(theirs)
    found = []
    for layer in (ours, theirs):
        outputs = leaves(layer(x, mapped(start, lambda tensor: tensor.expand(-1, BATCH, -1))))
        first = torch.autograd.grad(weighed(outputs), leaves(start), create_graph=True)
        wanted = [*leaves(start), *layer.parameters()]
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted, allow_unused=True)
        found.append([*first, *zeroed(second, wanted)])
    assert_same(*found, 1e-4)


@pytest.mark.parametrize("enforce_sorted", [True, False])
@each_kind
def test_second_derivatives_of_packed_sequences(family, kind, enforce_sorted):
    theirs, ours = pair(family, kind, bidirectional=True)
    sequences = [torch.randn(n, INPUTS) for n in ((4, 3, 1) if enforce_sorted else (1, 4, 3))]
    packed = pack_sequence(sequences, enforce_sorted=enforce_sorted)
    assert_same(second_derivatives(ours, packed), second_derivatives(theirs, packed), 1e-4)


@each_kind
def test_penalty_of_the_gradient(family, kind):
    """The gradient penalty of a critic: the norm of the gradient of x, trained into the weights."""
    theirs, ours = pair(family, kind, batch_first=True)
    found = []
    x = steps_of(theirs)
    for layer in (ours, theirs):
        x = x.detach().requires_grad_()
        score = layer(x)[0][:, -1].sum()
        (gradient,) = torch.autograd.grad(score, x, create_graph=True)
        (gradient.flatten(1).norm(dim=1) - 1).pow(2).mean().backward()
        found.append(
            [gradient, *zeroed([p.grad for p in layer.parameters()], list(layer.parameters()))]
        )
    assert_same(*found, 1e-4)


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated"
)  # torch's own rules for forward derivatives
@each_kind
def test_forward_derivatives_in_float64(family, kind):
    theirs, ours = pair(family, kind, dtype=torch.float64, **FORMS["both directions"])
    x, direction = steps_of(theirs), steps_of(theirs)
    found = []
    for layer in (ours, theirs):
        with torch.autograd.forward_ad.dual_level():
            outputs = leaves(layer(torch.autograd.forward_ad.make_dual(x, direction)))
            found.append([torch.autograd.forward_ad.unpack_dual(out).tangent for out in outputs])
    assert_same(*found, 1e-10)


# ---- parameters ----------------------------------------------------------------------------------


@each_kind
def test_tied_parameters(family, kind):
    def tie(layer, how):
        if how == "input and recurrent":
            layer.weight_hh_l0 = layer.weight_ih_l0
        elif how == "directions":
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(layer, f"{name}_l0_reverse", getattr(layer, f"{name}_l0"))
        else:
            layer.bias_hh_l0 = layer.bias_ih_l0
        return layer

    for how in ("input and recurrent", "directions", "biases"):
        theirs, ours = (tie(layer, how) for layer in pair(family, kind, 5, 5, bidirectional=True))
        x, hx = steps_of(theirs), state_of(theirs)
        assert [name for name, _ in ours.named_parameters()] == [
            name for name, _ in theirs.named_parameters()
        ]
        assert_same(results(ours, x, hx), results(theirs, x, hx))
        assert_same(second_derivatives(ours, x), second_derivatives(theirs, x), 1e-4)


@each_kind
def test_a_weight_shared_by_two_layers(family, kind):
    pairs = [pair(family, kind, 5, 5), pair(family, kind, 5, 5)]
    found = []
    x = steps_of(pairs[0][0])
    for which in (1, 0):
        first, second = pairs[0][which], pairs[1][which]
        second.weight_hh_l0 = first.weight_hh_l0
        outputs = leaves(second(first(x)[0]))
        found.append([*outputs, *torch.autograd.grad(weighed(outputs), first.parameters())])
    assert_same(*found)


@each_kind
def test_flat_weights_follow(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    ours(x)
    assert ours._flat_weights_names == theirs._flat_weights_names
    new = torch.randn_like(theirs.weight_hh_l0)
    for layer in (theirs, ours):
        layer.weight_hh_l0 = nn.Parameter(new.clone())
        assert (
            layer._flat_weights[layer._flat_weights_names.index("weight_hh_l0")]
            is layer.weight_hh_l0
        )
    assert_same(results(ours, x), results(theirs, x))
    for layer in (theirs, ours):
        layer.double()
        assert all(
            w is getattr(layer, name)
            for w, name in zip(layer._flat_weights, layer._flat_weights_names, strict=True)
        )
    assert_same(results(ours, x.double()), results(theirs, x.double()), 1e-10)


@each_kind
def test_a_weight_that_is_a_plain_tensor(family, kind):
    """As weight dropout does it: the parameter is taken out, a computed tensor put in its place."""
    theirs, ours = pair(family, kind)
    x = steps_of(theirs)
    found = []
    for layer in (ours, theirs):
        raw = nn.Parameter(layer.weight_hh_l0.detach().clone())
        del layer._parameters["weight_hh_l0"]
        layer.register_parameter("weight_hh_l0_raw", raw)
        layer.weight_hh_l0 = raw * 0.5
        outputs = leaves(layer(x))
        found.append([*outputs, *torch.autograd.grad(weighed(outputs), layer.parameters())])
        assert layer.weight_hh_l0_raw is raw
    assert_same(*found)


@each_kind
def test_all_weights_and_flatten_parameters(family, kind):
    for options in (
        FORMS["both directions"],
        FORMS["no bias"],
        *([{"proj_size": 2}] if kind == "LSTM" else []),
    ):
        theirs, ours = pair(family, kind, **options)
        for mine, other in zip(ours.all_weights, theirs.all_weights, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
        assert {id(p) for p in itertools.chain.from_iterable(ours.all_weights)} == {
            id(p) for p in ours.parameters()
        }
        x = steps_of(theirs)
        expected = leaves(ours(x))
        assert ours.flatten_parameters() is None
        assert_same(leaves(ours(x)), expected, 0.0)


@each_kind
def test_start_values(family, kind):
    name, extra = KINDS[kind]
    found = []
    for source in (family, nn):
        torch.manual_seed(9)
        layer = getattr(source, name)(INPUTS, HIDDEN, 2, bidirectional=True, **extra)
        first = [p.detach().clone() for p in layer.parameters()]
        layer.reset_parameters()
        found.append([*first, *(p.detach().clone() for p in layer.parameters()), torch.rand(1)])
    assert_same(*found, 0.0)


@each_kind
def test_state_dicts(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.state_dict()._metadata == theirs.state_dict()._metadata
    x = steps_of(theirs)
    fresh_theirs, fresh_ours = pair(family, kind, **FORMS["both directions"])
    for target, source in ((fresh_ours, theirs), (fresh_theirs, ours)):
        assert (
            str(target.load_state_dict(source.state_dict(), strict=True))
            == "<All keys matched successfully>"
        )
    assert_same(results(fresh_ours, x), results(fresh_theirs, x))
    assert_same(leaves(fresh_ours(x)), leaves(theirs(x)))
    wrong = dict(theirs.state_dict())
    wrong["weight_xx"] = wrong.pop("weight_hh_l1")
    wrong["bias_ih_l0"] = torch.zeros(2)
    assert_same_error(lambda: theirs.load_state_dict(wrong), lambda: ours.load_state_dict(wrong))


@each_kind
def test_state_dict_that_is_assigned(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    ours(x)
    given = {name: torch.randn_like(value) for name, value in theirs.state_dict().items()}
    for layer in (theirs, ours):
        layer.load_state_dict(given, assign=True)
        assert layer.weight_hh_l0.data_ptr() == given["weight_hh_l0"].data_ptr()
        assert layer.weight_hh_l0.requires_grad
    assert_same(results(ours, x), results(theirs, x))
    wide = {name: value.double() for name, value in given.items()}
    for layer in (theirs, ours):
        layer.load_state_dict(wide, assign=True)
    assert_same(results(ours, x.double()), results(theirs, x.double()), 1e-10)


def through_a_file(value, **options):
    """Saved by torch and read back."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, **options)


@each_kind
def test_files(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    output, h = ours(x)
    read = through_a_file(
        {"h": h, "output": output.detach(), "weights": ours.state_dict()}, weights_only=True
    )
    assert type(read["h"]) is type(h)
    assert_same([*leaves(read["h"]), read["output"]], [*leaves(h), output])
    theirs.load_state_dict(read["weights"])
    ours.load_state_dict(through_a_file(theirs.state_dict(), weights_only=True))
    assert_same(results(ours, x), results(theirs, x))


@pytest.mark.parametrize("way", ["pickle", "torch.save", "deepcopy", "copy"])
@each_kind
def test_copies(family, kind, way):
    theirs, ours = pair(family, kind, dropout=0.25, **FORMS["batch first"])
    x, hx = steps_of(theirs), state_of(theirs)
    ours.eval()(x)[0].sum().backward()  # a layer that has been used
    expected = results(theirs.eval(), x, hx)
    twin = {
        "pickle": lambda: pickle.loads(pickle.dumps(ours)),
        "torch.save": lambda: through_a_file(ours, weights_only=False),
        "deepcopy": lambda: copy.deepcopy(ours),
        "copy": lambda: copy.copy(ours),
    }[way]()
    assert type(twin) is type(ours)
    assert twin.__dict__.keys() == ours.__dict__.keys()
    assert not twin.training
    assert twin.dropout == 0.25
    assert_same(results(twin, x, hx), expected)
    if way == "copy":
        assert twin.weight_hh_l0 is ours.weight_hh_l0
        return
    with torch.no_grad():
        twin.weight_hh_l0.zero_()
    assert_same(results(ours, x, hx), expected)
    theirs.load_state_dict(twin.state_dict())
    assert_same(results(twin, x, hx), results(theirs, x, hx))


@each_kind
def test_functional_call(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x, hx = steps_of(theirs), state_of(theirs)
    before = leaves(ours(x, hx))
    full = {name: torch.randn_like(p).requires_grad_() for name, p in theirs.named_parameters()}
    part = {"weight_hh_l1": full["weight_hh_l1"]}
    for held in (full, part):
        found = []
        for layer in (ours, theirs):
            outputs = leaves(torch.func.functional_call(layer, held, (x, hx)))
            found.append([*outputs, *torch.autograd.grad(weighed(outputs), list(held.values()))])
        assert_same(*found, 2e-5)
        assert_same(leaves(ours(x, hx)), before, 0.0)  # the layer has its own weights back
    found = []
    for layer in (ours, theirs):
        gradients = torch.func.grad(
            lambda held, layer=layer: weighed(leaves(torch.func.functional_call(layer, held, (x,))))
        )
        found.append(
            list(gradients({name: p.detach() for name, p in layer.named_parameters()}).values())
        )
    assert_same(*found, 2e-5)


# ---- modes of torch ------------------------------------------------------------------------------


@each_form
@each_kind
def test_without_gradients(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    x, hx = steps_of(theirs), state_of(theirs)
    expected = leaves(theirs(x, hx))
    for mode in (torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)):
        with mode():
            mine, other = leaves(ours(x, hx)), leaves(theirs(x, hx))
        assert_same(mine, expected)
        for ours_out, theirs_out in zip(mine, other, strict=True):
            assert ours_out.requires_grad == theirs_out.requires_grad
            assert ours_out.is_inference() == theirs_out.is_inference()
    assert all(out.requires_grad for out in leaves(ours(x, hx)))


@each_kind
def test_weights_loaded_under_inference_mode(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = steps_of(theirs)
    ours(x)
    given = {name: torch.randn_like(value) for name, value in theirs.state_dict().items()}
    for layer in (theirs, ours):
        with torch.inference_mode():
            layer.load_state_dict(given)
    assert_same(results(ours, x), results(theirs, x))
    for layer in (theirs, ours):
        with torch.inference_mode():
            layer.load_state_dict(
                {name: value.clone() for name, value in given.items()}, assign=True
            )
        assert layer.weight_hh_l0.is_inference()  # has no version counter
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for _ in range(2):
                assert_same(leaves(ours(x)), leaves(theirs(x)))
                for layer in (theirs, ours):
                    with torch.inference_mode():
                        layer.weight_hh_l0.mul_(0.5)
    for layer in (theirs, ours):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            weighed(leaves(layer(x))).backward()


@each_kind
def test_inputs_made_under_inference_mode(family, kind):
    theirs, ours = pair(family, kind)
    with torch.inference_mode():
        x, hx = steps_of(theirs), state_of(theirs)
    for layer in (theirs, ours):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            weighed(leaves(layer(x, hx))).backward()
    with torch.no_grad():
        assert_same(leaves(ours(x, hx)), leaves(theirs(x, hx)))


@each_kind
def test_a_layer_made_under_inference_mode(family, kind):
    with torch.inference_mode():
        theirs, ours = pair(family, kind, **FORMS["both directions"])
        x = steps_of(theirs)
        assert_same(leaves(ours(x)), leaves(theirs(x)))


# ---- cells ---------------------------------------------------------------------------------------


def cell_state(kind, *shape, dtype=None):
    """A random state of that shape."""
    h, c = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    return (h, c) if kind == "LSTM" else h


@each_dtype
@pytest.mark.parametrize("bias", [True, False])
@each_kind
def test_cells(family, kind, bias, dtype):
    theirs, ours = pair(family, kind, ending="Cell", bias=bias, dtype=dtype)
    assert repr(ours) == repr(theirs)
    for rows in ((BATCH,), (1,), (0,), ()):
        x, hx = (
            torch.randn(*rows, INPUTS, dtype=dtype),
            cell_state(kind, *rows, HIDDEN, dtype=dtype),
        )
        assert_same(results(ours, x, hx), results(theirs, x, hx), TOLERANCE[dtype])
        assert_same(results(ours, x), results(theirs, x), TOLERANCE[dtype])
        assert type(ours(x, hx)) is type(theirs(x, hx))
        assert {out.shape for out in leaves(ours(x))} == {(*rows, HIDDEN)}
        zeros = mapped(hx, torch.zeros_like)
        assert_same(leaves(ours(x)), leaves(ours(x, zeros)), TOLERANCE[dtype])
        assert_same(leaves(ours(input=x, hx=hx)), leaves(theirs(x, hx)), TOLERANCE[dtype])
    with torch.no_grad():
        x, hx = (
            torch.randn(BATCH, INPUTS, dtype=dtype),
            cell_state(kind, BATCH, HIDDEN, dtype=dtype),
        )
        mine = ours(x, hx)
        assert_same(leaves(mine), leaves(theirs(x, hx)), TOLERANCE[dtype])
        assert not any(out.requires_grad for out in leaves(mine))


@each_kind
def test_wrong_calls_of_cells(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    x, alone = torch.zeros(BATCH, INPUTS), torch.zeros(INPUTS)

    def state(*shape, **options):
        h = torch.zeros(shape, **options)
        return (h, h.clone()) if kind == "LSTM" else h

    calls = {
        "features": (torch.zeros(BATCH, INPUTS + 1), state(BATCH, HIDDEN)),
        "features, no state": (torch.zeros(BATCH, INPUTS + 1),),
        "features unbatched": (torch.zeros(INPUTS - 1),),
        "no axis": (torch.zeros(()),),
        "three axes": (torch.zeros(1, BATCH, INPUTS),),
        "state: size": (x, state(BATCH, HIDDEN + 1)),
        "state: batch": (x, state(BATCH + 2, HIDDEN)),
        "state: batch of one does not spread": (x, state(1, HIDDEN)),
        "input of one does not spread": (x[:1], state(BATCH, HIDDEN)),
        "state: three axes": (x, state(1, BATCH, HIDDEN)),
        "state: four axes": (x, state(BATCH, 1, 1, HIDDEN)),
        "state: one axis": (x, state(HIDDEN)),
        "state: two axes unbatched": (alone, state(1, HIDDEN)),
        "state: size unbatched": (alone, state(HIDDEN - 1)),
        "float64 input": (x.double(),),
        "float64 state": (x, state(BATCH, HIDDEN, dtype=torch.float64)),
        "integers": (x.long(),),
        "no input": (None,),
        "text as state": (x, "ab"),
    }
    if kind == "LSTM":
        h = torch.zeros(BATCH, HIDDEN)
        calls |= {
            "c: size": (x, (h, torch.zeros(BATCH, HIDDEN + 1))),
            "c: batch": (x, (h, torch.zeros(1, HIDDEN))),
            "h: size": (x, (torch.zeros(BATCH, HIDDEN + 1), h)),
            "only h": (x, (h,)),
            "c missing": (x, (h, None)),
        }
    else:
        calls |= {"pair as state": (x, (state(BATCH, HIDDEN),) * 2)}
    assert_same_refusals(theirs, ours, calls)


def test_unknown_nonlinearity_of_a_cell(family):
    x = torch.zeros(BATCH, INPUTS)
    assert_same_error(
        lambda: nn.RNNCell(INPUTS, HIDDEN, nonlinearity="garbage")(x),
        lambda: family.RNNCell(INPUTS, HIDDEN, nonlinearity="garbage")(x),
    )
    assert repr(family.RNNCell(4, 6, False, "relu")) == repr(nn.RNNCell(4, 6, False, "relu"))


@pytest.mark.parametrize("sizes", [(4, 0), (0, 4)], ids=str)
@each_kind
def test_cells_of_size_zero(family, kind, sizes):
    theirs, ours = pair(family, kind, *sizes, ending="Cell")
    x, hx = torch.randn(BATCH, sizes[0]), cell_state(kind, BATCH, sizes[1])
    assert_same(leaves(ours(x, hx)), leaves(theirs(x, hx)))
    assert {out.shape for out in leaves(ours(x))} == {(BATCH, sizes[1])}


@each_kind
def test_cells_unrolled(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    layer = pair(family, kind)[1]
    layer.load_state_dict({f"{name}_l0": value for name, value in ours.state_dict().items()})
    x, start = torch.randn(STEPS, BATCH, INPUTS), cell_state(kind, BATCH, HIDDEN)
    found = []
    for cell in (ours, theirs):
        given, hx = x.clone().requires_grad_(), start
        outputs = []
        for step in given:
            hx = cell(step, hx)
            outputs.append(leaves(hx)[0])
        results_of_all = [torch.stack(outputs), *leaves(hx)]
        gradients = torch.autograd.grad(weighed(results_of_all), [given, *cell.parameters()])
        found.append([*results_of_all, *gradients])
    assert_same(*found)
    whole = results(layer, x, mapped(start, lambda tensor: tensor[None]))
    assert_same(found[0][:1], whole[:1])


@pytest.mark.parametrize("layout", ["every second feature", "transposed", "expanded"])
@each_kind
def test_layouts_of_cells(family, kind, layout):
    theirs, ours = pair(family, kind, ending="Cell")
    change = {
        "every second feature": lambda x: torch.stack([x, x + 1], -1)[..., 0],
        "transposed": lambda x: x.t().contiguous().t(),
        "expanded": lambda x: x[:1].expand_as(x),
    }[layout]
    x, hx = change(torch.randn(BATCH, INPUTS)), mapped(cell_state(kind, BATCH, HIDDEN), change)
    assert_same(results(ours, x, hx), results(theirs, x, hx))


@each_kind
def test_second_derivatives_of_cells(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    x, hx = torch.randn(BATCH, INPUTS), cell_state(kind, BATCH, HIDDEN)
    assert_same(second_derivatives(ours, x, hx), second_derivatives(theirs, x, hx), 1e-4)
    assert_same(second_derivatives(ours, x), second_derivatives(theirs, x), 1e-4)


def test_a_list_as_the_state_of_a_cell(family):
    theirs, ours = pair(family, "LSTM", ending="Cell")
    x, hx = torch.randn(BATCH, INPUTS), list(cell_state("LSTM", BATCH, HIDDEN))
    assert_same(results(ours, x, hx), results(theirs, x, hx))
    assert type(ours(x, hx)) is tuple


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_kind
def test_autocast_of_cells(family, kind, dtype):
    theirs, ours = pair(family, kind, ending="Cell")
    x, hx = torch.randn(BATCH, INPUTS), cell_state(kind, BATCH, HIDDEN)
    for given in ((x,), (x, hx), (x.to(dtype), mapped(hx, lambda tensor: tensor.to(dtype)))):
        with torch.autocast("cpu", dtype):
            assert_same(leaves(ours(*given)), leaves(theirs(*given)), 0.03)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@each_kind
def test_values_of_cells_that_are_not_finite_or_large(family, kind, value):
    theirs, ours = pair(family, kind, ending="Cell")
    for at in range(3 if kind == "LSTM" else 2):
        given = [torch.randn(BATCH, INPUTS), *leaves(cell_state(kind, BATCH, HIDDEN))]
        given[at][1, 2] = value
        x, hx = given[0], tuple(given[1:]) if kind == "LSTM" else given[1]
        assert_same(leaves(ours(x, hx)), leaves(theirs(x, hx)))


@each_kind
def test_changes_of_cells_in_place_before_backward(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    x, hx = (
        torch.randn(BATCH, INPUTS),
        mapped(cell_state(kind, BATCH, HIDDEN), torch.Tensor.requires_grad_),
    )
    for cell in (theirs, ours):
        loss = weighed(leaves(cell(x, hx)))
        with torch.no_grad():
            cell.weight_hh.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    assert_same(
        results(ours, x, hx), results(theirs, x, hx)
    )  # the weights in use are the changed ones


@each_kind
def test_copies_and_conversions_of_cells(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    x, hx = torch.randn(BATCH, INPUTS), cell_state(kind, BATCH, HIDDEN)
    for twin in (
        copy.deepcopy(ours),
        pickle.loads(pickle.dumps(ours)),
        through_a_file(ours, weights_only=False),
    ):
        assert type(twin) is type(ours)
        assert_same(results(twin, x, hx), results(ours, x, hx), 0.0)
    theirs.load_state_dict(through_a_file(ours.state_dict(), weights_only=True))
    held = {name: torch.randn_like(p) for name, p in theirs.named_parameters()}
    assert_same(
        *(leaves(torch.func.functional_call(cell, held, (x, hx))) for cell in (ours, theirs))
    )
    for cell in (theirs, ours):
        cell.double()
    assert_same(leaves(ours(x.double())), leaves(theirs(x.double())), 1e-10)
    meta = mapped((x, hx), lambda tensor: tensor.to("meta"))
    assert [out.shape for out in leaves(ours.float().to("meta")(*meta))] == [
        out.shape for out in leaves(hx)
    ]


@each_kind
def test_frozen_parameters_of_cells(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    x, hx = torch.randn(BATCH, INPUTS), cell_state(kind, BATCH, HIDDEN)
    names = [name for name, _ in theirs.named_parameters()]
    for frozen in (names[:1], names[1:2], names[2:], names):
        found = []
        for cell in (ours, theirs):
            cell.zero_grad()
            for name, parameter in cell.named_parameters():
                parameter.requires_grad_(name not in frozen)
            outputs = leaves(cell(x, hx))
            assert outputs[0].requires_grad == (frozen is not names)
            if frozen is not names:
                weighed(outputs).backward()
            found.append([parameter.grad for parameter in cell.parameters()])
        assert_same(*found)
