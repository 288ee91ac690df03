"""adopt: which layers are adopted and which are not changed."""

import copy
import warnings
import weakref

import pytest
import torch
from adopted_models import (
    KINDS,
    Tagger,
    assert_same,
    inputs,
    layer,
    skip_reason_of,
    tagger,
    tensors_in,
)
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import memorycell

# ---- adopted layers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_changes_its_class_and_stays_the_same_object(kind):
    model = tagger(kind, num_layers=2, dropout=0.1, batch_first=True)
    rnn, seen = model.rnn, weakref.ref(model.rnn)
    parameters = dict(model.named_parameters())
    order, values = list(model.state_dict()), copy.deepcopy(model.state_dict())
    report = memorycell.adopt(model)
    assert model.rnn is rnn is seen()
    assert type(rnn) is getattr(memorycell, kind)
    assert isinstance(rnn, getattr(nn, kind))
    assert isinstance(rnn, nn.RNNBase)
    assert type(rnn).__name__ == kind  # user code may check the class name
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
    assert [p is q for p, q in zip(tensors_in(rnn.all_weights), rnn.parameters(), strict=True)] == [
        True
    ] * 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_can_be_a_layer(kind):
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
    assert all(part.is_contiguous() for part in tensors_in(state))


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
        result = tensors_in(rnn(x))
        sum((part**2).sum() for part in result).backward()
        results.append([*result, x.grad, *(p.grad for p in rnn.parameters())])
    assert_same(*results)


def test_a_layer_used_in_several_places_stays_shared():
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


def test_the_report_has_names_and_reasons():
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


# ---- layers that are not changed -----------------------------------------------------------------


def test_subclasses_with_their_own_forward():
    class Doubling(nn.LSTM):
        def forward(self, x, hx=None):
            output, state = super().forward(x, hx)
            return 2 * output, state

    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": Doubling(4, 6)})
    expected = model["rnn"](inputs())
    reason = skip_reason_of(model, "rnn")
    assert "Doubling" in reason
    assert_same(model["rnn"](inputs()), expected, 0)


def test_subclasses_keep_their_methods_and_results():
    """For a subclass without its own forward, adopted or not."""

    class Named(nn.LSTM):
        title = "a name"

        def describe(self) -> str:
            return f"{self.title} of {self.hidden_size}"

    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": Named(4, 6)})
    expected = model["rnn"](inputs())
    report = memorycell.adopt(model)
    assert ("rnn" in report.adopted) != ("rnn" in report.skipped)
    assert model["rnn"].describe() == "a name of 6"
    assert isinstance(model["rnn"], Named)
    assert_same(model["rnn"](inputs()), expected)


def test_a_replaced_forward_method():
    """Some wrappers replace `layer.forward`; the layer must keep calling the replacement."""
    model = tagger()
    inner = model.rnn.forward
    model.rnn.forward = lambda x, hx=None: (3 * inner(x, hx)[0], None)
    expected = model(inputs(3))
    memorycell.adopt(model)
    assert_same(model(inputs(3)), expected)


MODIFICATIONS = {
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


def modified_tagger(how: str, kind: str) -> Tagger:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by torch for its old norms
        model = tagger(kind)
        torch.manual_seed(1)
        MODIFICATIONS[how](model.rnn)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", MODIFICATIONS)
def test_layers_with_computed_weights(how, kind):
    """A layer with weights that are not parameters stays torch's; outputs, gradients and training
    are bitwise equal.
    """
    theirs, ours = modified_tagger(how, kind), modified_tagger(how, kind)
    skip_reason_of(ours, "rnn")
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
def test_a_layer_modified_after_adoption(how):
    """Modifications of an adopted layer give the same results as on torch's."""
    theirs, ours = tagger(), tagger()
    memorycell.adopt(ours)
    for model in (theirs, ours):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.manual_seed(1)
            MODIFICATIONS[how](model.rnn)
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


def test_permanently_pruned_layers_are_adopted():
    theirs = tagger()
    prune.l1_unstructured(theirs.rnn, "weight_hh_l0", amount=0.4)
    prune.remove(theirs.rnn, "weight_hh_l0")
    theirs(inputs(3))
    ours = copy.deepcopy(theirs)
    assert "rnn" in memorycell.adopt(ours).adopted
    assert_same(ours(inputs(3)), theirs(inputs(3)))


def test_scripted_modules_are_not_changed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised by torch for torch.jit
        scripted = torch.jit.script(tagger())
    model = nn.ModuleDict({"scripted": scripted, "rnn": layer()})
    inner, expected = scripted.rnn, scripted(inputs(3))
    report = memorycell.adopt(model)
    assert list(report.adopted) == ["rnn"]
    assert model["scripted"] is scripted
    assert isinstance(scripted, torch.jit.ScriptModule)
    assert type(scripted.rnn) is type(inner)
    assert_same(scripted(inputs(3)), expected, 0)


def test_quantized_modules_are_not_changed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by torch for eager quantization
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
