"""Metrics and baselines against other forms of their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorycell.applications.forecast.baseline_sets import forecast_baselines, load_baselines
from memorycell.applications.forecast.baselines import Persistence, SeasonalNaive
from memorycell.applications.forecast.head import Forecast
from memorycell.applications.forecast.history import History
from memorycell.applications.forecast.ridge import Ridge
from memorycell.models.quantiles import interval, quantile_levels
from memorycell.training import metrics


@given(
    outcomes=st.lists(st.floats(-5, 5), min_size=1, max_size=15),
    truth=st.floats(-8, 8),
)
def test_crps_is_the_energy_form(outcomes, truth):
    """CRPS = E|X - y| - E|X - X'|/2 of the equally likely outcomes (Gneiting & Raftery 2007, eq.
    21).
    """
    x = np.sort(np.array(outcomes))
    expected = np.abs(x - truth).mean() - 0.5 * np.abs(x[:, None] - x).mean()
    assert metrics.crps(np.array([truth]), x[None]) == pytest.approx(expected, abs=1e-12)


def test_unknown_values_are_excluded():
    truth = np.array([1.0, np.nan, 3.0])
    assert metrics.mae(truth, np.array([2.0, 100.0, 3.0])) == 0.5
    assert metrics.mse(truth, np.array([3.0, 100.0, 3.0])) == 2.0
    assert metrics.mase(truth, np.array([2.0, 0.0, 3.0]), 0.25) == 2.0
    assert metrics.coverage(truth, np.zeros(3), np.full(3, 2.0)) == 0.5
    assert metrics.crps(truth, np.array([[1.0], [5.0], [3.5]])) == 0.25


def test_the_loss_of_the_head_is_the_metric():
    torch.manual_seed(0)
    head = Forecast(4, 6, horizon=3, targets=2, quantiles=15)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    head.requires_grad_(False)
    params = head(torch.randn(2, 5, 4), torch.randn(2, 5, 6), torch.randn(2, 5, 2))
    quantiles = head.quantiles(params)
    assert (quantiles.diff(dim=-1) >= 0).all()  # quantiles never cross
    future = torch.randn(2, 5, 3, 2)
    future[0, 1] = torch.nan
    expected = metrics.crps(future.numpy().astype(float), quantiles.numpy().astype(float))
    assert float(head.loss(params, future)) == pytest.approx(expected, abs=1e-5)
    assert float(head.loss(params, future * torch.nan)) == 0.0


def test_an_untrained_head_forecasts_persistence():
    head = Forecast(4, 6, horizon=3, targets=2, quantiles=5)
    level = torch.randn(2, 5, 2)
    params = head(torch.randn(2, 5, 4), torch.randn(2, 5, 6), level)
    median = head.quantiles(params)[..., 2]
    torch.testing.assert_close(median, level[:, :, None].expand(2, 5, 3, 2))


def test_levels_and_interval():
    assert quantile_levels(2) == [0.25, 0.75]
    low, median, high = interval(np.array(quantile_levels(15)))
    assert (low, median, high) == pytest.approx((0.1, 0.5, 0.9))


def history(values: np.ndarray, horizon: int) -> History:
    size = len(values)
    future = np.full((size, horizon, 1), np.nan)
    for k in range(1, horizon + 1):
        future[:-k, k - 1, 0] = values[k:]
    return History(values[:, None], values[:, None], np.zeros(size, int), future)


def test_persistence_and_season():
    values = np.arange(40.0) % 7
    h = history(values, 10)
    at = np.array([20, 25])
    assert (Persistence().point(h, at)[:, :, 0] == values[at][:, None]).all()
    assert (SeasonalNaive(7).point(h, at)[..., 0] == h.future[at, :, 0]).all()
    assert (
        SeasonalNaive(7).point(h, np.array([3]))[0, :, 0] == [3, 3, 3, 0, 1, 2, 3, 3, 3, 3]
    ).all()


def test_ridge_recovers_an_autoregression():
    """On y_t = 0.6 y_{t-1} - 0.3 y_{t-2} + noise the forecasts are optimal and the errors are the
    noise.
    """
    rng = np.random.default_rng(0)
    y = np.zeros(20_000)
    noise = rng.normal(size=len(y))
    for t in range(2, len(y)):
        y[t] = 0.6 * y[t - 1] - 0.3 * y[t - 2] + noise[t]
    h = history(y, 2)
    train = np.arange(len(y)) < 12_000
    valid = (np.arange(len(y)) >= 12_000) & (np.arange(len(y)) < 16_000)
    ridge = Ridge((1, 2, 4))
    ridge.fit(h, train & (np.arange(len(y)) < 11_990), valid, 15)
    at = np.arange(16_000, 19_990)
    best = 0.6 * y[at] - 0.3 * y[at - 1]
    point = ridge.point(h, at)
    # Five weights, each with a standard error of about 1/sqrt(12,000) = 0.009: 0.025 together; the
    # limit is twice that.
    assert np.sqrt(np.mean((point[:, 0, 0] - best) ** 2)) < 0.05
    assert np.sqrt(np.mean((point[:, 1, 0] - (0.6 * best - 0.3 * y[at])) ** 2)) < 0.05
    quantiles = ridge.predict(h, at)
    low, _, high = interval(quantiles)
    assert abs(metrics.coverage(h.future[at], low, high) - 0.8) < 0.02


def test_baselines_are_restored_from_their_arrays():
    rng = np.random.default_rng(0)
    h = history(rng.normal(size=400), 3)
    train, valid = np.arange(400) < 250, (np.arange(400) >= 250) & (np.arange(400) < 300)
    methods = forecast_baselines(3, 5, 12)
    for method in methods.values():
        method.fit(h, train, valid, 5)
    arrays = {
        f"{name}.{key}": value
        for name, method in methods.items()
        for key, value in method.arrays().items()
    }
    at = np.arange(320, 380)
    for name, method in load_baselines(arrays, 5).items():
        assert np.array_equal(method.predict(h, at), methods[name].predict(h, at))
    assert set(forecast_baselines(3, 1, 12)) == {"persistence", "ridge"}
