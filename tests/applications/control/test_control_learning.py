"""PPO: its parts against closed forms and torch, and what it learns."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Normal

from memorycell.application import modelfile
from memorycell.applications.control import baselines
from memorycell.applications.control.actions import log_likelihood, sample
from memorycell.applications.control.baselines import feedforward
from memorycell.applications.control.cloning import Demonstrations
from memorycell.applications.control.experience import Experience, advantages
from memorycell.applications.control.model import FeedforwardPolicy, PolicyConfig, RecurrentPolicy
from memorycell.applications.control.scaling import Scaling
from memorycell.cells import CELLS
from memorycell.state import State
from memorycell.streaming.stream import Stream
from memorycell.training import loop

CONFIG = PolicyConfig(hidden_size=7, input_size=3, choices=(2, 3))
NUMBERS = PolicyConfig(hidden_size=5, input_size=3, low=(-2.0, 0.0), high=(2.0, 5.0))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 4), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31)
)
def test_advantages_are_the_sum_of_discounted_errors(steps, count, discount, trace, seed):
    rng = np.random.default_rng(seed)
    rewards, values, bootstrap = rng.normal(size=(3, steps, count))
    following, ended = rng.normal(size=count), rng.random((steps, count)) < 0.3
    found = advantages(rewards, values, following, ended, bootstrap, discount=discount, trace=trace)
    for n in range(count):
        for t in range(steps):
            expected, weight = 0.0, 1.0
            for k in range(t, steps):
                after = following[n] if k + 1 == steps else values[k + 1, n]
                after = bootstrap[k, n] if ended[k, n] else after
                expected += weight * (rewards[k, n] + discount * after - values[k, n])
                if ended[k, n]:
                    break
                weight *= discount * trace
            assert found[t, n] == pytest.approx(expected, abs=1e-4, rel=1e-4)


def test_likelihoods_are_those_of_torch():
    outputs, log_std = torch.randn(4, 6, 5), torch.randn(0)
    action = torch.stack([torch.randint(2, (4, 6)), torch.randint(3, (4, 6))], -1).float()
    log_p, entropy = log_likelihood(outputs, log_std, action, (2, 3))
    both = [Categorical(logits=outputs[..., :2]), Categorical(logits=outputs[..., 2:])]
    expected = sum(d.log_prob(action[..., k]) for k, d in enumerate(both))
    torch.testing.assert_close(log_p, expected)
    torch.testing.assert_close(entropy, sum(d.entropy() for d in both))
    log_std, mean, taken = torch.randn(2), torch.randn(4, 6, 2), torch.randn(4, 6, 2)
    normal = Normal(mean, log_std.exp())
    log_p, entropy = log_likelihood(mean, log_std, taken, ())
    torch.testing.assert_close(log_p, normal.log_prob(taken).sum(-1))
    torch.testing.assert_close(entropy, normal.entropy().sum(-1))


@pytest.mark.parametrize("choices", [(2, 3), ()])
def test_samples_have_the_likelihood_they_are_given(choices):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(4000, 5)).astype(np.float32) if choices else np.zeros((4000, 2))
    outputs = outputs.astype(np.float32)
    log_std = np.array([-1.0, 0.5], np.float32) if not choices else np.zeros(0, np.float32)
    actions, log_p = sample(outputs, log_std, choices, rng)
    expected, _ = log_likelihood(
        *map(torch.from_numpy, (outputs, log_std, np.asarray(actions, np.float32))), choices
    )
    np.testing.assert_allclose(log_p, expected.numpy(), atol=1e-5)
    if choices:
        p = torch.softmax(torch.from_numpy(outputs[:, 2:]), -1).mean(0).numpy()
        shares = np.bincount(actions[:, 1].astype(int), minlength=3) / len(actions)
        np.testing.assert_allclose(shares, p, atol=0.03)
    else:
        np.testing.assert_allclose(actions.std(0), np.exp(log_std), rtol=0.05)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2**31))
def test_running_scaling_is_that_of_all_steps(parts, seed):
    rng = np.random.default_rng(seed)
    rows = [rng.normal(3, 5, (n, 2)).astype(np.float32) for n in parts]
    scaling = Scaling(2)
    for own in rows:
        scaling.update(own, np.ones(len(own)))
    seen = np.concatenate(rows).astype(np.float64)
    np.testing.assert_allclose(scaling.mean, seen.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scaling.std, np.maximum(seen.std(0), 1e-2), rtol=1e-3, atol=1e-3)
    assert float(scaling.count) == len(seen)


@pytest.mark.parametrize("config", [CONFIG, NUMBERS])
@pytest.mark.parametrize("kind", ["recurrent", "feedforward"])
def test_the_gradient_of_the_objective_in_float64(config, kind):
    torch.manual_seed(0)
    policy = (
        RecurrentPolicy(config)
        if kind == "recurrent"
        else FeedforwardPolicy(dataclasses.replace(config, frames=2))
    ).double()
    x, reset = torch.randn(2, 4, 3).double(), torch.rand(2, 4) < 0.3
    action = torch.zeros(2, 4, 2).double() + 1
    state = policy.initial_state(2)
    batch = Experience(
        x,
        reset,
        action,
        torch.randn(2, 4).double() - 2,
        torch.randn(2, 4).double(),
        torch.randn(2, 4).double(),
        tuple(state),
        tuple(state.asdict()),
        8,
        clip_ratio=5.0,
        entropy=0.1,
        value=0.5,
    )
    names, parameters = zip(*policy.named_parameters(), strict=True)
    used = [p for n, p in zip(names, parameters, strict=True) if p.numel()]
    loss, after = policy.loss(batch, None)
    assert after is None
    gradients = torch.autograd.grad(loss, used)
    for parameter, gradient in zip(used, gradients, strict=True):
        index, step = parameter.numel() // 2, 1e-6
        with torch.no_grad():
            flat = parameter.view(-1)
            flat[index] += step
            above = batch.objective(policy)
            flat[index] -= 2 * step
            below = batch.objective(policy)
            flat[index] += step
        numeric = float(above - below) / (2 * step)
        assert float(gradient.view(-1)[index]) == pytest.approx(numeric, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("kind", ["recurrent", "feedforward", "stacked"])
def test_the_first_pass_sees_the_likelihoods_of_the_rollout(application, monkeypatch, kind):
    settings_ = application.settings(
        hide="velocity", hidden=9, environments=5, rollout=40, rollouts=2, minibatches=2
    )
    dataset = application.prepare("CartPole-v1", settings_)
    if kind != "recurrent":
        dataset = dataset.variant(1 if kind == "feedforward" else 4)
    policy = dataset.build()
    dataset.attach(policy, lambda line: None)
    torch.nn.init.normal_(policy.actor.weight)
    resets = 0
    monkeypatch.setattr(Scaling, "update", lambda *arguments: None)
    for k, batch in enumerate(dataset.batches(3)):
        if k % (settings_.passes * 2) == 0:
            outputs, _ = policy.evaluate(batch.x, state_of(batch), batch.reset)
            log_p, _ = log_likelihood(outputs, policy.log_std, batch.action, (2,))
            torch.testing.assert_close(log_p, batch.log_p, atol=1e-5, rtol=1e-5)
            resets += int(batch.reset.sum())
    assert resets > 0


def check_parts(policy, batch, workers):
    """The weighted losses of the parts of a batch, and their gradients, are those of the batch."""
    used = [p for n, p in policy.named_parameters() if p.numel() and "critic" not in n]
    expected = policy.loss(batch, None)[0]
    parts = [policy.part(batch, slice(k, None, workers)) for k in range(workers)]
    total = sum(weight * policy.loss(part, None)[0] for part, weight in parts)
    torch.testing.assert_close(total, expected)
    for own, theirs in zip(*(torch.autograd.grad(x, used) for x in (total, expected)), strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_a_rollout(application, workers):
    settings_ = application.settings(
        gap=2, hidden=5, environments=7, rollout=6, rollouts=2, minibatches=1, passes=1
    )
    dataset = application.prepare("t-maze", settings_)
    policy = dataset.build()
    dataset.attach(policy, lambda line: None)
    _, batch = dataset.batches(0)
    for s in batch.state:  # each environment has its own
        s.normal_(generator=torch.Generator().manual_seed(0))
    batch.reset[:] = False
    torch.nn.init.normal_(policy.actor.weight)
    check_parts(policy, batch, workers)


@pytest.mark.parametrize("members", [1, 2])
def test_workers_share_trajectories_of_different_lengths(members):
    policy = RecurrentPolicy(dataclasses.replace(CONFIG, members=members))
    lengths = torch.tensor([6, 1, 2, 5, 3])
    action = torch.randint(2, (5, 6, 2)).float()
    batch = Demonstrations(torch.randn(5, 6, 3), action, lengths)
    for workers in (2, 3):
        check_parts(policy, batch, workers)


def state_of(batch):
    """The state before the first step of a batch."""
    return State(**dict(zip(batch.names, batch.state, strict=True)))


def test_rollouts_are_of_the_current_weights_and_count_every_step(application):
    settings_ = application.settings(hidden=4, environments=3, rollout=10, rollouts=3, gap=2)
    dataset = application.prepare("t-maze", settings_)
    policy = dataset.build()
    dataset.attach(policy, lambda line: None)
    steps = 0
    for batch in dataset.batches(0):
        steps += batch.steps
        with torch.no_grad():
            policy.actor.bias += 5 * torch.tensor([1.0, -1.0])
    assert steps == 3 * 10 * 3 == int(policy.scaling.count)
    assert bool((batch.action == 0).all())  # what the bias demands by then


def test_it_learns_what_needs_memory_and_its_baselines_cannot(maze):
    _, result = maze
    assert result["metrics"]["return"] == 1.0
    baselines = result["baselines"]
    assert set(baselines) == {"random actions", "without memory", "last 4 observations"}
    assert all(scores["return"] < 0.8 for scores in baselines.values())
    assert result["skill"] > 0.2


class Clock:
    """A clock on which every look at it takes 10 ms, so that no test depends on the machine."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now


