"""Forecasts of series in which no window of `horizon` steps is complete."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from memorycell.application import catalogue
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.history import FutureValues, History
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.ridge import Ridge
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.training import backtest

SMALL = ForecastSettings(hidden=4, bptt=24)


def hourly_by_day() -> pl.DataFrame:
    """Readings from 8 to 18 h: no 24 hours are complete, and three lead times are never known."""
    hours = np.arange(50 * 24)
    hours = hours[(hours % 24 >= 8) & (hours % 24 <= 18)]
    rng = np.random.default_rng(1)
    load = 100 + 20 * np.sin(hours / 24 * 2 * np.pi) + rng.normal(size=len(hours))
    stamps = np.datetime64("2024-03-01", "us") + hours * np.timedelta64(1, "h")
    return pl.DataFrame({"time": stamps, "load": load})


def with_random_gaps() -> pl.DataFrame:
    rng = np.random.default_rng(2)
    hours = np.flatnonzero(rng.random(900) > 0.12)
    stamps = np.datetime64("2024-03-01", "us") + hours * np.timedelta64(1, "h")
    return pl.DataFrame({"time": stamps, "load": np.sin(hours / 4) + rng.normal(size=len(hours))})


@pytest.mark.parametrize("table", [hourly_by_day, with_random_gaps])
@pytest.mark.parametrize("every", [None, "1h"])
def test_baselines_are_fitted_on_what_is_known(table, every, tmp_path):
    table().write_parquet(tmp_path / "t.parquet")
    settings = replace(SMALL, every=every, horizon=24, context=26, calendar="none")
    dataset = prepare(str(tmp_path / "t.parquet"), settings)
    scores = dataset.baselines("test")
    assert set(scores) == {"persistence", "seasonal naive", "ridge"}
    assert all(np.isfinite(value) for each in scores.values() for value in each.values())
    assert scores["ridge"]["mae"] < 0.9 * scores["persistence"]["mae"]
    for model in dataset.baseline_models.values():
        assert all(np.isfinite(array).all() for array in model.arrays().values())


def test_backtest_of_readings_by_day(tmp_path):
    hourly_by_day().write_parquet(tmp_path / "t.parquet")
    result = backtest.backtest(
        catalogue.load("forecast"),
        str(tmp_path / "t.parquet"),
        replace(SMALL, every="1h", horizon=24, context=26),
        TrainSettings(epochs=1),
        tmp_path,
        folds=2,
        start=0.6,
        refit=True,
    )
    assert np.isfinite(result["metrics"]["crps"])
    assert np.isfinite(result["baselines"]["ridge"]["crps"])


def test_ridge_per_lead_time_equals_ridge_on_the_rows_of_that_lead_time():
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=(400, 1)), 0)
    sparse = np.where(rng.random((400, 1)) < 0.5, np.nan, y)
    level = np.zeros((400, 1))
    start = np.zeros(400, int)
    future = FutureValues(sparse, start, 6)
    train, valid = np.arange(400) < 300, np.arange(400) >= 300
    ridge = Ridge((3,))
    ridge.fit(History(level, y, start, future), train, valid, 5)
    at = np.flatnonzero(train)
    x = np.stack([np.where(at >= k, y[np.maximum(at - k, 0), 0], 0) for k in range(3)], 1)
    x = np.concatenate([x, np.ones((300, 1))], 1)
    errors, solutions = [], []
    for penalty in (1.0, 10.0, 100.0, 1000.0, 10_000.0):
        penalties = np.diag([penalty] * 3 + [1e-9])
        weights = np.zeros((4, 6))
        for lead in range(6):
            known = np.flatnonzero(~np.isnan(future[at][:, lead, 0]))
            a, b = x[known], future[at][known, lead, 0]
            weights[:, lead] = np.linalg.solve(a.T @ a + penalties, a.T @ b)
        held = np.flatnonzero(valid)
        rows = np.stack([y[held - k, 0] for k in range(3)] + [np.ones(len(held))], 1)
        errors.append(np.nanmean(np.abs(future[held][:, :, 0] - rows @ weights)))
        solutions.append(weights)
    np.testing.assert_allclose(ridge.weights[..., 0], solutions[int(np.argmin(errors))], rtol=1e-8)


def test_the_future_ends_with_its_run_and_is_read_lazily():
    rng = np.random.default_rng(3)
    values = np.where(rng.random((60, 2)) < 0.7, np.nan, rng.normal(size=(60, 2)))
    run = np.repeat([0, 1, 2], [13, 4, 43])
    future = FutureValues(values, run, 5)
    expected = np.full((60, 5, 2), np.nan)
    for t in range(60):
        for k in range(1, 6):
            if t + k < 60 and run[t + k] == run[t]:
                expected[t, k - 1] = values[t + k]
    at = rng.permutation(60)
    np.testing.assert_array_equal(future[at], expected[at])
    np.testing.assert_array_equal(future.any_known, ~np.isnan(expected).all((1, 2)))
