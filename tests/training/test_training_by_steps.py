"""Training for a number of steps: the same on a slow machine."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import memorycell
from memorycell.application import catalogue
from memorycell.application.train_settings import TrainSettings
from memorycell.training.schedule import planned_epochs, share_done

SMALL = {"target": "y", "horizon": 2, "context": 8, "hidden": 4, "lanes": 2, "bptt": 10}


@pytest.fixture
def hourly():
    pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")
    rng = np.random.default_rng(0)
    hours = pd.date_range("2024-01-01", periods=400, freq="h", name="time")
    return pd.DataFrame({"y": np.sin(np.arange(400) / 4) + rng.normal(size=400)}, index=hours)


def recorded_rates(monkeypatch):
    """The learning rate of every update from now on."""
    from memorycell.training import run

    rates = []
    chosen = run.Run._learning_rate

    def recorded(self, epoch_s):
        rates.append(chosen(self, epoch_s))
        return rates[-1]

    monkeypatch.setattr(run.Run, "_learning_rate", recorded)
    return rates


def steps_and_rates(hourly, monkeypatch, **settings):
    rates = recorded_rates(monkeypatch)
    model = memorycell.train("forecast", hourly, progress=False, **SMALL, **settings)
    return len(rates), rates, len(model.history)


def test_steps_end_a_run(hourly, monkeypatch):
    """14 batches are an epoch: 280 steps in 2 lanes of 10."""
    steps, rates, epochs = steps_and_rates(hourly, monkeypatch, steps=38)
    assert (steps, epochs) == (38, 3)
    assert rates[-1] < 0.02 * max(rates)  # the cosine ends with the last step
    steps, rates, epochs = steps_and_rates(hourly, monkeypatch, steps=5)
    assert (steps, epochs) == (5, 1)


def test_planned_epochs():
    about = {"epochs_done": 1, "seconds": 1.0, "budget_s": None}
    assert planned_epochs(14, **about, steps=28) == 2
    assert planned_epochs(14, **about, steps=29) == 3
    assert planned_epochs(14, **about, steps=5) == 1
    assert planned_epochs(14, **about, steps=28, steps_done=13) == 3  # a short epoch
    assert planned_epochs(14, **{**about, "budget_s": 9.0}, steps=28) == 2  # the time is a limit


def test_epochs_and_steps_are_refused():
    with pytest.raises(ValueError, match="leave out epochs or steps"):
        TrainSettings(epochs=3, steps=5)


class Clock:
    """A clock on which every look at it takes `tick_s`."""

    def __init__(self, monkeypatch, tick_s):
        self.now, self.tick_s = 0.0, tick_s
        for module in ("run", "loop"):
            monkeypatch.setattr(f"memorycell.training.{module}.time", self)

    def monotonic(self):
        self.now += self.tick_s
        return self.now


def limited_run(hourly, monkeypatch, tick_s, capsys):
    """(updates, learning rates, the result, what was logged) of 150 updates in three minutes."""
    with monkeypatch.context() as patch:
        Clock(patch, tick_s)
        rates = recorded_rates(patch)
        model = memorycell.train("forecast", hourly, minutes=3, steps=150, patience=99, **SMALL)
    return len(rates), rates, model.result, capsys.readouterr().err


def test_minutes_limit_steps(hourly, monkeypatch, capsys):
    steps, rates, result, log = limited_run(hourly, monkeypatch, 0.05, capsys)
    assert (steps, result["updates"], result["ended_by"]) == (150, 150, "updates")
    assert "trains for 150 updates, at most 3 minutes in all" in log
    slower = limited_run(hourly, monkeypatch, 0.2, capsys)
    assert slower[1] == rates  # the speed of a machine that is fast enough has no effect
    assert slower[2]["metrics"] == result["metrics"]

    steps, rates, result, log = limited_run(hourly, monkeypatch, 1.0, capsys)
    assert 50 < steps < 125
    assert (result["updates"], result["ended_by"]) == (steps, "minutes")
    assert rates[-1] < 0.05 * max(rates)  # the cosine ends with the limit
    assert f"the limit of 3 minutes ended training after {steps} of 150 updates" in log


def test_a_task_may_have_a_number_of_updates(hourly, monkeypatch):
    own = replace(catalogue.load("forecast"), steps=20, minutes=5.0)
    monkeypatch.setattr(catalogue, "load", lambda task: own)

    assert end_of(hourly) == (20, "updates")
    assert end_of(hourly, steps=5) == (5, "updates")
    assert end_of(hourly, epochs=1) == (14, "epochs")
    assert end_of(hourly, minutes=0.02, patience=9999)[1] == "minutes"


def end_of(hourly, progress=False, **settings):
    """(updates, what ended them) of a run."""
    result = memorycell.train("forecast", hourly, progress=progress, **SMALL, **settings).result
    return result["updates"], result["ended_by"]


def test_what_ended_a_run_is_said(hourly, capsys):
    assert end_of(hourly, epochs=2) == (28, "epochs")
    updates, by = end_of(hourly, minutes=0.02, patience=9999)
    assert updates >= 1
    assert by == "minutes"
    updates, by = end_of(hourly, steps=2000, patience=1, lr=0.3, progress=True)
    assert updates < 2000
    assert by == "patience"
    ended = re.search(
        r"ended: no better crps .* last 1 epochs; .* of epoch (\d+)", capsys.readouterr().err
    )
    assert int(ended[1]) == updates // 14 - 1


def test_share_done():
    assert share_done(30, 5.0, steps=100, budget_s=None) == 0.3
    assert share_done(30, 5.0, steps=None, budget_s=20.0) == 0.25
    assert share_done(30, 12.0, steps=100, budget_s=20.0) == 0.3
    assert share_done(30, 16.0, steps=100, budget_s=20.0) == pytest.approx(0.6)
    assert share_done(30, 5.0, steps=100, budget_s=-1.0) == 0.3  # reading took the time
    assert share_done(30, 5.0, steps=None, budget_s=-1.0) == 0.0
