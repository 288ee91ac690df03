"""Outputs and gradients equal those of torch.nn for every layout, type and structure."""

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch_comparison import (
    BATCH,
    FORMS,
    HIDDEN,
    LAYOUTS,
    TOLERANCE,
    assert_same,
    each_dtype,
    each_form,
    each_kind,
    map_tensors,
    pair,
    raised_error,
    random_input,
    random_state,
    results,
    tensors_in,
    weighted_sum,
)

pytestmark = pytest.mark.usefixtures("seed")


@each_dtype
@each_form
@each_kind
def test_outputs_and_gradients(family, kind, form, dtype):
    theirs, ours = pair(family, kind, dtype=dtype, **FORMS[form])
    for batch in (BATCH, 1, None):
        x, hx = random_input(theirs, batch=batch), random_state(theirs, batch=batch)
        assert_same(results(ours, x), results(theirs, x), TOLERANCE[dtype])
        assert_same(results(ours, x, hx), results(theirs, x, hx), TOLERANCE[dtype])
    x = random_input(theirs, steps=1)
    assert_same(results(ours, x), results(theirs, x), TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize(
    "options", [{}, FORMS["batch first"], {"bias": False, "num_layers": 2}], ids=str
)
def test_projections(family, options, dtype):
    theirs, ours = pair(family, "LSTM", proj_size=2, dtype=dtype, **options)
    for batch in (BATCH, None):
        x, hx = random_input(theirs, batch=batch), random_state(theirs, batch=batch)
        assert_same(results(ours, x, hx), results(theirs, x, hx), TOLERANCE[dtype])
        assert_same(results(ours, x), results(theirs, x), TOLERANCE[dtype])
    _, (h, c) = ours(random_input(ours))
    assert h.shape[-1] == 2
    assert c.shape[-1] == HIDDEN


@each_form
@each_kind
def test_the_default_state_is_zero(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    for batch in (BATCH, None):
        x = random_input(ours, batch=batch)
        zeros = random_state(ours, batch, torch.zeros)
        for mine, other in zip(tensors_in(ours(x)), tensors_in(ours(x, zeros)), strict=True):
            assert torch.equal(mine, other)
        assert_same(tensors_in(ours(x)), tensors_in(theirs(x, zeros)))


@each_form
@each_kind
def test_structure_and_layout_of_the_result(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    for batch in (BATCH, None):
        x = random_input(theirs, batch=batch)
        result, expected = ours(x), theirs(x)
        assert type(result) is tuple
        assert type(result[1]) is type(expected[1]) is (tuple if kind == "LSTM" else torch.Tensor)
        assert [type(leaf) for leaf in pytree.tree_leaves(result)] == [torch.Tensor] * (
            3 if kind == "LSTM" else 2
        )
        assert pytree.tree_structure(result) == pytree.tree_structure(expected)
        assert all(state.is_contiguous() for state in tensors_in(result[1]))
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
def test_results_share_no_memory(family, kind):
    for form in ("plain", "both directions"):
        _, ours = pair(family, kind, **FORMS[form])
        x, hx = random_input(ours), random_state(ours)
        before = [tensor.clone() for tensor in (x, *tensors_in(hx))]
        with torch.no_grad():
            first = tensors_in(ours(x, hx))
            kept = [tensor.clone() for tensor in first]
            ours(random_input(ours), hx)
            assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))
            for at, tensor in enumerate(
                first
            ):  # overwriting one changes neither the others nor the weights
                tensor.fill_(at)
                assert all(
                    torch.equal(a, b) for a, b in zip(first[at + 1 :], kept[at + 1 :], strict=True)
                )
            assert_same(tensors_in(ours(x, hx)), kept, 0.0)
        assert all(torch.equal(a, b) for a, b in zip((x, *tensors_in(hx)), before, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@each_kind
def test_layouts_of_inputs_and_states(family, kind, layout):
    for form in ("stacked", "batch first"):
        theirs, ours = pair(family, kind, **FORMS[form])
        x = LAYOUTS[layout](random_input(theirs))
        hx = map_tensors(random_state(theirs), LAYOUTS[layout])
        assert_same(results(ours, x, hx), results(theirs, x, hx))


@each_kind
def test_expanded_learned_state(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    start = map_tensors(random_state(theirs, 1), nn.Parameter)
    x = random_input(theirs)
    found = []
    for layer in (ours, theirs):
        hx = map_tensors(start, lambda tensor: tensor.expand(-1, BATCH, -1))
        outputs = tensors_in(layer(x, hx))
        found.append(
            [
                *outputs,
                *torch.autograd.grad(
                    weighted_sum(outputs), [*tensors_in(start), *layer.parameters()]
                ),
            ]
        )
    assert_same(*found)
    start = map_tensors(random_state(theirs), nn.Parameter)
    assert_same(
        *(
            torch.autograd.grad(weighted_sum(tensors_in(layer(x, start))), tensors_in(start))
            for layer in (ours, theirs)
        )
    )


def test_a_list_as_the_state_of_an_lstm(family):
    theirs, ours = pair(family, "LSTM")
    x, hx = random_input(theirs), list(random_state(theirs))
    assert_same(results(ours, x, hx), results(theirs, x, hx))
    assert type(ours(x, hx)[1]) is tuple


@each_kind
def test_a_parameter_as_input(family, kind):
    theirs, ours = pair(family, kind)
    x = nn.Parameter(random_input(theirs))
    assert_same(
        *(torch.autograd.grad(weighted_sum(tensors_in(layer(x))), x) for layer in (ours, theirs))
    )


@each_kind
def test_chunks_with_carried_state(family, kind):
    """`type(h)(v.detach() for v in h)` is a common way to detach the state between chunks."""

    def repackaged(h):
        return h.detach() if isinstance(h, torch.Tensor) else type(h)(v.detach() for v in h)

    theirs, ours = pair(family, kind, **FORMS["stacked"])
    x = random_input(theirs, steps=9)
    whole, end = ours(x)
    h, outputs = None, []
    for piece in x.split([4, 1, 4]):
        output, h = ours(piece, h)
        h = repackaged(h)
        assert not any(state.requires_grad for state in tensors_in(h))
        outputs.append(output)
    assert_same([torch.cat(outputs), *tensors_in(h)], [whole, *tensors_in(end)])
    found = []
    for layer in (ours, theirs):  # and with one graph through all chunks
        h, outputs = None, []
        for piece in x.split([4, 1, 4]):
            output, h = layer(piece, h)
            outputs.append(output)
        found.append(
            torch.autograd.grad(
                weighted_sum([torch.cat(outputs), *tensors_in(h)]), list(layer.parameters())
            )
        )
    assert_same(*found)


@each_form
@each_kind
def test_empty_batches(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    results(ours, random_input(ours))
    x = random_input(theirs, batch=0)
    for given in ((x,), (x, random_state(theirs, 0))):
        for parameter in ours.parameters():
            torch.full_like(
                parameter, float("nan")
            )  # the content of freed memory, if it were read as a gradient
        mine, other = results(ours, *given), results(theirs, *given)
        assert_same(mine, other)
        parameters = list(ours.parameters())
        for gradient, parameter in zip(mine[-len(parameters) :], parameters, strict=True):
            assert gradient.shape == parameter.shape
            assert not gradient.any()
        with torch.no_grad():
            assert_same(tensors_in(ours(*given)), tensors_in(theirs(*given)))


def test_empty_batches_with_projections(family):
    theirs, ours = pair(family, "LSTM", proj_size=2, **FORMS["batch first"])
    x = random_input(theirs, batch=0)
    assert_same(results(ours, x), results(theirs, x))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e4])
@each_kind
def test_non_finite_and_large_values(family, kind, value):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
    x[2, 1, 0] = value
    assert_same(tensors_in(ours(x)), tensors_in(theirs(x)))
    hx = random_state(theirs)
    tensors_in(hx)[-1][1, 0, 2] = value
    x = random_input(theirs)
    assert_same(tensors_in(ours(x, hx)), tensors_in(theirs(x, hx)))
    with torch.no_grad():
        for layer in (theirs, ours):
            layer.weight_hh_l1[1, 2] = value
        assert_same(tensors_in(ours(x)), tensors_in(theirs(x)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@each_kind
def test_half_precision(family, kind, dtype):
    theirs, ours = pair(family, kind, dtype=dtype, **FORMS["both directions"])
    x, hx = random_input(theirs), random_state(theirs)
    assert_same(tensors_in(ours(x, hx)), tensors_in(theirs(x, hx)), 0.01)
    assert_same(results(ours, x), results(theirs, x), 0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_kind
def test_autocast(family, kind, dtype):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x, hx = random_input(theirs), random_state(theirs)
    half = (x.to(dtype), map_tensors(hx, lambda tensor: tensor.to(dtype)))
    for given in ((x,), (x, hx), (half[0],), half):
        with torch.autocast("cpu", dtype):
            if raised_error(lambda given=given: theirs(*given)):
                continue  # torch's LSTM in half precision is not available on every processor
            mine, other = tensors_in(ours(*given)), tensors_in(theirs(*given))
        assert [out.dtype for out in mine] == [out.dtype for out in other]
        assert_same(mine, other, 0.03)
        gradients = [
            torch.autograd.grad(weighted_sum(outputs), list(layer.parameters()))
            for outputs, layer in ((mine, ours), (other, theirs))
        ]
        assert_same(*gradients, 0.05)
    with torch.autocast("cpu", dtype), torch.autocast("cpu", enabled=False):
        assert_same(tensors_in(ours(x, hx)), tensors_in(theirs(x, hx)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        if not raised_error(lambda: theirs(x)):
            assert [out.dtype for out in tensors_in(ours(x))] == [
                out.dtype for out in tensors_in(theirs(x))
            ]
    assert_same(results(ours, x, hx), results(theirs, x, hx))  # autocast has no lasting effect
