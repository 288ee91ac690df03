"""`memorycell.adopt` itself: what stays as it was, what is left alone and why, and that nothing of
the model breaks.
"""

import copy
import io
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import memorycell

KINDS = ("LSTM", "GRU", "RNN")


def layer(kind: str = "LSTM", *args, seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return getattr(nn, kind)(*(args or (4, 6)), **options)


class Tagger(nn.Module):
    """A model around one layer."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.before, self.rnn, self.after = nn.Linear(3, 4), rnn, nn.Linear(6, 2)

    def forward(self, x):
        return self.after(self.rnn(self.before(x))[0])


def tagger(kind: str = "LSTM", **options) -> Tagger:
    torch.manual_seed(0)
    return Tagger(layer(kind, **options))


def inputs(features: int = 4) -> torch.Tensor:
    return torch.randn(5, 3, features, generator=torch.Generator().manual_seed(1))


def flat(result) -> list[torch.Tensor]:
    """Every tensor of nested tuples, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result for tensor in flat(part)]


def assert_same(ours, theirs, tolerance: float = 1e-5) -> None:
    for mine, other in zip(flat(ours), flat(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)


def left_alone(model: nn.Module, name: str) -> str:
    """Adopt, see that the layer of that name was skipped and is of the class it was, and return the
    reason.
    """
    kind = type(model.get_submodule(name))
    report = memorycell.adopt(model)
    assert name in report.skipped
    assert name not in report.adopted
    assert type(model.get_submodule(name)) is kind
    reason = report.skipped[name]
    assert isinstance(reason, str)
    assert reason.strip()
    assert reason in str(report)
    return reason


# ---- what becomes ours ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_keeps_its_identity_and_becomes_ours(kind):
    model = tagger(kind, num_layers=2, dropout=0.1, batch_first=True)
    rnn, seen = model.rnn, weakref.ref(model.rnn)
    parameters = dict(model.named_parameters())
    order, values = list(model.state_dict()), copy.deepcopy(model.state_dict())
    report = memorycell.adopt(model)
    assert model.rnn is rnn is seen()
    assert type(rnn) is getattr(memorycell, kind)
    assert isinstance(rnn, getattr(nn, kind))
    assert isinstance(rnn, nn.RNNBase)
    assert type(rnn).__name__ == kind  # people's code looks for it in the name
    assert list(report.adopted) == ["rnn"]
    assert report.adopted["rnn"].rsplit(".")[-1] == kind
    assert not report.skipped
    assert list(dict(model.named_parameters())) == list(parameters)
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert list(model.state_dict()) == order
    assert all(torch.equal(model.state_dict()[key], values[key]) for key in order)
    assert (rnn.input_size, rnn.hidden_size, rnn.num_layers, rnn.dropout, rnn.batch_first) == (
        4,
        6,
        2,
        0.1,
        True,
    )
    assert [p is q for p, q in zip(flat(rnn.all_weights), rnn.parameters(), strict=True)] == [
        True
    ] * 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_may_be_a_layer_itself(kind):
    rnn = layer(kind)
    expected = rnn(inputs())
    report = memorycell.adopt(rnn)
    assert type(rnn) is getattr(memorycell, kind)
    assert len(report.adopted) == 1
    assert not report.skipped
    assert_same(rnn(inputs()), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_plain_tuples(kind):
    rnn = layer(kind)
    memorycell.adopt(rnn)
    result = rnn(inputs())
    assert type(result) is tuple
    output, state = result
    assert type(output) is torch.Tensor
    assert type(state) is (tuple if kind == "LSTM" else torch.Tensor)
    assert output.is_contiguous()
    assert output.view(15, 6).shape == (15, 6)
    assert output.stride() == layer(kind)(inputs())[0].stride()
    assert all(part.is_contiguous() for part in flat(state))


OPTIONS = [
    *(
        (kind, options)
        for kind in KINDS
        for options in (
            {"bias": False},
            {"batch_first": True},
            {"bidirectional": True, "num_layers": 2},
        )
    ),
    ("LSTM", {"proj_size": 3, "num_layers": 2}),
    ("RNN", {"nonlinearity": "relu"}),
]


@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
def test_every_option_of_torchs_layers(kind, options):
    theirs = layer(kind, **options)
    ours = copy.deepcopy(theirs)
    report = memorycell.adopt(ours)
    assert len(report.adopted) == 1
    results = []
    for rnn in (ours, theirs):
        x = inputs().requires_grad_()
        result = flat(rnn(x))
        sum((part**2).sum() for part in result).backward()
        results.append([*result, x.grad, *(p.grad for p in rnn.parameters())])
    assert_same(*results)


def test_a_layer_that_stands_in_several_places_stays_one():
    rnn = layer()
    model = nn.ModuleDict({"a": nn.ModuleList([rnn, rnn]), "b": tagger()})
    model["b"].rnn = rnn
    report = memorycell.adopt(model)
    assert model["a"][0] is model["a"][1] is model["b"].rnn is rnn
    assert type(rnn) is memorycell.LSTM
    assert "a.0" in report.adopted
    assert len(list(model["a"].parameters())) == 4


def test_shared_parameters_stay_shared():
    first, second = layer(), layer(seed=1)
    second.weight_hh_l0 = first.weight_hh_l0
    theirs = nn.ModuleList([first, second])
    ours = copy.deepcopy(theirs)
    memorycell.adopt(ours)
    assert ours[0].weight_hh_l0 is ours[1].weight_hh_l0
    gradients = []
    for model in (ours, theirs):
        (model[1](inputs())[0].sum() + model[0](inputs())[0].pow(2).sum()).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert len(gradients[0]) == 7
    assert_same(*gradients)


def test_adopting_twice_is_harmless():
    model = tagger()
    rnn, expected = model.rnn, model(inputs(3))
    memorycell.adopt(model)
    state = {key: value for key, value in rnn.__dict__.items() if not key.startswith("__")}
    first = model(inputs(3))
    memorycell.adopt(model)
    assert model.rnn is rnn
    assert type(rnn) is memorycell.LSTM
    assert set(state) == set(rnn.__dict__)
    assert torch.equal(model(inputs(3)), first)
    assert_same(first, expected)


def test_a_model_without_recurrent_layers():
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTMCell(4, 4))
    report = memorycell.adopt(model)
    assert not report.adopted
    assert isinstance(str(report), str)
    assert type(model[1]) is nn.LSTMCell


def test_the_report_tells_names_and_reasons():
    class Own(nn.GRU):
        def forward(self, x, hx=None):
            return super().forward(2 * x, hx)

    model = nn.ModuleDict(
        {"encoder": layer(), "stranger": Own(4, 6), "deep": nn.Sequential(nn.ReLU(), layer("GRU"))}
    )
    report = memorycell.adopt(model)
    text = str(report)
    assert set(report.adopted) == {"encoder", "deep.1"}
    assert set(report.skipped) == {"stranger"}
    for word in ("encoder", "deep.1", "stranger", "LSTM", "GRU", report.skipped["stranger"]):
        assert word in text


# ---- what stays on the layer ---------------------------------------------------------------------


def test_hooks_stay_and_fire_with_the_same_values():
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


def test_state_dict_hooks_stay_and_fire():
    model, seen = tagger(), []
    rnn = model.rnn
    rnn.register_state_dict_pre_hook(lambda *args: seen.append("before saving"))
    rnn.register_state_dict_post_hook(lambda *args: seen.append("after saving"))
    rnn.register_load_state_dict_pre_hook(lambda *args: seen.append("before loading"))
    rnn.register_load_state_dict_post_hook(lambda *args: seen.append("after loading"))
    memorycell.adopt(model)
    model.load_state_dict(model.state_dict())
    assert seen == ["before saving", "after saving", "before loading", "after loading"]


def test_hooks_can_still_be_taken_off():
    model, seen = tagger(), []
    handle = model.rnn.register_forward_hook(lambda *args: seen.append(1))
    memorycell.adopt(model)
    model(inputs(3))
    handle.remove()
    model(inputs(3))
    assert seen == [1]


def test_attributes_children_and_buffers_stay():
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
def test_mode_and_frozen_parameters_stay(training):
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


def test_an_optimiser_made_before_goes_on():
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
    )  # it moved


