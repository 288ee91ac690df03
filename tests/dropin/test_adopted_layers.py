"""Adopted layers keep hooks, attributes and training state, and support PyTorch's tools."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from adopted_models import KINDS, Tagger, assert_same, inputs, layer, tagger, tensors_in
from torch import nn

import memorycell

# ---- what adoption keeps -------------------------------------------------------------------------


def test_hooks_are_kept_and_called_with_the_same_values():
    def watched() -> tuple[Tagger, list]:
        model, seen = tagger(), []
        rnn = model.rnn

        def note(name):
            def hook(module, *args):
                seen.append((name, [t.detach().clone() for a in args for t in tensors(a)]))

            return hook

        rnn.register_forward_pre_hook(note("pre"))
        rnn.register_forward_pre_hook(
            lambda m, args, kwargs: ((args[0] * 2, *args[1:]), kwargs), with_kwargs=True
        )
        rnn.register_forward_hook(note("forward"))
        rnn.register_forward_hook(
            lambda m, args, kwargs, out: (out[0] + 1, out[1]), with_kwargs=True
        )
        rnn.register_full_backward_pre_hook(note("backward pre"))
        rnn.register_full_backward_hook(note("backward"))
        rnn.weight_hh_l0.register_hook(lambda gradient: seen.append(("weight", [gradient.clone()])))
        return model, seen

    def tensors(value) -> list[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            return [value]
        return (
            [t for part in value for t in tensors(part)] if isinstance(value, (tuple, list)) else []
        )

    (theirs, expected), (ours, got) = watched(), watched()
    memorycell.adopt(ours)
    gradients = []
    for model in (theirs, ours):
        x = inputs(3).requires_grad_()
        result = model(x)
        (result**2).sum().backward()
        gradients.append([result, x.grad, *(p.grad for p in model.parameters())])
    assert [name for name, _ in got] == [name for name, _ in expected]
    assert sorted({name for name, _ in got}) == [
        "backward",
        "backward pre",
        "forward",
        "pre",
        "weight",
    ]
    for (_, mine), (_, other) in zip(got, expected, strict=True):
        assert_same(mine, other)
    assert_same(gradients[1], gradients[0])


def test_state_dict_hooks_are_kept_and_called():
    model, seen = tagger(), []
    rnn = model.rnn
    rnn.register_state_dict_pre_hook(lambda *args: seen.append("before saving"))
    rnn.register_state_dict_post_hook(lambda *args: seen.append("after saving"))
    rnn.register_load_state_dict_pre_hook(lambda *args: seen.append("before loading"))
    rnn.register_load_state_dict_post_hook(lambda *args: seen.append("after loading"))
    memorycell.adopt(model)
    model.load_state_dict(model.state_dict())
    assert seen == ["before saving", "after saving", "before loading", "after loading"]


def test_hooks_can_be_removed():
    model, seen = tagger(), []
    handle = model.rnn.register_forward_hook(lambda *args: seen.append(1))
    memorycell.adopt(model)
    model(inputs(3))
    handle.remove()
    model(inputs(3))
    assert seen == [1]


def test_attributes_children_and_buffers_are_kept():
    model = tagger()
    rnn = model.rnn
    rnn.note, rnn.scale = {"who": "me"}, 2.5
    rnn.register_buffer("mean", torch.ones(3))
    rnn.extra = nn.Linear(2, 2)
    rnn.speak = lambda: "hello"
    note = rnn.note
    memorycell.adopt(model)
    assert rnn.note is note
    assert rnn.scale == 2.5
    assert rnn.speak() == "hello"
    assert torch.equal(rnn.mean, torch.ones(3))
    assert isinstance(rnn.extra, nn.Linear)
    assert {"rnn.mean", "rnn.extra.weight"} <= set(model.state_dict())
    assert_same(model(inputs(3)), tagger()(inputs(3)))


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_frozen_parameters_are_kept(training):
    theirs = tagger(num_layers=2).train(training)
    theirs.rnn.weight_hh_l0.requires_grad_(False)
    theirs.rnn.bias_ih_l1.requires_grad_(False)
    ours = copy.deepcopy(theirs)
    memorycell.adopt(ours)
    assert ours.rnn.training is training
    for model in (theirs, ours):
        model(inputs(3)).sum().backward()
    assert [p.requires_grad for p in ours.parameters()] == [
        p.requires_grad for p in theirs.parameters()
    ]
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        if other.grad is not None:
            assert_same(mine.grad, other.grad)


def test_an_existing_optimiser_continues():
    results = []
    for adopting in (False, True):
        model = tagger()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for step in range(12):
            if adopting and step == 4:
                memorycell.adopt(model)
            optimiser.zero_grad()
            (model(inputs(3)) ** 2).sum().backward()
            optimiser.step()
        results.append(list(model.parameters()))
    assert_same(results[1], results[0])
    assert (
        float((results[1][2] - next(tagger().rnn.parameters())).detach().abs().max()) > 5e-3
    )  # the optimiser changed the weights


def test_adoption_between_forward_and_backward():
    """The backward pass of a call that ran on torch's layer."""
    theirs, ours = tagger(), tagger()
    theirs(inputs(3)).sum().backward()
    loss = ours(inputs(3)).sum()
    memorycell.adopt(ours)
    loss.backward()
    assert_same([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


# ---- devices, types and gradients ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.bfloat16, 0.02), (torch.float16, 0.002)],
    ids=str,
)
@pytest.mark.parametrize("first", [True, False], ids=["converted first", "adopted first"])
def test_other_dtypes(kind, dtype, tolerance, first):
    theirs, ours = layer(kind), layer(kind)
    if first:
        ours.to(dtype)
    memorycell.adopt(ours)
    ours.to(dtype)
    theirs.to(dtype)
    with torch.no_grad():
        mine, other = ours(inputs().to(dtype)), theirs(inputs().to(dtype))
    assert all(tensor.dtype == dtype for tensor in tensors_in(mine))
    assert_same(mine, other, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_conversion_to_float64_and_back(kind):
    """`.double()` and `.float()` replace the storage of the parameters."""
    theirs, ours = layer(kind), layer(kind)
    memorycell.adopt(ours)
    ours(inputs())
    ours.double()
    ours(inputs().double())
    ours.float()
    assert_same(ours(inputs()), theirs(inputs()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_meta_device_and_back(kind):
    theirs = tagger(kind)
    with torch.device("meta"):
        ours = tagger(kind)
    report = memorycell.adopt(ours)
    assert "rnn" in report.adopted
    result = ours(torch.empty(5, 3, 3, device="meta"))
    assert result.device.type == "meta"
    assert result.shape == (5, 3, 2)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    assert_same(ours(inputs(3)), theirs(inputs(3)))
    with torch.device("meta"):
        again = tagger(kind)
    memorycell.adopt(again)
    again.to_empty(device="cpu")
    again.load_state_dict(theirs.state_dict())
    assert_same(again(inputs(3)), theirs(inputs(3)))


def test_inference_and_double_backward():
    theirs, ours = tagger(), tagger()
    memorycell.adopt(ours)
    with torch.inference_mode():
        assert_same(ours.eval()(inputs(3)), theirs.eval()(inputs(3)))
    results = []
    for model in (ours, theirs):
        x = inputs(3).requires_grad_()
        (first,) = torch.autograd.grad(model(x).pow(2).sum(), x, create_graph=True)
        second = torch.autograd.grad(first.pow(2).sum(), [x, *model.rnn.parameters()])
        results.append([first, *second])
    assert_same(*results, 1e-4)


def test_functional_calls_use_their_weights():
    theirs, ours = tagger(), tagger()
    memorycell.adopt(ours)
    other = tagger(bias=True)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    given = dict(other.named_parameters())
    assert_same(torch.func.functional_call(ours, given, (inputs(3),)), other(inputs(3)))
    assert_same(ours(inputs(3)), theirs(inputs(3)))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "place"), [("LSTM", "h"), ("LSTM", "c"), ("GRU", "h"), ("RNN", "h")]
)
def test_a_state_changed_in_place_before_backward(kind, layers, place):
    """As at the end of an episode: `h[:, done] = 0`. Torch's layers allow it."""
    results = []
    for adopting in (False, True):
        rnn = layer(kind, num_layers=layers)
        if adopting:
            memorycell.adopt(rnn)
        output, state = rnn(inputs())
        part = state if kind != "LSTM" else state["hc".index(place)]
        part[:, 1] = 0.0
        part.mul_(0.5)
        output, state = rnn(output[..., :4], state)
        (output**2).sum().backward()
        results.append([output, *tensors_in(state), *(p.grad for p in rnn.parameters())])
    assert_same(results[1], results[0])


# ---- tracing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_traced_by_torch_jit(kind, gradients):
    """A trace must be valid for other inputs and for weights changed by training."""
    model = tagger(kind).requires_grad_(gradients)
    memorycell.adopt(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised by torch for torch.jit
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(model, (inputs(3),))
    assert_same(traced(2 * inputs(3)), tagger(kind)(2 * inputs(3)))
    x = torch.randn(9, 2, 3)
    assert_same(traced(x), tagger(kind)(x))
    with torch.no_grad():
        model.rnn.weight_hh_l0.mul_(0.5)
    assert_same(traced(x), model(x))


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_exported_to_onnx_by_tracing(kind, gradients):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = tagger(kind).requires_grad_(gradients).eval()
    memorycell.adopt(model)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by torch for this exporter
        axes = {"x": {0: "steps", 1: "rows"}}
        torch.onnx.export(
            model, (inputs(3),), file, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
    x = torch.randn(9, 2, 3)
    (got,) = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": x.numpy()})
    assert_same(torch.from_numpy(got), tagger(kind)(x))


@pytest.mark.parametrize("kind", KINDS)
def test_symbolically_traced_by_torch_fx(kind):
    """In torch.fx a layer is one node of the graph, as torch's own layers are."""
    model = tagger(kind)
    memorycell.adopt(model)
    graph = torch.fx.symbolic_trace(model)
    assert "rnn" in [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert_same(graph(inputs(3)), tagger(kind)(inputs(3)))


# ---- copies and files ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles_of_adopted_models(kind):
    model = tagger(kind)
    memorycell.adopt(model)
    expected = model(inputs(3))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ):
        assert type(other.rnn) is getattr(memorycell, kind)
        assert_same(other(inputs(3)), expected, 0)
        with torch.no_grad():
            other.rnn.weight_hh_l0.zero_()  # a copy has its own weights and uses them
        assert not torch.equal(other(inputs(3)), expected)
    assert_same(model(inputs(3)), expected, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_load_in_both_directions(kind):
    theirs, ours = tagger(kind, num_layers=2, bidirectional=False), tagger(kind, num_layers=2)
    memorycell.adopt(ours)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(1.1)
    ours(inputs(3))
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours(inputs(3)), theirs(inputs(3)))
    fresh = tagger(kind, num_layers=2)
    fresh.load_state_dict(ours.state_dict())
    assert_same(fresh(inputs(3)), theirs(inputs(3)), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_reset_parameters_draws_the_same_numbers_as_torch(kind):
    theirs, ours = layer(kind), layer(kind)
    memorycell.adopt(ours)
    for rnn in (theirs, ours):
        torch.manual_seed(9)
        rnn.reset_parameters()
    assert all(
        torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)
    )
    assert_same(ours(inputs()), theirs(inputs()))


@pytest.mark.parametrize("kind", KINDS)
def test_no_random_numbers_are_drawn_without_dropout(kind):
    """Dropout masks of other modules are unchanged."""
    model = tagger(kind, num_layers=2)
    memorycell.adopt(model)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    model.train()(inputs(3)).sum().backward()
    assert torch.equal(torch.rand(3), expected)
