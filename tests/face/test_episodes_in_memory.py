"""Episodes in memory: policies that imitate them, as from the same episodes in files."""

import numpy as np
import polars as pl
import pytest
import torch

import memorycell
from memorycell.applications.control.trajectories import Columns, read_trajectories
from memorycell.errors import UserError
from memorycell.face.writers import UNLABELLED, WRITERS

COLUMNS = Columns("episode", "step", None, None)
QUICK = {"epochs": 2, "hidden": 6, "baseline_share": 0.0, "progress": False}


def cue_episodes(count=12):
    """Episodes of 3 to 8 steps, whose action is the sign of the first observation."""
    rng = np.random.default_rng(0)
    episodes = []
    for k in range(count):
        observed = rng.normal(size=(3 + k % 6, 2)).astype(np.float32)
        observed[0, 0] = 2 * (k % 2) - 1
        episodes.append((observed, np.full(len(observed), k % 2)))
    return episodes


EPISODES = cue_episodes()


def as_frame(episodes):
    return pl.concat(
        pl.DataFrame(
            {
                "episode": [str(k)] * len(actions),
                "obs_a": observed[:, 0],
                "obs_b": observed[:, 1],
                "action": actions,
            }
        )
        for k, (observed, actions) in enumerate(episodes)
    )


@pytest.mark.parametrize(
    "episodes",
    [
        EPISODES,
        [list(one) for one in EPISODES],
        [(observed.tolist(), actions.tolist()) for observed, actions in EPISODES],
        [(torch.tensor(observed), torch.tensor(actions)) for observed, actions in EPISODES],
        [(observed, actions, np.ones(len(actions))) for observed, actions in EPISODES],
        [(np.r_[observed, [[9, 9]]], actions) for observed, actions in EPISODES],
    ],
    ids=["arrays", "lists of arrays", "numbers", "tensors", "rewards", "a last observation"],
)
def test_episodes_are_read_as_they_are(episodes, tmp_path):
    found = read_trajectories(str(WRITERS["episodes"](episodes, tmp_path)), COLUMNS)
    assert found.words == (("0", "1"),)
    assert len(found.episodes) == len(EPISODES)
    for one, (observed, actions) in zip(found.episodes, EPISODES, strict=True):
        np.testing.assert_array_equal(one.values, observed)
        np.testing.assert_array_equal(one.actions[:, 0], actions)


def test_floats_are_amounts_even_where_they_are_whole(tmp_path):
    episodes = [(observed, actions.astype(float)) for observed, actions in EPISODES]
    assert read_trajectories(str(WRITERS["episodes"](episodes, tmp_path)), COLUMNS).words == ()


def test_a_policy_imitates_episodes_in_memory(tmp_path):
    np.savez(
        tmp_path / "log.npz",
        observations=np.concatenate([observed for observed, _ in EPISODES]),
        actions=np.concatenate([actions for _, actions in EPISODES]),
        terminals=np.concatenate([np.arange(len(a)) == len(a) - 1 for _, a in EPISODES]),
    )
    ours = memorycell.train("control", EPISODES, **QUICK)
    of_file = memorycell.train("control", tmp_path / "log.npz", **QUICK)
    of_frame = memorycell.train("control", as_frame(EPISODES), **QUICK)
    assert ours.metrics == of_file.metrics == of_frame.metrics
    assert ours.evaluate()["metrics"] == pytest.approx(ours.metrics)
    record = ours.predict([observed for observed, _ in EPISODES])
    assert [len(one["actions"]) for one in record["episodes"]] == [len(a) for _, a in EPISODES]
    assert record["source"] == "data in memory"
    assert ours.predict(EPISODES) == record
    assert ours.predict(EPISODES[0][0])["episodes"] == record["episodes"][:1]
    frame = of_frame.predict(as_frame(EPISODES).drop("action"))
    assert frame["action"].to_list() == [a for one in record["episodes"] for a in one["actions"]]


OBSERVED, ACTIONS = EPISODES[0]


@pytest.mark.parametrize(
    ("episodes", "words"),
    [
        ([OBSERVED], r"takes a data frame with a column of episodes.*\(episode 1 is"),
        ([(OBSERVED, ACTIONS[:-1], 0, 0)], r"\(episode 1 is"),
        ([(OBSERVED, ACTIONS[:-2])], "episode 1 has 3 observations and 1 action; give an action"),
        (
            [(OBSERVED, ["left", "right", "left"])],
            "episode 1: the actions are texts or objects; give a data frame",
        ),
        ([(OBSERVED * np.nan, ACTIONS)], "episode 1, step 1: one of the observations is NaN"),
        ([(OBSERVED[:0], ACTIONS)], r"episode 1, observations: float32 \[0, 2\]"),
        ([(OBSERVED[None], ACTIONS)], r"episode 1, observations: float32 \[1, 3, 2\]"),
        ([EPISODES[0], (OBSERVED[:, :1], ACTIONS)], "episode 2 has 1 value per step in its obs"),
        ([EPISODES[0], (OBSERVED, ACTIONS * 1.0)], "episode 2 has actions of type float64"),
        (EPISODES[:2], "2 episodes; 3 or more are needed"),
        (EPISODES[:1], "1 episode; 3 or more are needed"),
        ({"a": 1}, "not 'dict'; make a data frame of its columns"),
        (iter(EPISODES), "make a list of it"),
        ([], "and this has none"),
        (pl.DataFrame({"x": [1.0]}), "data in memory: no column 'episode'"),
    ],
)
def test_episodes_that_cannot_be_used(episodes, words):
    with pytest.raises(UserError, match=words) as raised:
        memorycell.train("control", episodes, **QUICK)
    assert "\n" not in str(raised.value)


def test_observations_alone(tmp_path):
    path = UNLABELLED["episodes"](np.arange(6.0).reshape(3, 2), tmp_path)
    (one,) = read_trajectories(str(path), COLUMNS, with_actions=False).episodes
    assert one.values.tolist() == [[0, 1], [2, 3], [4, 5]]
