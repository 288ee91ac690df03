"""Heads, windows and paths of forecasts, and the methods they are compared with, against
their definitions and other libraries.
"""

import json
import sys
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from shop_tables import SMALL, shops
from torch.distributions import NegativeBinomial, StudentT

from memorycell.applications.forecast import classic
from memorycell.applications.forecast.baselines import RollingVariance, WeightedVariance
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.head import CountForecast, StudentForecast
from memorycell.applications.forecast.history import History
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.applications.forecast.paths import inverse_cdf, run_paths
from memorycell.applications.forecast.series import Series
from memorycell.applications.forecast.windows import MIN_WINDOW_STD, RETURN_DECAY, window_statistics
from memorycell.errors import UserError
from memorycell.tables.clock import Clock
from memorycell.training import metrics


def params_of(head, unit=None):
    torch.manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    hidden, window, level = torch.randn(2, 7, 4), torch.randn(2, 7, 6), torch.randn(2, 7, 2)
    return head(hidden, window, level, unit)


@pytest.mark.parametrize("unit", [None, 2.5])
def test_students_t(unit):
    head = StudentForecast(4, 6, horizon=3, targets=2, quantiles=15)
    params = params_of(head, None if unit is None else torch.full((2, 7, 2), unit))
    future = torch.randn(2, 7, 3, 2)
    future[0, 0] = torch.nan
    law = StudentT(
        head.degrees_of_freedom, params.location, params.scale[..., 1].exp() * (unit or 1.0)
    )
    expected = -law.log_prob(future.nan_to_num())[~future.isnan()].mean()
    torch.testing.assert_close(head.loss(params, future), expected)
    quantiles = head.quantiles(params).numpy()
    levels = (np.arange(15) + 0.5) / 15
    v, scale = (
        head.degrees_of_freedom.detach().numpy()[..., None],
        (params.scale[..., 1].exp() * (unit or 1.0)).detach().numpy(),
    )
    share = stats.t.cdf(
        (quantiles - params.location.detach().numpy()[..., None]) / scale[..., None], v
    )
    np.testing.assert_allclose(share, np.broadcast_to(levels, share.shape), atol=1e-4)


def test_negative_binomial():
    head = CountForecast(4, 6, horizon=3, targets=2, quantiles=15, unit=20.0)
    params = params_of(head)
    future = torch.randint(0, 60, (2, 7, 3, 2)) / 20.0
    mean, r = 20 * torch.nn.functional.softplus(params.location) + 1e-6, params.scale[..., 1].exp()
    law = NegativeBinomial(total_count=r, probs=mean / (mean + r))
    torch.testing.assert_close(
        head.loss(params, future), -law.log_prob((future * 20).round()).mean()
    )
    counts = head.quantiles(params).numpy() * 20
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
    below = stats.nbinom.cdf(
        counts.round() - 1,
        r.detach().numpy()[..., None],
        (r / (r + mean)).detach().numpy()[..., None],
    )
    levels = (np.arange(15) + 0.5) / 15
    assert (below <= levels + 1e-6).all()


def test_windows_are_normalised_by_the_observed_steps():
    rng = np.random.default_rng(0)
    window, seen = rng.normal(3, 2, (4, 9, 2)), (rng.random((4, 9, 1)) < 0.7).astype(float)
    mean, unit = window_statistics(window, seen, None)
    for row in range(4):
        kept = window[row, seen[row, :, 0] == 1]
        np.testing.assert_allclose(mean[row], kept.mean(0), atol=1e-5)
        np.testing.assert_allclose(unit[row], np.sqrt(kept.var(0) + MIN_WINDOW_STD**2), atol=1e-4)
    fade = RETURN_DECAY ** np.arange(8, -1, -1.0)[:, None]
    mean, unit = window_statistics(window, np.ones((4, 9, 1)), fade)
    assert not mean.any()
    np.testing.assert_allclose(
        unit**2 - MIN_WINDOW_STD**2, np.average(window**2, axis=1, weights=fade[:, 0]), rtol=1e-5
    )


