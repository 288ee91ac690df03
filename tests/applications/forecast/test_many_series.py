"""Forecasts of many series: every setting, live against the full sequence, no use of future values,
heads and baselines against other libraries.
"""

import json
import sys
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from torch.distributions import NegativeBinomial, StudentT

import memorycell
from memorycell import proof
from memorycell.application import catalogue, modelfile
from memorycell.applications.forecast import classic
from memorycell.applications.forecast.baselines import RollingVariance, WeightedVariance
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.head import CountForecast, StudentForecast
from memorycell.applications.forecast.history import History
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.applications.forecast.paths import inverse_cdf, run_paths
from memorycell.applications.forecast.predict import PredictOptions, predict
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.series import SERIES, VALUE, Series
from memorycell.applications.forecast.session import ForecastSession
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.windows import MIN_WINDOW_STD, RETURN_DECAY, window_statistics
from memorycell.errors import DataError, StateError, UserError
from memorycell.setting_fields import parse_settings
from memorycell.tables.clock import Clock
from memorycell.training import loop as training
from memorycell.training import metrics

FORECAST = catalogue.load("forecast")
SMALL = {"hidden": "8", "horizon": "5", "context": "24", "bptt": "24", "epochs": "2", "window": "6"}


def shops(hours: int = 260, seed: int = 0) -> pl.DataFrame:
    """Two shops of different size and kind; a promotion, known in advance, triples the visitors."""
    rng = np.random.default_rng(seed)
    rows = []
    moments = np.datetime64("2026-01-01T00:00:00", "s") + np.arange(hours) * np.timedelta64(1, "h")
    stamps = [str(moment).replace("T", " ") for moment in moments]
    for shop, kind, level in (("east", "big", 40), ("west", "small", 4)):
        promotion = (rng.random(hours) < 0.2).astype(int)
        mean = (
            level
            * (1 + 0.5 * np.sin(np.arange(hours) / 24 * 2 * np.pi))
            * np.where(promotion, 3, 1)
        )
        rows += [
            (t, shop, kind, int(n), int(p))
            for t, n, p in zip(stamps, rng.poisson(mean), promotion, strict=True)
        ]
    return pl.DataFrame(
        rows, schema=["time", "shop", "kind", "visitors", "promotion"], orient="row"
    )


def prices(days: int = 600, seed: int = 0) -> pl.DataFrame:
    """Two shares with periods of low and high volatility."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in ("A", "B"):
        wild = np.cumsum(rng.random(days) < 0.02) % 2
        price = 100 * np.exp(np.cumsum(rng.normal(size=days) * np.where(wild, 0.04, 0.005)))
        rows += [(k, name, p) for k, p in enumerate(price)]
    return pl.DataFrame(rows, schema=["day", "share", "close"], orient="row").sort(
        "day", maintain_order=True
    )


VARIANTS = {
    "each": {"each": "yes", "target": "visitors,promotion"},
    "own scaling": {
        "group": "shop",
        "target": "visitors",
        "scaling": "series",
        "inputs": "promotion",
    },
    "static": {"group": "shop", "target": "visitors", "static": "group,kind", "inputs": "none"},
    "known": {"group": "shop", "target": "visitors", "known": "promotion"},
    "level": {"group": "shop", "target": "visitors", "normal": "level", "inputs": "promotion"},
    "student": {"group": "shop", "target": "visitors", "head": "student", "inputs": "none"},
    "counts": {"group": "shop", "target": "visitors", "head": "counts", "inputs": "none"},
    "everything": {
        "group": "shop",
        "target": "visitors",
        "head": "student",
        "normal": "level",
        "known": "promotion",
        "static": "group",
        "scaling": "series",
    },
    "paths": {
        "group": "shop",
        "target": "visitors",
        "known": "promotion",
        "decode": "paths",
        "paths": "20",
    },
    "returns": {"group": "share", "returns": "close", "every": "row", "head": "student"},
}


def table(name):
    if name == "returns":
        return prices()
    return (
        shops().filter(pl.col("shop") == "east").drop("shop", "kind") if name == "each" else shops()
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(variant) -> its folder and result, trained once."""
    done = {}

    def get(name):
        if name not in done:
            folder = tmp_path_factory.mktemp("many")
            table(name).write_csv(folder / "t.csv")
            settings, how = parse_settings(
                (ForecastSettings(), FORECAST.training), {**SMALL, **VARIANTS[name]}
            )
            done[name] = (
                folder,
                training.train(
                    FORECAST, str(folder / "t.csv"), settings, how, folder / "m.safetensors"
                ),
            )
        return done[name]

    return get


