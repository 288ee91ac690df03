"""Second derivatives equal those of torch.nn."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch_comparison import (
    BATCH,
    FORMS,
    HIDDEN,
    INPUTS,
    LAYOUTS,
    STEPS,
    TOLERANCE,
    assert_same,
    each_dtype,
    each_kind,
    map_tensors,
    none_to_zeros,
    pair,
    random_input,
    random_state,
    second_derivatives,
    tensors_in,
    weighted_sum,
)

pytestmark = pytest.mark.usefixtures("seed")


@pytest.mark.parametrize("form", ["plain", "both directions", "batch first", "no bias"])
@each_kind
def test_second_derivatives(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    x, hx = random_input(theirs), random_state(theirs)
    exact = second_derivatives(
        copy.deepcopy(theirs).double(), *map_tensors((x, hx), torch.Tensor.double)
    )
    for strides in (torch.Tensor.clone, LAYOUTS["transposed"], LAYOUTS["features first"]):
        mine = second_derivatives(ours, strides(x), map_tensors(hx, strides))
        assert_same(mine, second_derivatives(theirs, strides(x), map_tensors(hx, strides)), 1e-4)
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
        found.append([gradient, *none_to_zeros(second, wanted)])
        for parameter in wanted:
            parameter.grad = None  # else it and its graph form a reference cycle
    assert_same(*found, 1e-4)


@each_dtype
@each_kind
def test_hessian_vector_product_through_two_layers(family, kind, dtype):
    pairs = [
        pair(family, kind, INPUTS, HIDDEN, dtype=dtype),
        pair(family, kind, HIDDEN, 5, dtype=dtype),
    ]
    x = random_input(pairs[0][0])
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
def test_second_derivatives_of_single_gradients(family, kind):
    theirs, ours = pair(family, kind, **FORMS["stacked"])
    x, hx = random_input(theirs), random_state(theirs)
    count = 1 + len(tensors_in(hx)) + len(list(theirs.parameters()))
    for at in range(count):
        found = []
        for layer in (ours, theirs):
            given = map_tensors((x, hx), lambda tensor: tensor.detach().requires_grad_())
            wanted = [*tensors_in(given), *layer.parameters()]
            (first,) = torch.autograd.grad(
                weighted_sum(tensors_in(layer(*given))), wanted[at], create_graph=True
            )
            second = torch.autograd.grad(first.pow(2).sum(), wanted, allow_unused=True)
            found.append([first, *none_to_zeros(second, wanted)])
        assert_same(*found, 1e-4)


@each_kind
def test_second_derivatives_of_an_expanded_learned_state(family, kind):
    theirs, ours = pair(family, kind)
    start = map_tensors(random_state(theirs, 1), nn.Parameter)
    x = random_input(theirs)
    found = []
    for layer in (ours, theirs):
        outputs = tensors_in(
            layer(x, map_tensors(start, lambda tensor: tensor.expand(-1, BATCH, -1)))
        )
        first = torch.autograd.grad(weighted_sum(outputs), tensors_in(start), create_graph=True)
        wanted = [*tensors_in(start), *layer.parameters()]
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted, allow_unused=True)
        found.append([*first, *none_to_zeros(second, wanted)])
    assert_same(*found, 1e-4)


@pytest.mark.parametrize("enforce_sorted", [True, False])
@each_kind
def test_second_derivatives_of_packed_sequences(family, kind, enforce_sorted):
    theirs, ours = pair(family, kind, bidirectional=True)
    sequences = [torch.randn(n, INPUTS) for n in ((4, 3, 1) if enforce_sorted else (1, 4, 3))]
    packed = pack_sequence(sequences, enforce_sorted=enforce_sorted)
    assert_same(second_derivatives(ours, packed), second_derivatives(theirs, packed), 1e-4)


@each_kind
def test_gradient_penalty(family, kind):
    """The gradient penalty of a critic: the norm of the gradient of x as a loss."""
    theirs, ours = pair(family, kind, batch_first=True)
    found = []
    x = random_input(theirs)
    for layer in (ours, theirs):
        x = x.detach().requires_grad_()
        score = layer(x)[0][:, -1].sum()
        (gradient,) = torch.autograd.grad(score, x, create_graph=True)
        (gradient.flatten(1).norm(dim=1) - 1).pow(2).mean().backward()
        found.append(
            [
                gradient,
                *none_to_zeros([p.grad for p in layer.parameters()], list(layer.parameters())),
            ]
        )
    assert_same(*found, 1e-4)


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated"
)  # torch's own rules for forward derivatives
@each_kind
def test_forward_derivatives_in_float64(family, kind):
    theirs, ours = pair(family, kind, dtype=torch.float64, **FORMS["both directions"])
    x, direction = random_input(theirs), random_input(theirs)
    found = []
    for layer in (ours, theirs):
        with torch.autograd.forward_ad.dual_level():
            outputs = tensors_in(layer(torch.autograd.forward_ad.make_dual(x, direction)))
            found.append([torch.autograd.forward_ad.unpack_dual(out).tangent for out in outputs])
    assert_same(*found, 1e-10)