def test_paths_of_a_known_process():
    """y' = 0.8 y + 0.3 e: after k steps mean 0.8^k y, variance 0.09 (1 - 0.64^k) / 0.36."""
    codec = SeriesCodec(("y",), (), Clock("row"), 1, mean=(0.0,), std=(1.0,), change=(0.5,))
    size = len(codec.features)
    model = Forecaster(
        ForecasterConfig(
            input_size=size, hidden_size=3, horizon=1, window=1, head="student", quantiles=101
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.head.linear.weight[0, 0] = -0.2  # added to the last value
        model.head.recurrent.bias[1] = np.log(0.3)
        model.head.tails.fill_(1000.0)  # nearly normal
    series = Series(
        np.arange(4),
        np.array([[0.0], [1.0], [-2.0], [1.5]]),
        np.arange(4),
        np.zeros(4, int),
        np.zeros(4, int),
        [""],
    )
    found = run_paths(
        model.stepper(),
        codec,
        series,
        codec.encode(series),
        np.array([3, 2]),
        horizon=4,
        paths=4000,
    )
    for row, y in enumerate((1.5, -2.0)):
        for k in range(1, 5):
            law = stats.norm(0.8**k * y, np.sqrt(0.09 * (1 - 0.64**k) / 0.36))
            levels = (np.arange(101) + 0.5) / 101
            np.testing.assert_allclose(found[row, k - 1, 0], law.ppf(levels), atol=0.08)


def test_samples_have_their_distribution():
    rng = np.random.default_rng(0)
    levels = (np.arange(15) + 0.5) / 15
    quantiles = np.tile(stats.uniform.ppf(levels), (40_000, 1, 1))
    assert (
        stats.kstest(inverse_cdf(quantiles, rng.random((40_000, 1)))[:, 0], "uniform").pvalue > 0.01
    )


def test_classic_methods_are_compared(memorycell, tmp_path, monkeypatch):
    shops().filter(pl.col("shop") == "east").write_csv(tmp_path / "t.csv")
    words = [
        w
        for k, v in {
            **SMALL,
            "target": "visitors",
            "inputs": "promotion",
            "classic": "ets,theta",
            "origins": "3",
        }.items()
        for w in ("--set", f"{k}={v}")
    ]
    status, stdout, stderr = memorycell(
        "train",
        "forecast",
        tmp_path / "t.csv",
        *words,
        "--json",
        "--out",
        tmp_path / "o.safetensors",
    )
    assert status == 0, stderr
    scores = json.loads(stdout.splitlines()[-1])["classic"]
    assert scores["origins"] == 3
    assert {"memorycell", "ets", "theta"} < set(scores)
    assert all(
        np.isfinite(list(scores[name].values())).all() for name in ("memorycell", "ets", "theta")
    )
    monkeypatch.setattr(classic, "INSTALLED", False)  # evaluated on a machine without them
    status, stdout, stderr = memorycell("evaluate", tmp_path / "o.safetensors", "--json")
    assert status == 0, stderr
    assert "ets,theta left out: pip install" in stderr
    assert "classic" not in json.loads(stdout.splitlines()[-1])


def test_a_classic_method_on_a_random_walk():
    y = np.random.default_rng(0).normal(size=400).cumsum()
    found = classic.forecast("ets", y, horizon=3, season=1, quantiles=15)
    np.testing.assert_allclose(found[:, 7], y[-1], atol=0.6)  # the expected value is the last one
    width = (found[:, 14] - found[:, 0]) / 2 / stats.norm.ppf(29 / 30)
    np.testing.assert_allclose(
        width, np.sqrt([1, 2, 3]), rtol=0.25
    )  # the standard deviation grows as the square root


def test_an_unknown_classic_method(memorycell, tmp_path):
    status, _, stderr = memorycell(
        "train", "forecast", tmp_path / "t.csv", "--set", "classic=magic"
    )
    assert status == 2
    assert "classic=magic: expected ets, arima, theta" in stderr


def test_a_missing_package_is_reported_before_training(memorycell, tmp_path, monkeypatch):
    shops().write_csv(tmp_path / "t.csv")
    monkeypatch.setattr(classic, "INSTALLED", False)
    status, _, stderr = memorycell(
        "train",
        "forecast",
        tmp_path / "t.csv",
        "--set",
        "classic=ets",
        "--out",
        tmp_path / "o.safetensors",
    )
    assert status == 2
    assert "pip install 'memorycell[classic]'" in stderr
    assert not (tmp_path / "o").exists()


def test_a_missing_package_is_reported_where_it_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(UserError, match="classic=ets needs statsforecast: pip install"):
        classic.forecast("ets", np.arange(40.0), horizon=3, season=1, quantiles=15)


@pytest.mark.parametrize("method", [RollingVariance(), WeightedVariance()])
def test_variances_by_their_definition(method):
    r = np.random.default_rng(0).normal(size=(40, 1))
    history = History(r, r, np.where(np.arange(40) < 25, 0, 25), np.zeros((40, 1, 1)))
    if isinstance(method, WeightedVariance):
        expected = (r[:25, 0] ** 2)[::-1] @ (0.1 * 0.9 ** np.arange(25)) + 0.9**25
        assert method.sigma(history, 0.9)[24, 0] == pytest.approx(np.sqrt(expected))
    else:
        assert method.sigma(history, 10)[24, 0] == pytest.approx(np.sqrt((r[15:25] ** 2).mean()))
        assert method.sigma(history, 10)[27, 0] == pytest.approx(np.sqrt((r[25:28] ** 2).mean()))


def test_the_interval_of_the_direction_is_wilsons():
    truth = np.array([1.0] * 60 + [-1.0] * 40 + [0.0, np.nan])
    found = metrics.directional_accuracy(truth, np.ones(102))
    assert (found["accuracy"], found["count"]) == (0.6, 100)
    z = NormalDist().inv_cdf(0.975)
    for p in (found["low"], found["high"]):
        assert abs(0.6 - p) / np.sqrt(p * (1 - p) / 100) == pytest.approx(z, rel=1e-3)
