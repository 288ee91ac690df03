"""Parametrisations, weight norm and pruning."""

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune
from wrapped_layers import KINDS, VARIANTS, assert_same, pair, results, sequence

import memorycell

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
]


PARAMETRISED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


def results_of_torch(kind: str, layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The results of torch's layer with the current weights of `layer`."""
    plain = getattr(torch.nn, kind)(3, 4)
    weights = {name: getattr(layer, name) for name, _ in plain.named_parameters()}
    return results(layer, x, lambda x: functional_call(plain, weights, (x,)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(PARAMETRISED))
@pytest.mark.parametrize("kind", KINDS)
def test_a_parametrised_weight(kind, name, training):
    layer, _ = pair(kind)
    plain = results(layer, sequence())
    names = [n for n, _ in layer.named_parameters()]
    returned = PARAMETRISED[name](layer, "weight_hh_l0")
    assert returned is layer
    assert parametrize.is_parametrized(layer, "weight_hh_l0")
    assert isinstance(layer, getattr(torch.nn, kind))
    layer.train(training)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(3):
        with parametrize.cached():  # in training, every read of a spectral norm changes it
            ours = results(layer, sequence())
            assert_same(ours, results_of_torch(kind, layer, sequence()))
        layer(sequence())[0].square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    if name == "weight_norm":
        assert float((ours[0] - plain[0]).abs().max()) > 1e-3  # the parametrised weight trains
    layer.eval()
    before = results(layer, sequence())[0]
    parametrize.remove_parametrizations(layer, "weight_hh_l0", leave_parametrized=True)
    assert type(layer) is getattr(memorycell, kind)
    assert sorted(n for n, _ in layer.named_parameters()) == sorted(names)
    theirs = getattr(torch.nn, kind)(3, 4)
    theirs.load_state_dict(layer.state_dict())
    assert_same(layer(sequence())[0], before)
    assert_same(layer(sequence())[0], theirs(sequence())[0])
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2.0)
        theirs.weight_hh_l0.mul_(2.0)
    assert_same(layer(sequence())[0], theirs(sequence())[0])


def test_a_removed_parametrisation():
    layer, theirs = pair()

    class Doubled(nn.Module):
        """Doubles the weight."""

        def forward(self, weight):
            return 2 * weight

    for name in ("weight_hh_l0", "weight_ih_l0", "bias_hh_l0"):
        parametrize.register_parametrization(layer, name, Doubled())
    assert_same(results(layer, sequence()), results_of_torch("LSTM", layer, sequence()))
    for name in ("weight_hh_l0", "weight_ih_l0", "bias_hh_l0"):
        parametrize.remove_parametrizations(layer, name, leave_parametrized=False)
    assert_same(layer(sequence())[0], theirs(sequence())[0])


@pytest.mark.parametrize("cell", VARIANTS)
def test_a_parametrised_weight_of_a_variant(cell):
    torch.manual_seed(0)
    layer = memorycell.LSTM(3, 4, cell=cell)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(1.5)
    expected = results(layer, sequence(), lambda x: layer(x, backend="reference"))
    assert_same(results(layer, sequence()), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_hook_based_norms(name, kind):
    """They set the weight as a plain attribute before every call."""
    both = pair(kind)
    for layer in both:
        torch.manual_seed(1)
        getattr(nn.utils, name)(layer, "weight_hh_l0")
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
        for _ in range(3):
            layer(sequence())[0].square().sum().backward()
            optimiser.step()
            optimiser.zero_grad()
    assert_same(results(both[0], sequence()), results(both[1], sequence()), 1e-4)
    for layer in both:
        getattr(nn.utils, f"remove_{name}")(layer, "weight_hh_l0")
    assert [n for n, _ in both[0].named_parameters()] == [n for n, _ in both[1].named_parameters()]
    assert_same(results(both[0], sequence()), results(both[1], sequence()), 1e-4)


PRUNED = {
    "unstructured": lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.5),
    "structured": lambda m: prune.ln_structured(m, "weight_ih_l0", 0.3, n=2, dim=0),
    "random": lambda m: prune.random_unstructured(m, "bias_hh_l0", 0.5),
    "global": lambda m: prune.global_unstructured(
        [(m, "weight_hh_l0"), (m, "weight_ih_l0")], prune.L1Unstructured, amount=0.6
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", sorted(PRUNED))
def test_pruned(how, kind):
    both = pair(kind)
    found = []
    for layer in both:
        results(layer, sequence())
        torch.manual_seed(1)
        PRUNED[how](layer)
        found.append(results(layer, sequence()))
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
        layer(sequence())[0].square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        found[-1] += results(layer, sequence())
        for name in {
            "global": ["weight_hh_l0", "weight_ih_l0"],
            "structured": ["weight_ih_l0"],
            "random": ["bias_hh_l0"],
        }.get(how, ["weight_hh_l0"]):
            prune.remove(layer, name)
            assert float((getattr(layer, name) == 0).float().mean()) > 0.2
        found[-1] += results(layer, sequence())
    assert_same(*found)