def rows_of(frame, codec):
    """Rows of a stream, with the inputs known in advance."""
    rows = frame.to_dicts()
    for c in codec.known:
        for shop in set(frame["shop"]):
            mine = [row for row in rows if row["shop"] == shop]
            values = [row[c] for row in mine]
            for k, row in enumerate(mine):
                row |= {
                    f"{c}+{j}": values[min(k + j, len(mine) - 1)] for j in range(1, codec.reach + 1)
                }
    return rows


@pytest.mark.parametrize("name", VARIANTS)
def test_live_equals_the_full_sequence(trained, name):
    folder, result = trained(name)
    file = modelfile.load(folder / "m.safetensors")
    codec, frame = file.codec, table(name)
    series = codec.read(frame, "t")
    at = np.flatnonzero(series.row >= 0)
    dataset = FORECAST.reopen(None, file)
    whole = dataset.quantiles(file.model, at)
    live = ForecastSession(file)
    place = {(series.groups[series.group[k]], int(series.row[k])): j for j, k in enumerate(at)}
    names = [series.groups[k] for k in series.group[at]]
    expected = codec.unscale(whole.astype(float), names)
    height = frame.height
    worst = 0.0
    for k, row in enumerate(rows_of(frame, codec)):
        answer = live.step(row)
        for target, values in answer["forecast"].items():
            group = target if codec.each else str(row[codec.group])
            at_row = k + codec.each.index(target) * height if codec.each else k
            median = expected[place[group, at_row]][:, 0, 7]
            worst = max(
                worst,
                float(
                    np.abs(np.array(values["median"]) - median).max() / max(1, np.abs(median).max())
                ),
            )
    assert worst < (0.05 if name == "counts" else 1e-3)  # a count may fall to the next whole number
    assert set(result["metrics"]) == {"crps", "mae", "mse", "mase", "coverage_80"}
    found = proof.prove(file, dataset.sample(60), exports=())
    assert found.ok, found


@pytest.mark.parametrize("name", VARIANTS)
def test_no_forecast_depends_on_the_future(tmp_path, name):
    """Changing everything after a row changes no forecast up to it, of the model or a baseline."""
    frame = table(name)
    frame.write_csv(tmp_path / "t.csv")
    settings, _ = parse_settings(
        (ForecastSettings(), FORECAST.training), {**SMALL, **VARIANTS[name]}
    )
    dataset = prepare(str(tmp_path / "t.csv"), settings)
    model = dataset.build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    series = dataset.series
    cut = int(dataset.origins("test")[3])
    later = np.arange(len(series)) > cut
    known = [dataset.codec.columns.index(c) for c in dataset.codec.known]
    values = np.where(later[:, None], series.values * 1.7 + 3, series.values)
    values[:, known] = series.values[:, known]  # inputs known in advance
    changed = replace(series, values=values)
    x, y = dataset.codec.encode(series), dataset.codec.encode(changed)
    at = np.arange(cut + 1)
    assert np.array_equal(model.run(x, series.start, at), model.run(y, series.start, at))
    if name == "paths":
        ready, some = model.stepper(), at[-30:]
        forecasts = [
            run_paths(ready, dataset.codec, series, inputs, some, horizon=3, paths=5)
            for inputs in (x, y)
        ]
        assert np.array_equal(*forecasts)
    assert not np.array_equal(x[later], y[later])
    level = dataset.codec.scale(
        dataset.codec.fill(changed)[:, : len(dataset.codec.targets)], changed
    )
    other = History(
        level,
        y[:, : dataset.codec.dynamic_size].astype(float),
        series.start,
        dataset.history.future,
    )
    for method in dataset.baseline_models.values():
        assert np.array_equal(method.predict(dataset.history, at), method.predict(other, at))


