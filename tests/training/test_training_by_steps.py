"""Training for a number of steps: the same on a slow machine."""

import numpy as np
import pandas as pd
import pytest

import memorycell
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.training.schedule import planned_epochs

SMALL = {"target": "y", "horizon": 2, "context": 8, "hidden": 4, "lanes": 2, "bptt": 10}


@pytest.fixture
def hourly():
    pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")
    rng = np.random.default_rng(0)
    hours = pd.date_range("2024-01-01", periods=400, freq="h", name="time")
    return pd.DataFrame({"y": np.sin(np.arange(400) / 4) + rng.normal(size=400)}, index=hours)


def steps_and_rates(hourly, monkeypatch, **settings):
    from memorycell.training import run

    rates = []
    chosen = run.Run._learning_rate

    def recorded(self, epoch_s):
        rates.append(chosen(self, epoch_s))
        return rates[-1]

    monkeypatch.setattr(run.Run, "_learning_rate", recorded)
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


def test_refused(hourly):
    with pytest.raises(ValueError, match="leave out epochs or steps"):
        TrainSettings(epochs=3, steps=5)
    with pytest.raises(UserError, match="leave out steps or minutes"):
        memorycell.train("forecast", hourly, progress=False, minutes=0.05, **SMALL, steps=5)
