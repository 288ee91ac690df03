"""Small policies and logged trajectories."""

import csv
import dataclasses

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from memorycell.application import catalogue
from memorycell.training.loop import train as train_model

SMALL = {
    "hidden": 16,
    "environments": 16,
    "rollout": 32,
    "rollouts": 2,
    "episodes": 20,
    "checked": 16,
    "baseline_share": 0.0,
}


@pytest.fixture(scope="session")
def application():
    """The application."""
    return catalogue.load("control")


@pytest.fixture(scope="session")
def train(application):
    """(data, out, epochs, settings) -> the result of training."""

    def run(data, out, epochs, seed=0, log=lambda line: None, lr=1e-3, **settings):
        own = application.settings(**(SMALL | settings))
        how = dataclasses.replace(
            application.training, epochs=epochs, patience=epochs, seed=seed, lr=lr
        )
        return train_model(application, data, own, how, out, log=log)

    return run


@pytest.fixture(scope="session")
def maze(tmp_path_factory, train):
    """(model file, result): a policy that has learnt a T-maze with a gap of 5."""
    out = tmp_path_factory.mktemp("maze") / "maze.safetensors"
    settings = {"gap": 5, "rollout": 24, "environments": 32, "baseline_share": 0.5}
    result = train("t-maze", out, 10, lr=5e-3, **settings)
    return out, result


@pytest.fixture(scope="session")
def pendulum(tmp_path_factory, train):
    """An untrained policy with a continuous action and a hidden velocity."""
    out = tmp_path_factory.mktemp("pendulum") / "pendulum.safetensors"
    train("Pendulum-v1", out, 1, hide="velocity", rollout=8, episodes=2, checked=2)
    return out


@pytest.fixture(scope="session")
def cue_table():
    """Writes trajectories; see `write_cue_table`."""
    return write_cue_table


def write_cue_table(path, *, words=False, episodes=60, seed=0):
    """Trajectories whose action repeats the first observation of the episode."""
    rng = np.random.default_rng(seed)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["episode", "step", "obs_cue", "obs_noise", "action"])
        for episode in range(episodes):
            cue = int(rng.integers(2))
            for step in range(8):
                noise = f"{rng.normal():.3f}"
                action = ("left", "right")[cue] if words else cue
                rows.writerow([episode, step, (2 * cue - 1) if step == 0 else 0, noise, action])
    return path
