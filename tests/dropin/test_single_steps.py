"""LSTMCell, GRUCell and RNNCell behave as in torch.nn."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch_comparison import (
    BATCH,
    HIDDEN,
    INPUTS,
    STEPS,
    TOLERANCE,
    assert_same,
    assert_same_error,
    assert_same_errors,
    each_dtype,
    each_kind,
    map_tensors,
    pair,
    results,
    save_and_load,
    second_derivatives,
    tensors_in,
    weighted_sum,
)

pytestmark = pytest.mark.usefixtures("seed")


def cell_state(kind, *shape, dtype=None):
    """A random state of this shape."""
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
        assert {out.shape for out in tensors_in(ours(x))} == {(*rows, HIDDEN)}
        zeros = map_tensors(hx, torch.zeros_like)
        assert_same(tensors_in(ours(x)), tensors_in(ours(x, zeros)), TOLERANCE[dtype])
        assert_same(tensors_in(ours(input=x, hx=hx)), tensors_in(theirs(x, hx)), TOLERANCE[dtype])
    with torch.no_grad():
        x, hx = (
            torch.randn(BATCH, INPUTS, dtype=dtype),
            cell_state(kind, BATCH, HIDDEN, dtype=dtype),
        )
        mine = ours(x, hx)
        assert_same(tensors_in(mine), tensors_in(theirs(x, hx)), TOLERANCE[dtype])
        assert not any(out.requires_grad for out in tensors_in(mine))


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
    assert_same_errors(theirs, ours, calls)


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
    assert_same(tensors_in(ours(x, hx)), tensors_in(theirs(x, hx)))
    assert {out.shape for out in tensors_in(ours(x))} == {(BATCH, sizes[1])}


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
            outputs.append(tensors_in(hx)[0])
        results_of_all = [torch.stack(outputs), *tensors_in(hx)]
        gradients = torch.autograd.grad(weighted_sum(results_of_all), [given, *cell.parameters()])
        found.append([*results_of_all, *gradients])
    assert_same(*found)
    whole = results(layer, x, map_tensors(start, lambda tensor: tensor[None]))
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
    x, hx = change(torch.randn(BATCH, INPUTS)), map_tensors(cell_state(kind, BATCH, HIDDEN), change)
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
    for given in ((x,), (x, hx), (x.to(dtype), map_tensors(hx, lambda tensor: tensor.to(dtype)))):
        with torch.autocast("cpu", dtype):
            assert_same(tensors_in(ours(*given)), tensors_in(theirs(*given)), 0.03)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@each_kind
def test_non_finite_and_large_values_of_cells(family, kind, value):
    theirs, ours = pair(family, kind, ending="Cell")
    for at in range(3 if kind == "LSTM" else 2):
        given = [torch.randn(BATCH, INPUTS), *tensors_in(cell_state(kind, BATCH, HIDDEN))]
        given[at][1, 2] = value
        x, hx = given[0], tuple(given[1:]) if kind == "LSTM" else given[1]
        assert_same(tensors_in(ours(x, hx)), tensors_in(theirs(x, hx)))


@each_kind
def test_in_place_changes_of_cells_before_backward(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    x, hx = (
        torch.randn(BATCH, INPUTS),
        map_tensors(cell_state(kind, BATCH, HIDDEN), torch.Tensor.requires_grad_),
    )
    for cell in (theirs, ours):
        loss = weighted_sum(tensors_in(cell(x, hx)))
        with torch.no_grad():
            cell.weight_hh.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    assert_same(results(ours, x, hx), results(theirs, x, hx))  # the changed weights are used


@each_kind
def test_copies_and_conversions_of_cells(family, kind):
    theirs, ours = pair(family, kind, ending="Cell")
    x, hx = torch.randn(BATCH, INPUTS), cell_state(kind, BATCH, HIDDEN)
    for twin in (
        copy.deepcopy(ours),
        pickle.loads(pickle.dumps(ours)),
        save_and_load(ours, weights_only=False),
    ):
        assert type(twin) is type(ours)
        assert_same(results(twin, x, hx), results(ours, x, hx), 0.0)
    theirs.load_state_dict(save_and_load(ours.state_dict(), weights_only=True))
    held = {name: torch.randn_like(p) for name, p in theirs.named_parameters()}
    assert_same(
        *(tensors_in(torch.func.functional_call(cell, held, (x, hx))) for cell in (ours, theirs))
    )
    for cell in (theirs, ours):
        cell.double()
    assert_same(tensors_in(ours(x.double())), tensors_in(theirs(x.double())), 1e-10)
    meta = map_tensors((x, hx), lambda tensor: tensor.to("meta"))
    assert [out.shape for out in tensors_in(ours.float().to("meta")(*meta))] == [
        out.shape for out in tensors_in(hx)
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
            outputs = tensors_in(cell(x, hx))
            assert outputs[0].requires_grad == (frozen is not names)
            if frozen is not names:
                weighted_sum(outputs).backward()
            found.append([parameter.grad for parameter in cell.parameters()])
        assert_same(*found)
