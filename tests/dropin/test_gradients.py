"""Gradients: repeated backward passes, in-place changes, frozen parameters and hooks."""

import pytest
import torch
from torch.utils import _pytree as pytree
from torch_comparison import (
    FORMS,
    HIDDEN,
    INPUTS,
    assert_same,
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


@each_kind
def test_two_backward_passes(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
    found = []
    for layer in (ours, theirs):
        loss = weighted_sum(tensors_in(layer(x)))
        loss.backward(retain_graph=True)
        once = [p.grad.clone() for p in layer.parameters()]
        loss.backward()
        twice = [p.grad for p in layer.parameters()]
        assert_same(twice, [2 * gradient for gradient in once])
        found.append(twice)
        error = raised_error(loss.backward)
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
        x = random_input(layer)
        loss = layer(x)[0].sum()
        with torch.no_grad():
            CHANGES[change](layer, x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@each_kind
def test_in_place_change_of_an_output(family, kind):
    theirs, _ = pair(family, kind, **FORMS["stacked"])
    x = random_input(theirs)
    output, h = theirs(x)
    expected = torch.autograd.grad(
        weighted_sum([output * 2, *tensors_in(h)]), list(theirs.parameters())
    )
    for detached in (False, True):
        _, ours = pair(family, kind, **FORMS["stacked"])
        ours.load_state_dict(theirs.state_dict())
        output, h = ours(x)
        if detached:
            loss = weighted_sum([output * 2, *tensors_in(h)])
            output.detach().zero_()  # shares its version counter with the output
        else:
            loss = weighted_sum([output.mul_(2), *tensors_in(h)])
        try:
            found = torch.autograd.grad(loss, list(ours.parameters()))
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)
        else:
            assert_same(found, expected)


@each_kind
def test_weights_changed_between_calls_are_used(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)

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
            assert_same(tensors_in(ours(x)), tensors_in(theirs(x)))


@each_kind
def test_gradients_of_selected_tensors(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x, hx = random_input(theirs), random_state(theirs)
    count = len(tensors_in(theirs(x)))
    for picked in (*((k,) for k in range(count)), (0, count - 1)):
        found = []
        for layer in (ours, theirs):
            given = map_tensors((x, hx), lambda tensor: tensor.detach().requires_grad_())
            outputs = tensors_in(layer(*given))
            wanted = [*tensors_in(given), *layer.parameters()]
            gradients = torch.autograd.grad(
                weighted_sum([outputs[k] for k in picked]), wanted, allow_unused=True
            )
            # torch may return None instead of a zero gradient
            found.append(
                [
                    torch.zeros_like(w) if g is None else g
                    for g, w in zip(gradients, wanted, strict=True)
                ]
            )
        assert_same(*found)
    for wanted_of in (
        lambda given, layer: given[:1],
        lambda given, layer: tensors_in(given[1]),
        lambda given, layer: [layer.weight_hh_l1],
    ):
        found = []
        for layer in (ours, theirs):
            given = map_tensors((x, hx), lambda tensor: tensor.detach().requires_grad_())
            found.append(
                torch.autograd.grad(
                    weighted_sum(tensors_in(layer(*given))), list(wanted_of(given, layer))
                )
            )
        assert_same(*found)


@each_kind
def test_frozen_parameters(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
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
            weighted_sum(tensors_in(layer(given))).backward()
            gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
            assert {name for name, gradient in gradients.items() if gradient is None} == set(frozen)
            found.append([given.grad, *gradients.values()])
        assert_same(*found)


@each_kind
def test_hooks(family, kind):
    theirs, ours = pair(family, kind)
    x = random_input(theirs)
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
        found.append([*tensors_in(seen[1]), output.grad, *(p.grad for p in layer.parameters())])
    assert_same(*found)


@each_kind
def test_two_stacked_layers(family, kind):
    pairs = [
        pair(family, kind, INPUTS, HIDDEN, bidirectional=True),
        pair(family, kind, 2 * HIDDEN, 5, 2),
    ]
    found = []
    x = random_input(pairs[0][0])
    for which in (1, 0):
        first, second = pairs[0][which], pairs[1][which]
        x = x.detach().requires_grad_()
        middle, h = first(x)
        outputs = [*tensors_in(second(torch.relu(middle))), *tensors_in(h)]
        wanted = [x, *first.parameters(), *second.parameters()]
        found.append([*outputs, *torch.autograd.grad(weighted_sum(outputs), wanted)])
    assert_same(*found)
