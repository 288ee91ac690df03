"""Behaviour cloning: trajectories in files, and what is learnt from them."""

import dataclasses
import functools
import operator

import numpy as np
import pytest
import torch

import memorycell
from memorycell.application import modelfile
from memorycell.applications.control.cloning import Demonstrations
from memorycell.applications.control.figures import episode_gif
from memorycell.applications.control.model import PolicyConfig, RecurrentPolicy
from memorycell.applications.control.predict import PredictOptions, predict
from memorycell.applications.control.prepare import split_episodes
from memorycell.applications.control.session import ControlSession
from memorycell.applications.control.trajectories import Columns, read_trajectories
from memorycell.errors import DataError, UserError
from memorycell.streaming.stream import Stream

COLUMNS = Columns("episode", "step", None, None)


@pytest.fixture(scope="module")
def cloned(tmp_path_factory, train, cue_table):
    """(model file, result) of a policy that repeats the first observation of an episode."""
    folder = tmp_path_factory.mktemp("cloned")
    data = cue_table(folder / "log.csv", words=True)
    out = folder / "c.safetensors"
    return out, train(str(data), out, 40, lr=2e-2, baseline_share=1.0), data


def test_rows_become_episodes_in_the_order_of_their_steps(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("episode,step,obs_a,obs_b,action\nx,2,5,6,1\ny,1,7,8,0\nx,1,3,4,0\nx,3,9,9,1\n")
    found = read_trajectories(str(path), COLUMNS)
    assert [one.name for one in found.episodes] == ["x", "y"]
    assert found.episodes[0].values.tolist() == [[3, 4], [5, 6], [9, 9]]
    assert found.episodes[0].actions.tolist() == [[0], [1], [1]]
    assert found.words == (("0", "1"),)


def test_arrays_of_d4rl(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "log.npz"
    ends = np.zeros(20, bool)
    ends[[4, 19]] = True
    timeouts = np.zeros(20, bool)
    timeouts[11] = True
    arrays = {"observations": rng.normal(size=(20, 3)), "actions": rng.normal(size=(20, 2))}
    np.savez(path, **arrays, terminals=ends, timeouts=timeouts)
    found = read_trajectories(str(path), COLUMNS)
    assert [len(one.values) for one in found.episodes] == [5, 7, 8]
    np.testing.assert_allclose(found.episodes[1].values, arrays["observations"][5:12], rtol=1e-6)
    assert found.words == ()
    np.savez(path, observations=arrays["observations"], terminals=ends)
    with pytest.raises(DataError, match="no array actions"):
        read_trajectories(str(path), COLUMNS)
    np.savez(path, **arrays, terminals=np.array([None]))
    with pytest.raises(DataError, match="no readable"):
        read_trajectories(str(path), COLUMNS)
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="no readable"):
        read_trajectories(str(path), COLUMNS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ep,obs,action\n1,2,0\n", "no column 'episode'"),
        ("episode,x,action\n1,2,0\n", "begins with obs"),
        ("episode,obs,x\n1,2,0\n", "begins with act"),
        ("episode,obs,action\n1,2,0\n1,,1\n", "row 2, column 'obs' is missing"),
        ("episode,obs,action\n1,2,0\n1,2,\n", "row 2, column 'action' is missing"),
        ("episode,obs,action\n1,2,0\n2,2,1\n", "2 episodes; 3 or more"),
    ],
)
def test_bad_tables_are_named(tmp_path, application, text, words):
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        application.prepare(str(path), application.settings())


def test_actions_outside_the_bounds_of_the_environment(tmp_path, application):
    path = tmp_path / "log.csv"
    rows = [f"{k},0.1,0.2,0.3,{1.5 if k < 3 else 2.5}" for k in range(4)]
    path.write_text("\n".join(["episode,obs0,obs1,obs2,action", *rows]) + "\n")
    settings = application.settings(environment="Pendulum-v1", episodes=2)
    with pytest.raises(DataError, match="episode 3, step 1: action is 2.5, outside -2 to 2"):
        application.prepare(str(path), settings)
    with pytest.raises(DataError, match="3 observation columns; CartPole-v1 gives 4"):
        application.prepare(str(path), application.settings(environment="CartPole-v1", episodes=2))


def test_episodes_are_split_completely():
    parts = split_episodes(list(range(20)), 0)
    assert sorted(functools.reduce(operator.iadd, parts.values(), [])) == list(range(20))
    assert {split: len(own) for split, own in parts.items()} == {"train": 14, "valid": 3, "test": 3}
    assert split_episodes(list(range(20)), 1) != parts


def test_the_objective_is_the_mean_over_known_steps():
    policy = RecurrentPolicy(PolicyConfig(hidden_size=5, input_size=2, choices=(3,)))
    x, action = torch.randn(2, 6, 2), torch.randint(3, (2, 6, 1)).float()
    batch = Demonstrations(x, action, torch.tensor([6, 4]))
    parts = []
    for k, length in enumerate((6, 4)):
        scores, _ = policy(x[k : k + 1, :length])
        parts.append(
            torch.nn.functional.cross_entropy(
                scores[0], action[k, :length, 0].long(), reduction="sum"
            )
        )
    torch.testing.assert_close(policy.loss(batch, None)[0], sum(parts) / 10)
    assert batch.steps == 10


