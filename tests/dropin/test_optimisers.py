"""Training with every optimiser of torch.optim, and other changes of the weights, as with torch.nn.

A layer that caches values computed from its weights cannot rely on `Tensor._version`: fused
optimisers, `.data`, NumPy views, inference mode and other processes do not increase it.
"""

import copy
import inspect

import pytest
import torch
import torch.multiprocessing
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import memorycell

KINDS = ["LSTM", "GRU", "RNN"]
VARIANTS = ["peephole", "coupled", "layernorm"]
STEPS = 30
TOLERANCE = 1e-4

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


class Net(nn.Module):
    """A recurrent layer and a linear layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rnn = layer
        self.out = nn.Linear(layer.hidden_size, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


def pair(kind: str = "LSTM", **options) -> tuple[Net, Net]:
    """(the network with our layer, with torch's), with the same weights."""
    torch.manual_seed(0)
    theirs = Net(getattr(torch.nn, kind)(4, 8, **options))
    ours = Net(getattr(memorycell, kind)(4, 8, **options))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def data(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences [9, batch, 4] and targets: two running means."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(9, batch, 4, generator=generator)
    return x, torch.tanh(x[..., :2].cumsum(0) - x[..., 2:])


def train(net: Net, optimiser: torch.optim.Optimizer, steps: int = STEPS) -> list[float]:
    """The loss at each step."""
    x, target = data()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(net(x), target)
        loss.backward()
        return loss

    return [optimiser.step(closure).item() for _ in range(steps)]


def assert_same(ours, theirs, tolerance: float = TOLERANCE) -> None:
    """Equal within the tolerance, relative to the largest value if it exceeds one."""
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * scale)


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


# ---- other changes of the weights ----------------------------------------------------------------


def other_weights(layer: nn.Module) -> dict[str, torch.Tensor]:
    """Different weights for the layer, the same in each call."""
    generator = torch.Generator().manual_seed(5)
    state = layer.state_dict()
    return {name: v + 0.2 * torch.randn(v.shape, generator=generator) for name, v in state.items()}


def by_data_add(layer):
    for name, parameter in layer.named_parameters():
        parameter.data.add_(other_weights(layer)[name] - parameter.data)


def by_data_fill(layer):
    for parameter in layer.parameters():
        parameter.data[...] = parameter.data.flip(0)


def by_data_set(layer):
    for name, parameter in layer.named_parameters():
        parameter.data = other_weights(layer)[name]


def by_numpy(layer):
    for name, parameter in layer.named_parameters():
        parameter.detach().numpy()[...] += other_weights(layer)[name].numpy()


def by_storage(layer):
    for name, parameter in layer.named_parameters():
        parameter.untyped_storage().copy_(other_weights(layer)[name].untyped_storage())


def by_no_grad(layer):
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(other_weights(layer)[name])


def by_inference_mode(layer):
    with torch.inference_mode():
        layer.load_state_dict(other_weights(layer))


def by_inference_mode_in_place(layer):
    with torch.inference_mode():
        for parameter in layer.parameters():
            parameter.mul_(1.5)


def by_load(layer):
    layer.load_state_dict(other_weights(layer))


def by_load_assign(layer):
    layer.load_state_dict(other_weights(layer), assign=True)


def by_polyak(layer):
    for name, parameter in layer.named_parameters():
        parameter.data.lerp_(other_weights(layer)[name], 0.25)


def by_foreach(layer):
    torch._foreach_mul_([p.data for p in layer.parameters()], 1.5)


def by_vector(layer):
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(vector * 1.5, layer.parameters())


def by_init(layer):
    generator = torch.Generator().manual_seed(5)
    for parameter in layer.parameters():
        spread = float(parameter.detach().std())
        nn.init.normal_(parameter, std=2 * spread, generator=generator)


def by_new_parameter(layer):
    for name, value in other_weights(layer).items():
        setattr(layer, name, nn.Parameter(value))


def by_dtype_and_back(layer):
    by_data_add(layer.double())
    layer.float()


CHANGES = [value for name, value in sorted(globals().items()) if name.startswith("by_")]


def run_in_all_modes(layer: nn.Module, x: torch.Tensor, **options) -> list[torch.Tensor]:
    """Outputs without gradients, in inference mode, and with gradients; and the gradients."""
    with torch.no_grad():
        found = [layer(x, **options)[0]]
    with torch.inference_mode():
        found.append(layer(x, **options)[0].clone())
    output = layer(x, **options)[0]
    gradients = torch.autograd.grad(output.square().sum(), list(layer.parameters()))
    return [*found, output.detach(), *gradients]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_changed_weights_are_used(kind, change):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(4, 8, 2, bidirectional=True)
    ours = getattr(memorycell, kind)(4, 8, 2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x = data()[0]
    for _ in range(2):  # fill any cache now, and again after the first change
        before = run_in_all_modes(ours, x)
        assert_same(before, run_in_all_modes(theirs, x))
        change(ours)
        change(theirs)
        after = run_in_all_modes(ours, x)
        assert_same(after, run_in_all_modes(theirs, x))
        assert float((after[0] - before[0]).abs().max()) > 0.01


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("cell", VARIANTS)
def test_changed_weights_are_used_by_the_variants(cell, change):
    torch.manual_seed(0)
    layer = memorycell.LSTM(4, 8, cell=cell)
    x = data()[0]
    before = run_in_all_modes(layer, x)
    change(layer)
    after = run_in_all_modes(layer, x)
    assert_same(after, run_in_all_modes(layer, x, backend="reference"))
    assert float((after[0] - before[0]).abs().max()) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_share_memory_with_numpy(kind):
    """`torch.from_numpy` shares memory: writing to the array changes the weight."""
    nets = pair(kind)
    x = data()[0]
    arrays = []
    for net in nets:
        arrays.append({name: p.detach().numpy().copy() for name, p in net.rnn.named_parameters()})
        for name, parameter in net.rnn.named_parameters():
            parameter.data = torch.from_numpy(arrays[-1][name])
    for _ in range(3):
        before = run_in_all_modes(nets[0].rnn, x)
        assert_same(before, run_in_all_modes(nets[1].rnn, x))
        for array in (*arrays[0].values(), *arrays[1].values()):
            array += 0.1
        after = run_in_all_modes(nets[0].rnn, x)
        assert_same(after, run_in_all_modes(nets[1].rnn, x))
        assert float((after[0] - before[0]).abs().max()) > 0.01


def test_a_change_between_forward_and_backward_raises():
    """As in torch: the gradient is no longer available."""
    x = data()[0]
    for net in pair():
        output = net.rnn(x)[0]
        with torch.no_grad():
            net.rnn.weight_hh_l0.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()


def change_and_train(layer: nn.Module) -> None:
    """Runs in the other process."""
    torch.set_num_threads(1)
    for parameter in layer.parameters():
        parameter.data.add_(0.1)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(2):
        optimiser.zero_grad()
        layer(data()[0])[0].square().mean().backward()
        optimiser.step()


def test_shared_weights_changed_by_another_process():
    ours, theirs = (net.rnn for net in pair())
    assert ours.share_memory() is ours
    x = data()[0]
    before = run_in_all_modes(ours, x)
    context = torch.multiprocessing.get_context("spawn")
    child = context.Process(target=change_and_train, args=(ours,))
    child.start()
    child.join(600)
    assert child.exitcode == 0
    change_and_train(theirs)
    after = run_in_all_modes(ours, x)
    assert_same(after, run_in_all_modes(theirs, x))
    assert float((after[0] - before[0]).abs().max()) > 0.01


# ---- training loops ------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_clipped_gradients(kind, foreach):
    x, target = data()
    nets = pair(kind)
    norms = []
    for net in nets:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
        norms.append([])
        for _ in range(5):
            optimiser.zero_grad()
            (100 * nn.functional.mse_loss(net(x), target)).backward()
            norms[-1].append(nn.utils.clip_grad_norm_(net.parameters(), 1.0, foreach=foreach))
            nn.utils.clip_grad_value_(net.parameters(), 0.1, foreach=foreach)
            optimiser.step()
    torch.testing.assert_close(*(torch.stack(n) for n in norms), rtol=TOLERANCE, atol=TOLERANCE)
    assert_same(nets[0].parameters(), nets[1].parameters())


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaged_models(average):
    x = data()[0]
    found = []
    for net in pair():
        options = {"multi_avg_fn": get_ema_multi_avg_fn(0.8)} if average == "ema" else {}
        averaged = AveragedModel(net, **options)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.05, fused=True)
        outputs = []
        for _ in range(4):
            train(net, optimiser, steps=2)
            averaged.update_parameters(net)
            outputs += [averaged(x).detach(), net(x).detach()]
        found.append(outputs)
    assert_same(*found)
    assert float((found[0][0] - found[0][-2]).abs().max()) > 0.01  # the average changes


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_gradients(kind):
    x, target = data(8)
    ours, theirs = pair(kind)
    for part in range(4):
        for net in (ours, theirs):
            piece = slice(2 * part, 2 * part + 2)
            (nn.functional.mse_loss(net(x[:, piece]), target[:, piece]) / 4).backward()
    accumulated = [p.grad.clone() for p in ours.parameters()]
    assert_same(accumulated, [p.grad for p in theirs.parameters()], 1e-5)
    ours.zero_grad()
    nn.functional.mse_loss(ours(x), target).backward()
    assert_same(accumulated, [p.grad for p in ours.parameters()], 1e-5)


@pytest.mark.parametrize("enabled", [False, True])
def test_grad_scaler(enabled):
    x, target = data()
    nets = pair()
    for net in nets:
        scaler = torch.amp.GradScaler("cpu", enabled=enabled)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(5):
            optimiser.zero_grad()
            scaler.scale(nn.functional.mse_loss(net(x), target)).backward()
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            scaler.step(optimiser)
            scaler.update()
    assert_same(nets[0].parameters(), nets[1].parameters())


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zeroed_gradients(set_to_none):
    x = data()[0]
    ours, theirs = pair()
    for net in (ours, theirs):
        net(x).square().sum().backward()
        kept = [p.grad for p in net.parameters()]
        net.zero_grad(set_to_none=set_to_none)
        if set_to_none:
            assert all(p.grad is None for p in net.parameters())
            assert all(bool(g.any()) for g in kept)  # references to the old gradients stay valid
        else:
            assert all(p.grad is g for p, g in zip(net.parameters(), kept, strict=True))
            assert not any(bool(p.grad.any()) for p in net.parameters())
        net(x).square().sum().backward()
    assert_same((p.grad for p in ours.parameters()), (p.grad for p in theirs.parameters()))


@pytest.mark.parametrize("trained", ["weight_hh_l0", "weight_ih_l0", "bias_hh_l0", "bias_ih_l1"])
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters(kind, trained):
    x = data()[0]
    ours, theirs = pair(kind, num_layers=2)
    for net in (ours, theirs):
        for name, parameter in net.rnn.named_parameters():
            parameter.requires_grad_(name == trained)
        net(x).square().sum().backward()
        assert {n for n, p in net.rnn.named_parameters() if p.grad is not None} == {trained}
    assert_same([getattr(ours.rnn, trained).grad], [getattr(theirs.rnn, trained).grad])


def test_learning_rates_of_groups_and_schedules():
    histories = []
    for net in pair():
        groups = [{"params": [p], "lr": 0.1 / (k + 1)} for k, p in enumerate(net.parameters())]
        optimiser = torch.optim.SGD(groups, momentum=0.9, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=10)
        history = []
        for _ in range(9):
            history += train(net, optimiser, steps=1)
            schedule.step()
        histories.append(history)
    assert histories[0] == pytest.approx(histories[1], rel=TOLERANCE)
