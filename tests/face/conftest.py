"""For the tests of the Python face: a frame of hourly readings, and a forecaster trained on it."""

import numpy as np
import pandas as pd
import pytest
from quick import QUICK

import memorycell


@pytest.fixture(scope="session")
def load_frame():
    hours = pd.date_range("2024-01-01", periods=400, freq="h", name="time")
    rng = np.random.default_rng(0)
    load = 10 + 3 * np.sin(np.arange(400) * 2 * np.pi / 24) + 0.3 * rng.normal(size=400)
    return pd.DataFrame({"load": load}, index=hours)


@pytest.fixture(scope="session")
def forecaster(load_frame):
    return memorycell.train("forecast", load_frame, target="load", horizon=4, **QUICK)
