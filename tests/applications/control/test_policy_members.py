"""Several networks as one policy: the average of their actions, complete, live and in files."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import memorycell
from memorycell.application import modelfile
from memorycell.applications.control.baselines import feedforward
from memorycell.applications.control.cloning import Demonstrations
from memorycell.applications.control.model import NOT_EXPORTED, PolicyConfig, RecurrentPolicy
from memorycell.applications.control.session import ControlSession
from memorycell.errors import UserError
from memorycell.files import read_tensors, tensors_to_bytes
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream

MEMBERS = 3
KINDS = {
    "choices": {"choices": (2, 3)},
    "numbers": {"low": (-2.0, 0.0), "high": (2.0, 5.0)},
}


def ensemble(kind, cell="lstm"):
    """An untrained policy of three different networks, with a scaling that is not trivial."""
    torch.manual_seed(1)
    config = PolicyConfig(hidden_size=6, input_size=3, cell=cell, members=MEMBERS, **KINDS[kind])
    policy = RecurrentPolicy(config)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter))
    policy.scaling.mean.copy_(torch.tensor([100.0, -1.0, 0.01]))
    policy.scaling.std.copy_(torch.tensor([20.0, 0.3, 0.02]))
    return policy.eval()


def separate(policy):
    """The members as policies of one network each."""
    alone = []
    weights = policy.state_dict()
    for k in range(MEMBERS):
        single = RecurrentPolicy(dataclasses.replace(policy.config, members=1)).eval()
        own = {name: weights[name] for name in single.state_dict()}
        prefix = f"others.{k - 1}."
        own |= {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        single.load_state_dict(own)
        alone.append(single)
    return alone


def observations(count, steps):
    rng = np.random.default_rng(0)
    scale = np.array([20.0, 0.3, 0.02])
    return (rng.normal(size=(count, steps, 3)) * scale + [100, -1, 0.01]).astype(np.float32)


def averaged(own, kind):
    """The average of outputs [M, …, O] of single policies, in float64."""
    own = own.astype(np.float64)
    if kind == "numbers":
        return own.mean(0)
    parts = []
    for part in np.split(own, [2], -1):
        p = np.exp(part) / np.exp(part).sum(-1, keepdims=True)
        parts.append(np.log(p.mean(0)))
    return np.concatenate(parts, -1)


@pytest.mark.parametrize("cell", ["lstm", "layernorm", "gru_reset_before", "mogrifier"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_outputs_are_the_average_of_the_members_in_every_way_of_running(kind, cell):
    policy, x = ensemble(kind, cell), observations(2, 12)
    reset = torch.zeros(2, 12, dtype=torch.bool)
    reset[0, 7] = reset[1, 4] = True
    with torch.no_grad():
        own = [one(torch.from_numpy(x), reset=reset)[0].numpy() for one in separate(policy)]
        complete, _ = policy(torch.from_numpy(x), reset=reset)
        _, state = policy(torch.from_numpy(x[:, :5]), reset=reset[:, :5])
        rest, _ = policy(torch.from_numpy(x[:, 5:]), state, reset=reset[:, 5:])
    expected = averaged(np.stack(own), kind)
    assert np.abs(np.stack(own) - expected).max() > 0.3  # the members differ
    np.testing.assert_allclose(complete, expected, atol=2e-5)
    np.testing.assert_allclose(rest, expected[:, 5:], atol=2e-5)

    pool = Pool(policy)  # many sessions at once
    slots = [pool.open(), pool.open()]
    for t in range(12):
        for k in range(2):
            if reset[k, t]:
                pool.close(slots[k])
                slots[k] = pool.open()
        np.testing.assert_allclose(pool.step(slots, x[:, t]), expected[:, t], atol=1e-4)

    stream = Stream(policy)  # one session, single steps and several
    live = [stream.step(row) for row in x[0, :3]]
    live += list(stream.step(x[0, 3:7]))
    np.testing.assert_allclose(live, expected[0, :7], atol=1e-4)


def test_several_numbers_at_a_bound_stay_within_it():
    low, high = (-0.7,), (0.1,)
    config = PolicyConfig(hidden_size=2, input_size=1, low=low, high=high, members=7)
    policy = RecurrentPolicy(config).eval()
    for one in policy.networks:
        torch.nn.init.constant_(one.actor.bias, 9.0)
    x = np.zeros(1, np.float32)
    assert Stream(policy).step(x)[0] == np.float32(0.1)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_loss_is_the_mean_of_the_members_and_the_cost_that_of_their_mixture(kind):
    policy = ensemble(kind)
    x = torch.from_numpy(observations(2, 6))
    action = torch.rand(2, 6, 2) if kind == "numbers" else torch.randint(2, (2, 6, 2)).float()
    batch = Demonstrations(x, action, torch.tensor([6, 4]))
    alone = separate(policy)
    with torch.no_grad():
        losses = [one.loss(batch, None)[0].item() for one in alone]
        assert policy.loss(batch, None)[0].item() == pytest.approx(np.mean(losses), rel=1e-5)
        p = torch.stack([torch.exp(-batch.nats(one)[0].double()) for one in alone]).mean(0)
        nats, outputs, known = batch.nats(policy)
    torch.testing.assert_close(nats.double()[known], -p.log()[known], rtol=1e-4, atol=1e-5)
    assert nats.sum() < np.mean(losses) * 10  # Jensen: the mixture is better than the mean
    if kind == "choices":
        with torch.no_grad():
            torch.testing.assert_close(outputs, policy(x)[0])
    gradients = torch.autograd.grad(
        policy.loss(batch, None)[0], [one.actor.weight for one in policy.networks]
    )
    for one, gradient in zip(alone, gradients, strict=True):
        expected = torch.autograd.grad(one.loss(batch, None)[0], one.actor.weight)[0]
        torch.testing.assert_close(gradient, expected / MEMBERS)


@pytest.fixture(scope="module")
def cloned(tmp_path_factory, train, cue_table):
    """(model file, its result, the table) of an ensemble."""
    folder = tmp_path_factory.mktemp("ensemble")
    data = cue_table(folder / "log.csv", words=True)
    out = folder / "c.safetensors"
    return out, train(str(data), out, 12, lr=2e-2, members=MEMBERS, baseline_share=0.1), data


def test_a_file_has_all_members_and_baselines_of_one(cloned, application):
    path, result, _data = cloned
    file = modelfile.load(path)
    assert file.model.config.members == MEMBERS == len(file.model.networks)
    first, *others = (one.recurrent.weight_hh_l0.detach() for one in file.model.networks)
    assert all(float((first - other).abs().max()) > 0.05 for other in others)
    assert [n for n in file.model.state_dict() if "scaling.mean" in n] == ["scaling.mean"]
    dataset = application.reopen(None, file)
    assert dataset.evaluate(file.model, "test") == result["metrics"]
    assert dataset.baselines("test").keys() == result["baselines"].keys()
    assert "without memory" in result["baselines"]
    small = feedforward(dataclasses.replace(file.model.config, members=1), 1)
    assert feedforward(file.model.config, 1) == small


def test_a_session_of_an_ensemble_is_saved_forked_and_restored(cloned):
    file = modelfile.load(cloned[0])
    session = ControlSession(file)
    lines = ["1, 0.3", "0, -0.2", "0, 1", "0, 0"]
    expected = [session.feed(line)[0] for line in lines]
    alone = np.stack(
        [
            one(torch.tensor([[json.loads(f"[{line}]") for line in lines]]))[0][0].detach().numpy()
            for one in separate(file.model)
        ]
    )
    p = np.exp(alone) / np.exp(alone).sum(-1, keepdims=True)
    for record, shares in zip(expected, p.mean(0), strict=True):
        assert record["p"] == pytest.approx(shares.max(), abs=1e-4)
        assert record["action"] == ("left", "right")[shares.argmax()]
    session.reset()
    session.feed(lines[0])
    saved, fork = session.snapshot(), session.fork()
    session.feed("-1, 2")  # the fork and the snapshot do not follow
    other = ControlSession(file)
    other.restore(saved)
    for one in (fork, other):
        assert [one.feed(line)[0] for line in lines[1:]] == expected[1:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_ensemble_is_exported_as_one_policy(kind, cell):
    """One stack and one actor give the average, in PyTorch, live, in ONNX and in C99."""
    policy = ensemble(kind, cell)
    x = observations(1, 25)
    with torch.no_grad():
        expected, _ = policy(torch.from_numpy(x))
        one = policy.exported()
        whole, _ = one(torch.from_numpy(x))
    assert one.config.members == 1
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
    stream = Stream(one)
    live = np.stack([stream.step(row) for row in x[0]])
    np.testing.assert_allclose(live, expected[0], atol=1e-4)
    result = memorycell.prove(policy, x[0])
    assert result.ok, [str(check) for check in result.checks]
    names = {(check.name, check.precision) for check in result.checks}
    for to, precision in (("onnx", "float32"), ("c", "float32"), ("c", "int8")):
        assert (f"{to} = step by step", precision) in names
    assert ("members in one stack = whole sequence", "int8") in names


def test_an_ensemble_that_cannot_be_merged_is_not_exported():
    policy = ensemble("choices", "layernorm")
    assert policy.onnx_head() == policy.c_head() == NOT_EXPORTED
    assert "layernorm" not in NOT_EXPORTED


def test_an_ensemble_is_proved_inspected_and_exported(cloned, tmp_path):
    model = memorycell.load(cloned[0])
    assert model.prove().ok
    inspection = model.inspect()
    assert [layer.trace.units for layer in inspection.layers] == [16]
    assert inspection.notes[-1] == "the first of 3 members"
    for to in ("onnx", "c"):
        model.export(to, tmp_path / to)
        assert any((tmp_path / to).iterdir())


def test_an_environment_trains_one_network(train, application, tmp_path):
    out = tmp_path / "m.safetensors"
    with pytest.raises(UserError, match="members=3: only for logged trajectories.*t-maze"):
        train("t-maze", out, 1, gap=3, members=3)
    assert not out.exists()
    with pytest.raises(ValueError, match="members: expected a whole number from 1 to 32, got 0"):
        application.settings(members=0)


def test_a_file_from_before_members_is_read(cloned, train, tmp_path):
    out, older = tmp_path / "one.safetensors", tmp_path / "older.safetensors"
    train(str(cloned[2]), out, 1)
    note, tensors = read_tensors(out.read_bytes())
    del note["checksum"], note["config"]["members"], note["info"]["settings"]["members"]
    older.write_bytes(tensors_to_bytes(tensors, note))
    x = torch.from_numpy(observations(1, 5)[..., :2])
    files = modelfile.load(older), modelfile.load(out)
    expected, found = (file.model(x)[0] for file in files)
    assert torch.equal(expected, found)
    names = [name.split(".")[0] for name in files[0].model.state_dict()]
    assert set(names) == {"log_std", "scaling", "actor", "critic", "recurrent"}
