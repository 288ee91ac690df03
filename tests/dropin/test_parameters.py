"""Parameters: sharing, initial values, state_dict, files, copies and gradient modes."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn
from torch_comparison import (
    FORMS,
    HIDDEN,
    INPUTS,
    KINDS,
    assert_same,
    assert_same_error,
    each_form,
    each_kind,
    pair,
    random_input,
    random_state,
    results,
    save_and_load,
    second_derivatives,
    tensors_in,
    weighted_sum,
)

pytestmark = pytest.mark.usefixtures("seed")


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
        x, hx = random_input(theirs), random_state(theirs)
        assert [name for name, _ in ours.named_parameters()] == [
            name for name, _ in theirs.named_parameters()
        ]
        assert_same(results(ours, x, hx), results(theirs, x, hx))
        assert_same(second_derivatives(ours, x), second_derivatives(theirs, x), 1e-4)


@each_kind
def test_a_weight_shared_by_two_layers(family, kind):
    pairs = [pair(family, kind, 5, 5), pair(family, kind, 5, 5)]
    found = []
    x = random_input(pairs[0][0])
    for which in (1, 0):
        first, second = pairs[0][which], pairs[1][which]
        second.weight_hh_l0 = first.weight_hh_l0
        outputs = tensors_in(second(first(x)[0]))
        found.append([*outputs, *torch.autograd.grad(weighted_sum(outputs), first.parameters())])
    assert_same(*found)


@each_kind
def test_flat_weights_are_updated(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
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
    """As in weight dropout: a computed tensor replaces the parameter."""
    theirs, ours = pair(family, kind)
    x = random_input(theirs)
    found = []
    for layer in (ours, theirs):
        raw = nn.Parameter(layer.weight_hh_l0.detach().clone())
        del layer._parameters["weight_hh_l0"]
        layer.register_parameter("weight_hh_l0_raw", raw)
        layer.weight_hh_l0 = raw * 0.5
        outputs = tensors_in(layer(x))
        found.append([*outputs, *torch.autograd.grad(weighted_sum(outputs), layer.parameters())])
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
        x = random_input(theirs)
        expected = tensors_in(ours(x))
        assert ours.flatten_parameters() is None
        assert_same(tensors_in(ours(x)), expected, 0.0)


@each_kind
def test_initial_values(family, kind):
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
    x = random_input(theirs)
    fresh_theirs, fresh_ours = pair(family, kind, **FORMS["both directions"])
    for target, source in ((fresh_ours, theirs), (fresh_theirs, ours)):
        assert (
            str(target.load_state_dict(source.state_dict(), strict=True))
            == "<All keys matched successfully>"
        )
    assert_same(results(fresh_ours, x), results(fresh_theirs, x))
    assert_same(tensors_in(fresh_ours(x)), tensors_in(theirs(x)))
    wrong = dict(theirs.state_dict())
    wrong["weight_xx"] = wrong.pop("weight_hh_l1")
    wrong["bias_ih_l0"] = torch.zeros(2)
    assert_same_error(lambda: theirs.load_state_dict(wrong), lambda: ours.load_state_dict(wrong))


@each_kind
def test_state_dict_with_assign(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
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


@each_kind
def test_files(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
    output, h = ours(x)
    read = save_and_load(
        {"h": h, "output": output.detach(), "weights": ours.state_dict()}, weights_only=True
    )
    assert type(read["h"]) is type(h)
    assert_same([*tensors_in(read["h"]), read["output"]], [*tensors_in(h), output])
    theirs.load_state_dict(read["weights"])
    ours.load_state_dict(save_and_load(theirs.state_dict(), weights_only=True))
    assert_same(results(ours, x), results(theirs, x))


@pytest.mark.parametrize("way", ["pickle", "torch.save", "deepcopy", "copy"])
@each_kind
def test_copies(family, kind, way):
    theirs, ours = pair(family, kind, dropout=0.25, **FORMS["batch first"])
    x, hx = random_input(theirs), random_state(theirs)
    ours.eval()(x)[0].sum().backward()  # a layer after a call
    expected = results(theirs.eval(), x, hx)
    twin = {
        "pickle": lambda: pickle.loads(pickle.dumps(ours)),
        "torch.save": lambda: save_and_load(ours, weights_only=False),
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
    x, hx = random_input(theirs), random_state(theirs)
    before = tensors_in(ours(x, hx))
    full = {name: torch.randn_like(p).requires_grad_() for name, p in theirs.named_parameters()}
    part = {"weight_hh_l1": full["weight_hh_l1"]}
    for held in (full, part):
        found = []
        for layer in (ours, theirs):
            outputs = tensors_in(torch.func.functional_call(layer, held, (x, hx)))
            found.append(
                [*outputs, *torch.autograd.grad(weighted_sum(outputs), list(held.values()))]
            )
        assert_same(*found, 2e-5)
        assert_same(tensors_in(ours(x, hx)), before, 0.0)  # the layer has its own weights again
    found = []
    for layer in (ours, theirs):
        gradients = torch.func.grad(
            lambda held, layer=layer: weighted_sum(
                tensors_in(torch.func.functional_call(layer, held, (x,)))
            )
        )
        found.append(
            list(gradients({name: p.detach() for name, p in layer.named_parameters()}).values())
        )
    assert_same(*found, 2e-5)


# ---- modes of torch ------------------------------------------------------------------------------


@each_form
@each_kind
def test_no_grad_and_inference_mode(family, kind, form):
    theirs, ours = pair(family, kind, **FORMS[form])
    x, hx = random_input(theirs), random_state(theirs)
    expected = tensors_in(theirs(x, hx))
    for mode in (torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)):
        with mode():
            mine, other = tensors_in(ours(x, hx)), tensors_in(theirs(x, hx))
        assert_same(mine, expected)
        for ours_out, theirs_out in zip(mine, other, strict=True):
            assert ours_out.requires_grad == theirs_out.requires_grad
            assert ours_out.is_inference() == theirs_out.is_inference()
    assert all(out.requires_grad for out in tensors_in(ours(x, hx)))


@each_kind
def test_weights_loaded_under_inference_mode(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    x = random_input(theirs)
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
                assert_same(tensors_in(ours(x)), tensors_in(theirs(x)))
                for layer in (theirs, ours):
                    with torch.inference_mode():
                        layer.weight_hh_l0.mul_(0.5)
    for layer in (theirs, ours):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            weighted_sum(tensors_in(layer(x))).backward()


@each_kind
def test_inputs_created_under_inference_mode(family, kind):
    theirs, ours = pair(family, kind)
    with torch.inference_mode():
        x, hx = random_input(theirs), random_state(theirs)
    for layer in (theirs, ours):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            weighted_sum(tensors_in(layer(x, hx))).backward()
    with torch.no_grad():
        assert_same(tensors_in(ours(x, hx)), tensors_in(theirs(x, hx)))


@each_kind
def test_a_layer_created_under_inference_mode(family, kind):
    with torch.inference_mode():
        theirs, ours = pair(family, kind, **FORMS["both directions"])
        x = random_input(theirs)
        assert_same(tensors_in(ours(x)), tensors_in(theirs(x)))
