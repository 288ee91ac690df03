"""Environments, their spaces, hidden values and what can be wrong with them."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from memorycell.applications.control import environments as module
from memorycell.applications.control.environments import Environments, hidden_values, make
from memorycell.applications.control.episodes import RandomActor, play
from memorycell.applications.control.prepare import environment_codec
from memorycell.applications.control.settings import ControlSettings
from memorycell.applications.control.spaces import action_space, observation_space
from memorycell.applications.control.t_maze import TMaze
from memorycell.errors import DataError, UserError


def several(name, count=3, max_steps=1000, gap=4):
    return Environments(name, count, gap=gap, max_steps=max_steps)


class Odd(gymnasium.Env):
    """Gives what it is made with."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, observation=(0.0, 0.0), reward=1.0):
        self.given, self.reward = np.array(observation, np.float32), reward

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return self.given, self.reward, False, False, {}


@pytest.fixture
def odd(monkeypatch):
    """(observation, reward) -> environments that give them."""

    def made(**given):
        monkeypatch.setattr(module, "make", lambda name, gap, **options: Odd(**given))
        return several("odd", 2, max_steps=7)

    return made


def test_a_batch_is_the_same_as_gymnasium_alone():
    own, alone = several("CartPole-v1"), gymnasium.make("CartPole-v1")
    seeds, actions = [5, 6, 7], np.random.default_rng(0).integers(0, 2, (60, 3, 1))
    assert np.array_equal(own.reset(seeds)[1], alone.reset(seed=6)[0])
    for action in actions:
        stepped = own.step(action)
        seen, reward, terminated, truncated, _ = alone.step(int(action[1, 0]))
        assert np.array_equal(stepped.last[1], seen)
        assert (stepped.rewards[1], stepped.terminated[1]) == (reward, terminated)
        if terminated or truncated:
            assert np.array_equal(stepped.observations[1], alone.reset()[0])


def test_an_episode_that_does_not_end_is_cut_off(odd):
    own = odd()
    own.reset([0, 1])
    steps = [own.step(np.zeros((2, 1))).truncated for _ in range(14)]
    assert [k for k, cut in enumerate(steps) if cut.all()] == [6, 13]
    assert own.cut_off == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reward": np.nan}, "gave the reward nan at step 1"),
        ({"observation": (0.0, np.nan)}, r"value\[1\]"),
        ({"observation": (0.0, 0.0, 0.0)}, "3 values; its observation space has 2"),
    ],
)
def test_an_odd_environment_is_named(odd, given, words):
    own = odd(**given)
    own.reset([0, 1])
    with pytest.raises(DataError, match=words):
        own.step(np.zeros((2, 1)))


def test_missing_packages_are_named_with_their_extra(monkeypatch):
    def missing(name, **options):
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(UserError, match=r"LunarLander-v3 .*pip install 'gymnasium\[box2d\]'"):
        make("LunarLander-v3", 1)

    def no_imageio(name, **options):
        raise ModuleNotFoundError("No module named 'imageio'", name="imageio")

    monkeypatch.setattr(gymnasium, "make", no_imageio)
    with pytest.raises(UserError, match=r"imageio.*pip install 'gymnasium\[mujoco\]'"):
        make("Hopper-v5", 1)

    def no_module(name):
        raise ModuleNotFoundError("no popgym", name=name)

    monkeypatch.setattr(module.importlib, "import_module", no_module)
    with pytest.raises(UserError, match="pip install popgym"):
        make("popgym-RepeatFirstEasy-v0", 1)


def test_an_unknown_environment_has_a_suggestion():
    with pytest.raises(DataError, match=r"did you mean CartPole-v1\?"):
        make("CartPol-v1", 1)


def test_hidden_values():
    assert hidden_values("velocity", "CartPole-v1", 4) == (1, 3)
    assert hidden_values("velocity", "LunarLander-v3", 8) == (2, 3, 5)
    assert hidden_values("2,0", "x", 3) == (0, 2)
    assert hidden_values(None, "x", 3) == ()
    for wrong in ("3", "0,1,2", "-1", "a", "1,,2"):
        with pytest.raises(UserError, match="hide="):
            hidden_values(wrong, "x", 3)
    with pytest.raises(UserError, match="not known which values"):
        hidden_values("velocity", "t-maze", 3)


SPACES = [
    (spaces.Discrete(3, start=2), 4, [2.0], (3,)),
    (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [1.0, 2.0], (2, 3)),
    (spaces.MultiBinary(2), np.array([1, 0], np.int8), [1.0, 0.0], (0, 0)),
    (spaces.Box(0, 255, (2, 2), np.uint8), np.eye(2, dtype=np.uint8), [1, 0, 0, 1], (0,) * 4),
    (
        spaces.Dict({"a": spaces.Discrete(2), "text": spaces.Text(5)}),
        {"a": 1, "text": "hi"},
        [1.0],
        (2,),
    ),
    (
        spaces.Dict({"a": spaces.Discrete(2), "mission": spaces.Space(dtype=str)}),  # MiniGrid's
        {"a": 1, "mission": "go to the object"},
        [1.0],
        (2,),
    ),
    (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(4))), (1, 3), [1.0, 3.0], (2, 4)),
]


@pytest.mark.parametrize(("space", "value", "expected", "counts"), SPACES)
def test_observations_become_rows_of_values(space, value, expected, counts):
    found = observation_space(space, "env")
    assert list(found.flatten(value)) == expected
    assert found.counts == counts
    assert len(set(found.names)) == len(expected)


def test_actions_are_decoded():
    assert action_space(spaces.Discrete(3, start=1), "env").decode(np.array([2.0])) == 3
    box = action_space(spaces.Box(-2, 2, (1,), np.float32), "env")
    assert (box.low, box.high, box.decode(np.array([0.5])).dtype) == ((-2,), (2,), np.float32)
    assert action_space(spaces.MultiBinary(2), "env").choices == (2, 2)
    with pytest.raises(UserError, match="no bounds"):
        action_space(spaces.Box(-np.inf, np.inf, (1,)), "env")
    with pytest.raises(UserError, match="not supported"):
        action_space(spaces.Dict({"a": spaces.Discrete(2)}), "env")


def test_the_maze_needs_memory():
    maze = TMaze(gap=3)
    side = maze.reset(seed=1)[0][0]
    for _ in range(2):
        seen, reward, ended, _, _ = maze.step(0)
        assert (seen.tolist(), reward, ended) == ([0, 1, 0], 0, False)
    assert maze.step(1)[0].tolist() == [0, 0, 1]
    assert maze.step(int(side > 0))[1:3] == (1.0, True)


def test_returns_of_random_actions_agree_with_gymnasium():
    codec = environment_codec("CartPole-v1", ControlSettings())
    played = play(several("CartPole-v1", 4), codec, RandomActor(codec, 0), range(10))
    alone, lengths = gymnasium.make("CartPole-v1"), []
    rng = np.random.default_rng(1)
    for seed in range(200):
        alone.reset(seed=seed)
        steps = 1
        while not alone.step(int(rng.integers(2)))[2]:
            steps += 1
        lengths.append(steps)
    assert np.array_equal(played.returns, played.steps)
    scores = played.metrics()
    assert scores["return_low"] < scores["return"] < scores["return_high"]
    assert abs(scores["return"] - np.mean(lengths)) < 10
    assert scores["cost"] == -scores["return"]
