"""Weights changed in every way that PyTorch has are used at the next call, as with torch.nn.

A layer that caches values computed from its weights cannot rely on `Tensor._version`: fused
optimisers, `.data`, NumPy views, inference mode and other processes do not increase it.
"""

import pytest
import torch
import torch.multiprocessing
from small_nets import KINDS, VARIANTS, assert_same, data, pair
from torch import nn

import memorycell


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