@pytest.mark.parametrize("kind", ["environment", "table"])
def test_minutes_are_shared_with_the_baselines(application, cue_table, tmp_path, monkeypatch, kind):
    budgets = []

    class Watched(baselines.Run):
        def __init__(self, *args):
            super().__init__(*args)
            budgets.append(self.progress.budget_s)

    clock = Clock()
    for module in ("run", "loop"):
        monkeypatch.setattr(f"memorycell.training.{module}.time", clock)
    monkeypatch.setattr(baselines, "Run", Watched)
    monkeypatch.setattr(loop, "Run", Watched)
    settings_ = application.settings(
        **{"hidden": 16, "environments": 4, "rollout": 16, "rollouts": 2, "episodes": 4},
        checked=2,
        baseline_share=0.5,
    )
    data = "t-maze" if kind == "environment" else str(cue_table(tmp_path / "t.csv"))
    lines: list[str] = []
    result = loop.train(
        application,
        data,
        settings_,
        application.training,
        tmp_path / "m.safetensors",
        minutes=0.03,
        log=lines.append,
    )
    ours, *others = budgets
    assert others == [0.5 * ours] * 2
    assert 0 < ours + sum(others) <= 1.8  # of 1.8 s, less what was spent before
    assert len(result["baselines"]) == 3
    assert sum(line.startswith("trains the baseline") for line in lines) == 2