def test_it_repeats_what_it_saw_first_and_its_baselines_cannot(cloned):
    _, result, _ = cloned
    assert result["primary"] == "error"
    assert result["metrics"]["error"] == 0
    scores = {name: own["error"] for name, own in result["baselines"].items()}
    assert set(scores) == {"most frequent action", "without memory", "last 4 observations"}
    assert min(scores.values()) > 0.1


def test_it_acts_on_logged_and_live_observations(cloned, cue_table, tmp_path):
    path, _, _data = cloned
    file = modelfile.load(path)
    other = cue_table(tmp_path / "new.csv", words=True, episodes=5, seed=9)
    found = predict(file, str(other), PredictOptions())["episodes"]
    truth = read_trajectories(str(other), COLUMNS)
    for one, own in zip(found, truth.episodes, strict=True):
        assert one["actions"] == [truth.words[0][int(a)] for a in own.actions[:, 0]]
    assert episode_gif(file, predict(file, str(other), PredictOptions()))[:3] == b"GIF"
    session = ControlSession(file)
    answer = session.feed({"obs_cue": 1, "obs_noise": 0})[0]
    assert answer["action"] == "right"
    assert answer["p"] > 0.5
    with pytest.raises(UserError, match="without an environment"):
        predict(file, None, PredictOptions())


def test_other_trajectories_are_evaluated_completely(cloned, application, cue_table, tmp_path):
    path, result, _ = cloned
    file = modelfile.load(path)
    own = application.reopen(None, file)
    assert own.evaluate(file.model, "test") == result["metrics"]
    other = cue_table(tmp_path / "new.csv", words=True, episodes=5, seed=9)
    dataset = application.reopen(str(other), file)
    assert dataset.evaluate(file.model, "test")["error"] == 0
    assert dataset.baselines("test") == {}


def test_a_policy_without_an_environment_is_proved(cloned):
    path, result, _ = cloned
    costs = memorycell.load(path).prove(["float32", "int8"], exports=[]).costs
    assert [(c["metric"], c["float32"]) for c in costs] == [("error", result["metrics"]["error"])]


def test_a_lower_precision_is_measured_by_its_own_steps(tmp_path, application):
    rng = np.random.default_rng(0)
    path = tmp_path / "log.npz"
    seen, actions = rng.normal(size=(2, 60, 2))
    np.savez(path, observations=seen, actions=actions, terminals=np.arange(60) % 6 == 5)
    dataset = application.prepare(str(path), application.settings(hidden=16))
    policy = dataset.build().eval()
    torch.nn.init.normal_(policy.actor.weight)
    low, high = (np.array(bound) for bound in (dataset.codec.low, dataset.codec.high))
    found = {}
    for precision in ("float32", "int8"):
        squares = []
        for one in dataset.splits["test"]:
            stream = Stream(policy, precision)
            taken = np.stack([stream.step(row) for row in one.values])
            squares.append(((taken - one.actions) / (high - low) * 2) ** 2)
        found[precision] = dataset.evaluate(policy, "test", precision)["error"]
        expected = float(np.concatenate(squares).mean()) ** 0.5
        assert found[precision] == pytest.approx(expected, rel=1e-5)
    assert abs(found["int8"] / found["float32"] - 1) > 1e-4


def test_numbers_are_cloned_within_their_range(tmp_path, train, application):
    rng = np.random.default_rng(0)
    path = tmp_path / "log.npz"
    seen = rng.normal(size=(400, 2))
    actions = np.stack([3 * np.tanh(seen[:, 0]), seen[:, 1] * 0], 1)
    np.savez(path, observations=seen, actions=actions, terminals=np.arange(400) % 20 == 19)
    result = train(str(path), tmp_path / "n.safetensors", 40, lr=2e-2)
    assert result["metrics"]["error"] < 0.5 * result["baselines"]["mean action"]["error"]
    file = modelfile.load(tmp_path / "n.safetensors")
    assert file.codec.high[0] <= 3.0
    scaled = application.reopen(None, file).scaled(np.array([[file.codec.low[0], 0.0]], np.float32))
    assert scaled[0, 0] == -1


def test_with_an_environment_it_is_also_played(tmp_path, application, train):
    from memorycell.applications.control.environments import Environments

    environments = Environments("CartPole-v1", 1, gap=1, max_steps=60)
    rows = ["episode,obs0,obs1,obs2,obs3,action"]
    for episode in range(12):
        seen, ended = environments.reset([episode]), False
        while not ended:
            action = int(seen[0, 2] + 0.5 * seen[0, 3] > 0)
            rows.append(f"{episode},{','.join(f'{v:.5f}' for v in seen[0])},{action}")
            stepped = environments.step(np.array([[action]]), restart=False)
            seen, ended = stepped.observations, bool(stepped.truncated[0] | stepped.terminated[0])
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows) + "\n")
    result = train(
        str(path),
        tmp_path / "c.safetensors",
        25,
        lr=2e-2,
        environment="CartPole-v1",
        episodes=5,
        max_steps=60,
    )
    assert result["metrics"]["return"] > 40
    assert result["metrics"]["error"] < 0.2
    file = modelfile.load(tmp_path / "c.safetensors")
    assert file.codec.environment == "CartPole-v1"
    dataset = application.reopen(None, file)
    assert dataclasses.asdict(dataset.settings)["environment"] == "CartPole-v1"