def test_a_model_with_a_graph_in_flight_may_be_adopted():
    """The backward of a call that torch's layer ran, after the layer is ours."""
    theirs, ours = tagger(), tagger()
    theirs(inputs(3)).sum().backward()
    loss = ours(inputs(3)).sum()
    memorycell.adopt(ours)
    loss.backward()
    assert_same([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


# ---- what is left alone --------------------------------------------------------------------------


def test_subclasses_with_a_forward_of_their_own():
    class Doubling(nn.LSTM):
        def forward(self, x, hx=None):
            output, state = super().forward(x, hx)
            return 2 * output, state

    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": Doubling(4, 6)})
    expected = model["rnn"](inputs())
    reason = left_alone(model, "rnn")
    assert "Doubling" in reason
    assert_same(model["rnn"](inputs()), expected, 0)


def test_subclasses_keep_their_methods_and_their_numbers():
    """Whether or not a subclass without a forward of its own is adopted."""

    class Named(nn.LSTM):
        title = "a name"

        def told(self) -> str:
            return f"{self.title} of {self.hidden_size}"

    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": Named(4, 6)})
    expected = model["rnn"](inputs())
    report = memorycell.adopt(model)
    assert ("rnn" in report.adopted) != ("rnn" in report.skipped)
    assert model["rnn"].told() == "a name of 6"
    assert isinstance(model["rnn"], Named)
    assert_same(model["rnn"](inputs()), expected)


def test_a_forward_put_on_the_layer_itself():
    """Other people's wrappers replace `layer.forward`; the layer must go on calling what they put
    there.
    """
    model = tagger()
    inner = model.rnn.forward
    model.rnn.forward = lambda x, hx=None: (3 * inner(x, hx)[0], None)
    expected = model(inputs(3))
    memorycell.adopt(model)
    assert_same(model(inputs(3)), expected)


CHANGED = {
    "parametrized weight_norm": lambda rnn: parametrizations.weight_norm(rnn, "weight_hh_l0"),
    "parametrized spectral_norm": lambda rnn: parametrizations.spectral_norm(rnn, "weight_hh_l0"),
    "parametrized orthogonal": lambda rnn: parametrizations.orthogonal(rnn, "weight_hh_l0"),
    "own parametrization": lambda rnn: parametrize.register_parametrization(
        rnn, "bias_hh_l0", nn.Tanh()
    ),
    "pruned l1": lambda rnn: prune.l1_unstructured(rnn, "weight_hh_l0", amount=0.4),
    "pruned randomly": lambda rnn: prune.random_unstructured(rnn, "weight_ih_l0", amount=0.4),
    "old weight_norm": lambda rnn: nn.utils.weight_norm(rnn, "weight_hh_l0"),
    "old spectral_norm": lambda rnn: nn.utils.spectral_norm(rnn, "weight_ih_l0"),
}


def changed(how: str, kind: str) -> Tagger:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch, of its old norms
        model = tagger(kind)
        torch.manual_seed(1)
        CHANGED[how](model.rnn)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", CHANGED)
def test_layers_whose_weights_are_computed(how, kind):
    """A layer some of whose weights are no parameters goes on with torch: numbers, gradients,
    training, to the bit.
    """
    theirs, ours = changed(how, kind), changed(how, kind)
    left_alone(ours, "rnn")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for _ in range(3):
        results = []
        for model in (theirs, ours):
            torch.manual_seed(2)
            model.zero_grad()
            result = model(inputs(3))
            (result**2).sum().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.01 * parameter.grad
            results.append([result, *model.parameters()])
        assert_same(results[1], results[0], 0)


@pytest.mark.parametrize(
    "how", ["pruned l1", "parametrized weight_norm", "old weight_norm", "old spectral_norm"]
)
def test_a_layer_adopted_first_and_changed_after(how):
    """What people do to torch's layers they may do to ours; the results are those on torch's."""
    theirs, ours = tagger(), tagger()
    memorycell.adopt(ours)
    for model in (theirs, ours):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.manual_seed(1)
            CHANGED[how](model.rnn)
    for _ in range(3):
        results = []
        for model in (theirs, ours):
            torch.manual_seed(2)
            model.zero_grad()
            result = model(inputs(3))
            (result**2).sum().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.01 * parameter.grad
            results.append([result, *model.parameters()])
        assert_same(results[1], results[0])
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_pruning_that_was_made_permanent_is_adopted():
    theirs = tagger()
    prune.l1_unstructured(theirs.rnn, "weight_hh_l0", amount=0.4)
    prune.remove(theirs.rnn, "weight_hh_l0")
    theirs(inputs(3))
    ours = copy.deepcopy(theirs)
    assert "rnn" in memorycell.adopt(ours).adopted
    assert_same(ours(inputs(3)), theirs(inputs(3)))


def test_scripted_modules_are_untouched():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch, of torch.jit
        scripted = torch.jit.script(tagger())
    model = nn.ModuleDict({"scripted": scripted, "rnn": layer()})
    inner, expected = scripted.rnn, scripted(inputs(3))
    report = memorycell.adopt(model)
    assert list(report.adopted) == ["rnn"]
    assert model["scripted"] is scripted
    assert isinstance(scripted, torch.jit.ScriptModule)
    assert type(scripted.rnn) is type(inner)
    assert_same(scripted(inputs(3)), expected, 0)


def test_quantized_modules_are_untouched():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch, of its eager quantization
        try:
            model = torch.ao.quantization.quantize_dynamic(tagger(), {nn.LSTM}, dtype=torch.qint8)
        except RuntimeError as error:
            pytest.skip(f"this build of torch cannot quantize: {error}")
        kind, expected = type(model.rnn), model(inputs(3))
        assert kind is torch.ao.nn.quantized.dynamic.LSTM
        report = memorycell.adopt(model)
        assert not report.adopted
        assert type(model.rnn) is kind
        assert_same(model(inputs(3)), expected, 0)


# ---- other places, other numbers -----------------------------------------------------------------


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
    assert all(tensor.dtype == dtype for tensor in flat(mine))
    assert_same(mine, other, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_again(kind):
    """`.double()` and `.float()` put new storage under the parameters."""
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


def test_functional_calls_use_the_weights_they_are_given():
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
    """As where an episode ended: `h[:, done] = 0`. Torch's layers allow it."""
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
        results.append([output, *flat(state), *(p.grad for p in rnn.parameters())])
    assert_same(results[1], results[0])


# ---- what follows the calls of a model -----------------------------------------------------------


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_traced_by_torch_jit(kind, gradients):
    """A trace must hold what the layer computes, for other inputs and after training has changed
    the weights.
    """
    model = tagger(kind).requires_grad_(gradients)
    memorycell.adopt(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch, of torch.jit
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
        warnings.simplefilter("ignore")  # torch, of this way of exporting
        axes = {"x": {0: "steps", 1: "rows"}}
        torch.onnx.export(
            model, (inputs(3),), file, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
    x = torch.randn(9, 2, 3)
    (got,) = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": x.numpy()})
    assert_same(torch.from_numpy(got), tagger(kind)(x))


@pytest.mark.parametrize("kind", KINDS)
def test_symbolically_traced_by_torch_fx(kind):
    """For torch.fx, which does not look into torch's own layers, ours are one node of the graph
    too.
    """
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
            other.rnn.weight_hh_l0.zero_()  # a copy has weights of its own, and uses them
        assert not torch.equal(other(inputs(3)), expected)
    assert_same(model(inputs(3)), expected, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_go_both_ways(kind):
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
def test_starting_anew_draws_what_torch_draws(kind):
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
    """Masks of dropout elsewhere in the model stay the same."""
    model = tagger(kind, num_layers=2)
    memorycell.adopt(model)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    model.train()(inputs(3)).sum().backward()
    assert torch.equal(torch.rand(3), expected)