def test_a_promotion_known_in_advance_helps(tmp_path):
    shops(900).write_csv(tmp_path / "t.csv")
    scores = {}
    for name, columns in (("blind", {"inputs": "promotion"}), ("known", {"known": "promotion"})):
        settings, how = parse_settings(
            (ForecastSettings(), FORECAST.training),
            {
                **SMALL,
                "epochs": "12",
                "hidden": "16",
                "group": "shop",
                "target": "visitors",
                "scaling": "series",
                **columns,
            },
        )
        scores[name] = training.train(
            FORECAST, str(tmp_path / "t.csv"), settings, how, tmp_path / f"{name}.safetensors"
        )
    assert scores["known"]["metrics"]["crps"] < 0.75 * scores["blind"]["metrics"]["crps"]
    file = modelfile.load(tmp_path / "known.safetensors")
    ahead = shops(905).with_columns(
        pl.when(pl.col("time") < shops(900)["time"].max())
        .then(pl.col("visitors"))
        .alias("visitors")
    )
    ahead.write_csv(tmp_path / "ahead.csv")
    record = predict(file, str(tmp_path / "ahead.csv"), PredictOptions())
    assert {f["time"] for f in record["forecasts"]} == {
        "2026-02-07 10:00:00"
    }  # the last row with visitors
    with pytest.raises(DataError, match=r"no column 'promotion\+1'"):
        ForecastSession(file).step(
            {"time": "2026-01-01", "shop": "east", "visitors": 3, "promotion": 1}
        )


# ---- heads ---------------------------------------------------------------------------------------


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


# ---- markets -------------------------------------------------------------------------------------


def test_returns_are_scored_against_variances(trained):
    folder, result = trained("returns")
    assert set(result["baselines"]) == {"constant", "rolling variance", "weighted variance"}
    assert (
        result["baselines"]["weighted variance"]["crps"] < result["baselines"]["constant"]["crps"]
    )
    assert (
        result["direction"]["low"] <= result["direction"]["accuracy"] <= result["direction"]["high"]
    )
    series = modelfile.load(folder / "m.safetensors").codec.read(prices(), "t")
    own = prices().filter(pl.col("share") == "B")["close"].to_numpy()
    np.testing.assert_allclose(series.values[series.group == 1, 0][1:], 100 * np.diff(np.log(own)))


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


def test_the_direction_is_printed(memorycell, tmp_path):
    prices(400).write_csv(tmp_path / "t.csv")
    words = [w for k, v in {**SMALL, **VARIANTS["returns"]}.items() for w in ("--set", f"{k}={v}")]
    status, stdout, stderr = memorycell(
        "train", "forecast", tmp_path / "t.csv", *words, "--out", tmp_path / "o.safetensors"
    )
    assert status == 0, stderr
    assert "up or down: right" in stdout
    status, stdout, stderr = memorycell(
        "backtest", "forecast", tmp_path / "t.csv", *words, "--folds", 2, "--json"
    )
    assert status == 0, stderr
    result = json.loads(stdout.splitlines()[-1])
    assert [fold["test"] for fold in result["folds"]] == ["0.6:0.8", "0.8:1"]
    for name, value in result["metrics"].items():
        assert value == pytest.approx(np.mean([fold["metrics"][name] for fold in result["folds"]]))
    status, stdout, _ = memorycell(
        "backtest",
        "forecast",
        tmp_path / "t.csv",
        *words,
        "--folds",
        2,
        "--no-refit",
        "--out",
        tmp_path / "folds",
    )
    assert status == 0
    assert (tmp_path / "folds" / "fold-1.safetensors").exists()
    assert not (tmp_path / "folds" / "fold-2.safetensors").exists()
    status, _, stderr = memorycell(
        "backtest", "forecast", tmp_path / "t.csv", "--out", tmp_path / "t.csv" / "x"
    )
    assert (status, stderr.count("\n")) == (2, 1)
    assert "t.csv/x: cannot be created" in stderr
    assert "0.8:1" in stdout


