"""Forecasts of many series: every setting, live against the full sequence, no use of future
values.
"""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from shop_tables import SMALL, prices, shops

import memorycell
from memorycell import proof
from memorycell.application import catalogue, modelfile
from memorycell.applications.forecast.history import History
from memorycell.applications.forecast.paths import run_paths
from memorycell.applications.forecast.predict import PredictOptions, predict
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.series import SERIES, VALUE
from memorycell.applications.forecast.session import ForecastSession
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError, StateError
from memorycell.setting_fields import parse_settings
from memorycell.training import loop as training

FORECAST = catalogue.load("forecast")


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
