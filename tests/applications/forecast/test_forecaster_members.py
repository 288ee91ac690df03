"""Several forecasters as one: the mean of their quantiles, complete, in segments and live."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import memorycell
from memorycell.applications.forecast.linear_start import LinearStart, set_linear_path
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.models.batches import LaneBatch
from memorycell.streaming.stream import Stream

CONFIG = ForecasterConfig(
    input_size=4, horizon=3, targets=2, quantiles=5, window=4, hidden_size=6, members=3, dropout=0.0
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Forecaster(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def separate(model):
    alone = []
    for k in range(3):
        prefix = f"others.{k - 1}." if k else ""
        single = Forecaster(replace(CONFIG, members=1)).eval()
        single.load_state_dict({n: model.state_dict()[prefix + n] for n in single.state_dict()})
        alone.append(single)
    return alone


def test_quantiles_are_averaged_in_every_way_of_running(model):
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    with torch.no_grad():
        own = np.stack([one(torch.from_numpy(x)[None])[0][0].numpy() for one in separate(model)])
        complete, _ = model(torch.from_numpy(x)[None])
    expected = own.mean(0)
    assert np.abs(own - expected).max() > 0.05
    np.testing.assert_allclose(complete[0], expected, atol=1e-5)
    stream = Stream(model)
    live = [stream.step(row) for row in x[:3]] + list(stream.step(x[3:]))
    np.testing.assert_allclose(np.stack(live), expected, atol=1e-5)
    start, at = np.zeros(20, np.int64), np.array([4, 11, 19])
    np.testing.assert_allclose(model.run(x, start, at), expected[at], atol=1e-5)
    low = model.run(x, start, at, precision="bfloat16")
    np.testing.assert_allclose(low, expected[at], atol=0.1)


def test_the_loss_carries_the_state_of_each_member(model):
    x, target = torch.randn(2, 8, 4), torch.randn(2, 8, 3, 2)
    batches = [
        LaneBatch(x[:, at], target[:, at], torch.zeros(2, 4, dtype=torch.bool), at.start > 0)
        for at in (slice(0, 4), slice(4, 8))
    ]
    losses, state = [], None
    for batch in batches:
        loss, state = model.loss(batch, state)
        losses.append(loss.item())
    own = []
    for one in separate(model):
        _, after = one.loss(batches[0], None)
        own.append([one.loss(batches[0], None)[0].item(), one.loss(batches[1], after)[0].item()])
    assert losses == pytest.approx(np.mean(own, 0).tolist(), rel=1e-5)


def test_the_first_weights_of_the_linear_path_are_those_of_all(model):
    new = Forecaster(CONFIG)
    shape = new.head.linear.weight.shape
    set_linear_path(new, LinearStart(torch.randn(shape), torch.randn(shape[0]), 1.0))
    for other in new.networks[1:]:
        torch.testing.assert_close(other.head.linear.weight, new.head.linear.weight)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"cell": "gru", "num_layers": 2, "members": 2, "window": 1},
        {"normal": "level", "linear": 3},
        {"normal": "level", "raw_linear": True, "cell": "peephole"},
    ],
)
def test_several_are_exported_as_one(changed):
    """One stack and one head give the mean of the members, in PyTorch, live, in ONNX and C99."""
    torch.manual_seed(1)
    model = Forecaster(replace(CONFIG, **changed)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    with torch.no_grad():
        expected, _ = model(torch.from_numpy(x)[None])
        one = model.exported()
        whole, _ = one(torch.from_numpy(x)[None])
    assert one.config.members == 1
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
    stream = Stream(one)
    live = np.stack([stream.step(row) for row in x])
    np.testing.assert_allclose(live, expected[0], atol=1e-4)
    result = memorycell.prove(model, x)
    assert result.ok, [str(check) for check in result.checks]
    names = {(check.name, check.precision) for check in result.checks}
    exports = {("onnx", "float32"), ("c", "float32"), ("c", "int8")}
    assert {(f"{to} = step by step", precision) for to, precision in exports} <= names
    assert ("members in one stack = whole sequence", "int8") in names


def test_members_that_cannot_be_merged_are_not_exported():
    model = Forecaster(replace(CONFIG, cell="layernorm"))
    assert "several members of the cells rnn" in model.onnx_head()
    assert model.c_head() == model.onnx_head()