def test_the_model_file_holds_the_baselines(maze, application):
    path, result = maze
    file = modelfile.load(path)
    dataset = application.reopen(None, file)
    assert dataset.evaluate(file.model, "test") == result["metrics"]
    assert dataset.baselines("test") == result["baselines"]


def test_seeds_reproduce_and_differ(train, tmp_path):
    results = [
        train("CartPole-v1", tmp_path / f"{k}.safetensors", 2, seed=seed, hide="velocity")
        for k, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (r["metrics"] for r in results)
    assert first == again != other
    weights = [modelfile.load(tmp_path / f"{k}.safetensors").model.actor.weight for k in range(3)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_an_interrupted_run_continues_as_if_it_had_not_been(application, train, tmp_path):
    from memorycell.training.loop import train as train_model

    straight = train("t-maze", tmp_path / "a.safetensors", 4, gap=3)
    settings_ = application.settings(
        **{"hidden": 16, "environments": 16, "rollout": 32, "rollouts": 2, "episodes": 20},
        checked=16,
        baseline_share=0.0,
        gap=3,
    )
    how = dataclasses.replace(application.training, epochs=4, patience=4)
    out = tmp_path / "b.safetensors"

    def interrupt(event):
        if type(event).__name__ == "Epoch" and event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(application, "t-maze", settings_, how, out, on_event=interrupt)
    assert modelfile.load(out).task == "control"  # the best so far
    resumed = train_model(application, "t-maze", settings_, how, out, resume=True)
    assert resumed["metrics"] == straight["metrics"]
    a, b = (modelfile.load(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert a.history == b.history


def test_a_feedforward_policy_has_about_as_many_parameters():
    config = dataclasses.replace(CONFIG, hidden_size=64)
    ours = sum(p.numel() for p in RecurrentPolicy(config).parameters())
    for frames in (1, 4):
        theirs = sum(p.numel() for p in FeedforwardPolicy(feedforward(config, frames)).parameters())
        assert abs(theirs / ours - 1) < 0.05


def test_memory_sets_the_biases_of_the_gates():
    torch.manual_seed(0)
    policy = RecurrentPolicy(dataclasses.replace(CONFIG, hidden_size=400), memory=100)
    bias = policy.recurrent.bias_ih_l0 + policy.recurrent.bias_hh_l0
    i, f = bias[:400], bias[400:800]
    torch.testing.assert_close(i, -f)
    times = f.detach().exp()
    assert 0.9 < float(times.min()) < 3
    assert 95 < float(times.max()) <= 99.01
    assert 40 < float(times.mean()) < 60


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_policies_of_every_cell(application, cell):
    heads = 2 if CELLS[cell].stabilised else 1
    settings_ = application.settings(cell=cell, hidden=8, heads=heads)
    config = settings_.policy_config(3, (2,), (), ())
    policy = RecurrentPolicy(config, memory=10).eval()
    x = torch.randn(1, 5, 3)
    expected = policy(x)[0][0].detach().numpy()
    stream = Stream(policy)
    for step, scores in zip(x[0].numpy(), expected, strict=True):
        np.testing.assert_allclose(stream.step(step), scores, atol=1e-5)
    if "f" in CELLS[cell].blocks:
        rows = CELLS[cell].rows(8, heads)
        bias = policy.recurrent.bias_ih_l0.detach()
        assert 0 <= float(bias[rows["f"]].min()) <= float(bias[rows["f"]].max()) <= math.log(9)
        if "i" in rows:
            torch.testing.assert_close(bias[rows["i"]], -bias[rows["f"]])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"discount": 1.5}, "discount=1.5"),
        ({"rollout": 0}, "rollout=0"),
        ({"cell": "rnn", "memory": 10}, "no forget gate"),
        ({"frames": 1}, "frames=1"),
        ({"cell": "nothing"}, "cell"),
        ({"heads": 2}, "heads=2: the cell lstm has none"),
        ({"cell": "slstm", "heads": 5}, "divisor of hidden=64"),
    ],
)
def test_settings_are_checked(application, wrong, words):
    with pytest.raises(ValueError, match=words):
        application.settings(**wrong)
