"""Training with every optimiser of torch.optim, as with torch.nn."""

import copy
import inspect

import pytest
import torch
import torch.multiprocessing
from small_nets import KINDS, TOLERANCE, VARIANTS, Net, assert_same, data, pair, train
from torch import nn

import memorycell

OPTIMISERS = {
    "ASGD": {"lr": 0.1},
    "Adadelta": {"lr": 1.0},
    "Adafactor": {"lr": 0.02},
    "Adagrad": {"lr": 0.05},
    "Adam": {"lr": 0.01, "amsgrad": True},
    "AdamW": {"lr": 0.01},
    "Adamax": {"lr": 0.02},
    "LBFGS": {"lr": 0.5, "max_iter": 3},
    "Muon": {"lr": 0.02},
    "NAdam": {"lr": 0.01},
    "RAdam": {"lr": 0.02},
    "RMSprop": {"lr": 0.005, "momentum": 0.5},
    "Rprop": {"lr": 0.005},
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
}
LEFT_OUT = {
    "Optimizer": "the base class",
    "SparseAdam": "takes sparse gradients only, which no recurrent layer has",
}


def optimiser_cases() -> list:
    """Every optimiser: plain, and foreach and fused if available."""
    found = []
    for name in OPTIMISERS:
        names = inspect.signature(getattr(torch.optim, name)).parameters
        found += [(name, way) for way in ("plain", "foreach", "fused") if way in ("plain", *names)]
    return found


def test_all_optimisers_are_covered():
    members = {n: v for n, v in vars(torch.optim).items() if isinstance(v, type)}
    known = {n for n, v in members.items() if issubclass(v, torch.optim.Optimizer)}
    assert known == {*OPTIMISERS, *LEFT_OUT}
    assert {("Adam", "fused"), ("AdamW", "fused"), ("SGD", "fused")} <= set(optimiser_cases())


@pytest.mark.parametrize(("name", "way"), optimiser_cases())
def test_every_optimiser_trains_as_torch(name, way):
    histories = []
    nets = pair()
    for net in nets:
        # Muon accepts only matrices: the biases are not trained.
        parameters = [p for p in net.parameters() if name != "Muon" or p.ndim == 2]
        options = OPTIMISERS[name] | ({} if way == "plain" else {way: True})
        histories.append(train(net, getattr(torch.optim, name)(parameters, **options)))
    assert histories[0] == pytest.approx(histories[1], rel=TOLERANCE, abs=TOLERANCE)
    assert_same(nets[0].parameters(), nets[1].parameters())
    assert histories[0][-1] < 0.9 * histories[0][0]  # it learns


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["plain", "foreach", "fused"])
def test_adam_trains_every_kind_as_torch(kind, way):
    nets = pair(kind)
    options = {"lr": 0.01} | ({} if way == "plain" else {way: True})
    histories = [train(net, torch.optim.Adam(net.parameters(), **options)) for net in nets]
    assert histories[0] == pytest.approx(histories[1], rel=TOLERANCE, abs=TOLERANCE)
    assert_same(nets[0].parameters(), nets[1].parameters())


@pytest.mark.parametrize("cell", VARIANTS)
@pytest.mark.parametrize("way", ["plain", "foreach", "fused"])
def test_adam_trains_the_variants_as_the_reference(cell, way):
    torch.manual_seed(0)
    ours = Net(memorycell.LSTM(4, 8, cell=cell))
    theirs = copy.deepcopy(ours)
    theirs.forward = lambda x: theirs.out(theirs.rnn(x, backend="reference")[0])
    options = {"lr": 0.01} | ({} if way == "plain" else {way: True})
    histories = [train(n, torch.optim.Adam(n.parameters(), **options)) for n in (ours, theirs)]
    assert histories[0] == pytest.approx(histories[1], rel=TOLERANCE, abs=TOLERANCE)
    assert_same(ours.parameters(), theirs.parameters())
    assert histories[0][-1] < 0.9 * histories[0][0]


def test_an_optimiser_that_steps_inside_backward():
    """Fused, one optimiser per parameter, which steps as soon as its gradient is ready."""
    nets = pair(num_layers=2)
    for net in nets:
        for parameter in net.parameters():
            optimiser = torch.optim.Adam([parameter], lr=0.01, fused=True)

            def step(p, optimiser=optimiser):
                optimiser.step()
                p.grad = None

            parameter.register_post_accumulate_grad_hook(step)
    x, target = data()
    histories: list[list[float]] = []
    for net in nets:
        histories.append([])
        for _ in range(10):
            loss = nn.functional.mse_loss(net(x), target)
            histories[-1].append(loss.item())
            loss.backward()
    assert histories[0] == pytest.approx(histories[1], rel=TOLERANCE)
    assert histories[0][-1] < histories[0][0]
