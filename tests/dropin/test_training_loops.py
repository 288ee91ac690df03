"""Parts of training loops: clipped, accumulated, scaled and zeroed gradients, averaged models,
frozen parameters, schedules, as with torch.nn.
"""

import pytest
import torch
from small_nets import KINDS, TOLERANCE, assert_same, data, pair, train
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


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
