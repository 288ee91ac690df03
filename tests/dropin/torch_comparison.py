"""Comparison of a layer or cell with torch.nn's: same inputs, weights and errors.

`DROPIN_FAMILY=torch pytest tests/dropin` runs the tests on torch.nn's own classes; a test that
fails there requires too much.
"""

import io

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

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


def pair(family, kind, *sizes, ending="", **options):
    """(torch.nn's layer or cell, ours) with the same weights."""
    name, extra = KINDS[kind]
    theirs, ours = (
        getattr(source, name + ending)(*(sizes or (INPUTS, HIDDEN)), **{**extra, **options})
        for source in (nn, family)
    )
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def random_input(layer, steps=STEPS, batch=BATCH):
    """A random input in the layer's layout; batch=None gives an unbatched one."""
    shape = [steps, batch] if not layer.batch_first else [batch, steps]
    dtype = layer.weight_ih_l0.dtype
    return torch.randn(
        [size for size in shape if size is not None] + [layer.input_size], dtype=dtype
    )


def random_state(layer, batch=BATCH, make=torch.randn):
    """A random state for the layer; batch=None gives an unbatched one."""
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    axes = [rows] if batch is None else [rows, batch]
    sizes = [
        layer.proj_size or layer.hidden_size,
        *([layer.hidden_size] if layer.mode == "LSTM" else []),
    ]
    parts = tuple(make([*axes, size], dtype=layer.weight_ih_l0.dtype) for size in sizes)
    return parts if layer.mode == "LSTM" else parts[0]


def map_tensors(value, change):
    """The same structure with `change` applied to every tensor except the index tensors of a
    PackedSequence.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, PackedSequence):
        return PackedSequence(change(value.data), *value[1:])
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(part, change) for part in value)
    if isinstance(value, dict):
        return {name: map_tensors(part, change) for name, part in value.items()}
    return value


def tensors_in(value):
    """The tensors in order, without the index tensors of a PackedSequence."""
    found = []
    map_tensors(value, lambda tensor: found.append(tensor) or tensor)
    return found


def weighted_sum(outputs):
    """A loss that weights every element differently, equal for equal shapes."""
    generator = torch.Generator().manual_seed(7)
    weights = [
        torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
        for out in outputs
    ]
    return sum((out * weight).sum() for out, weight in zip(outputs, weights, strict=True))


def results(module, *given, **options):
    """[outputs…, gradients of every input and every trainable parameter…]; None for no gradient."""
    given = map_tensors(given, lambda tensor: tensor.detach().requires_grad_())
    outputs = tensors_in(module(*given, **options))
    wanted = [*tensors_in(given), *(p for p in module.parameters() if p.requires_grad)]
    return [*outputs, *torch.autograd.grad(weighted_sum(outputs), wanted, allow_unused=True)]


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


def raised_error(call):
    """The exception that the call raises, or None."""
    try:
        call()
    except Exception as error:
        return error
    return None


def assert_same_error(theirs, ours, name=""):
    """torch's call raises an error, and ours the same type with the same message."""
    expected, found = raised_error(theirs), raised_error(ours)
    assert expected is not None, f"{name}: torch raises nothing"
    assert type(found) is type(expected), f"{name}: expected {expected!r}, got {found!r}"
    assert str(found) == str(expected), name


def assert_same_errors(theirs, ours, calls):
    """Every call, name → arguments, raises the same error in both, with and without gradients."""
    for name, arguments in calls.items():
        for mode in (torch.enable_grad, torch.no_grad):
            with mode():
                assert_same_error(
                    lambda a=arguments: theirs(*a), lambda a=arguments: ours(*a), name
                )


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


def none_to_zeros(gradients, like):
    """Zeros for None: both mean no gradient, and torch returns either."""
    return [
        torch.zeros_like(other) if g is None else g
        for g, other in zip(gradients, like, strict=True)
    ]


def second_derivatives(module, x, hx=None):
    """[gradients…, gradients of the gradients' norms…] for x, the states and the parameters."""
    given = map_tensors((x, hx), lambda tensor: tensor.detach().requires_grad_())
    wanted = [*tensors_in(given), *module.parameters()]
    first = torch.autograd.grad(weighted_sum(tensors_in(module(*given))), wanted, create_graph=True)
    second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted, allow_unused=True)
    return [*first, *none_to_zeros(second, wanted)]


def save_and_load(value, **options):
    """A copy through torch.save and torch.load."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, **options)