def test_prices_are_not_inputs_of_their_returns(trained):
    folder, _ = trained("returns")
    codec = modelfile.load(folder / "m.safetensors").codec
    assert (codec.columns, codec.row_columns) == (("return", "day"), ("close", "day"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "counts", "target": "level", "group": "shop"}, "is not a count; head=counts"),
        ({"each": "yes", "target": "visitors"}, "each=yes needs several targets"),
        ({"each": "yes", "target": "visitors,level", "group": "shop"}, "excludes group"),
        ({"returns": "level", "target": "visitors"}, "leave target out"),
        ({"returns": "change"}, "is not a price"),
        ({"target": "visitors", "static": "kind", "group": "nothing"}, "no column 'nothing'"),
        ({"target": "visitors", "static": "nothing", "group": "shop"}, "no column 'nothing'"),
        ({"target": "visitors", "known": "nothing"}, "no column 'nothing'"),
        ({"target": "visitors", "split": "10,20"}, "split=10,20: expected three numbers"),
        (
            {"target": "visitors", "split": "1000,100,100", "group": "shop"},
            "no series has more than 1100 steps",
        ),
        ({"target": "visitors", "test": "0.9"}, "test=0.9: expected two shares"),
        ({"target": "visitors", "normal": "maybe"}, "normal=maybe: expected no, level, spread"),
        ({"target": "visitors", "horizon": "400", "group": "shop"}, "too short"),
    ],
)
def test_invalid_settings(memorycell, tmp_path, settings, message):
    frame = shops().with_columns(level=pl.col("visitors") + 0.5, change=pl.col("visitors") - 10)
    frame.write_csv(tmp_path / "t.csv")
    words = [w for k, v in {**SMALL, **settings}.items() for w in ("--set", f"{k}={v}")]
    status, _, stderr = memorycell(
        "train", "forecast", tmp_path / "t.csv", *words, "--out", tmp_path / "o.safetensors"
    )
    assert status == 2
    assert message in stderr
    assert not (tmp_path / "o.safetensors").exists()


def test_the_reason_against_an_export(trained, memorycell, tmp_path):
    folder, _ = trained("student")
    status, _, stderr = memorycell(
        "export", folder / "m.safetensors", "--to", "c", "--out", tmp_path
    )
    assert status == 2
    assert "head=quantiles" in stderr


def test_each_column_is_a_series(trained):
    folder, _ = trained("each")
    codec = modelfile.load(folder / "m.safetensors").codec
    assert (codec.targets, codec.group, set(codec.own)) == (
        (VALUE,),
        SERIES,
        {"visitors", "promotion"},
    )
    live = memorycell.stream(folder / "m.safetensors")
    row = {"time": "2026-01-01 00:00:00", "visitors": 3, "promotion": 0}
    assert set(live.step(row)["forecast"]) == {"visitors", "promotion"}
    with pytest.raises(DataError, match="'visitors': 'x' is not"):
        live.step({**row, "time": "2026-01-01 01:00:00", "visitors": "x"})
    live.step({**row, "time": "2026-01-01 01:00:00"})


def test_files_with_yes_and_no(trained):
    """Earlier versions stored bool settings as text."""
    folder, _ = trained("each")
    file = modelfile.load(folder / "m.safetensors")
    assert file.info["settings"]["each"] is True
    file.info["settings"]["each"] = "yes"
    assert FORECAST.reopen(None, file).settings.each is True


def test_a_session_rejects_other_states(trained):
    row = {"time": "2026-01-01 00:00:00", "visitors": 3, "promotion": 0}
    sessions = [memorycell.stream(trained(name)[0] / "m.safetensors") for name in ("each", "level")]
    sessions[0].step(row)
    before = sessions[0].snapshot()
    for data in (sessions[1].snapshot(), before[:-1], b""):
        with pytest.raises(StateError):
            sessions[0].restore(data)
    assert sessions[0].snapshot() == before
    sessions[0].restore(before)


@pytest.mark.data
def test_ETTh1_has_the_usual_split(public_data):
    dataset = prepare("ETTh1", ForecastSettings(normal="no", linear="trained"))
    assert [len(dataset.series.groups), dataset.settings.horizon] == [7, 96]
    assert np.bincount(dataset.split[dataset.split >= 0]).tolist() == [7 * 8640, 7 * 2880, 7 * 2880]
    train = pl.read_csv(public_data / "forecast" / "ETTh1.csv")["OT"].to_numpy()[:8640]
    assert dataset.codec.own["OT"][0][0] == pytest.approx(train.mean())
    assert dataset.codec.own["OT"][1][0] == pytest.approx(train.std())
