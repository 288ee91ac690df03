"""Forecasting: public data, no use of future values, disjoint splits, evaluation as in a stream."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.reopening import reopen
from memorycell.applications.forecast.report import evaluation_page
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError
from memorycell.setting_fields import parse_settings
from memorycell.tables.table import read_table
from memorycell.training import loop as training

SMALL = ForecastSettings(target="y", hidden=8, horizon=6, context=24, bptt=24)
QUICK = TrainSettings(epochs=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of a daily wave: its folder and result."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(3)
    hours = np.arange(900)
    y = 20 + 5 * np.sin(2 * np.pi * hours / 24) + rng.normal(size=900)
    stamps = np.datetime64("2024-01-01T00:00:00", "us") + hours * np.timedelta64(1, "h")
    pl.DataFrame({"time": stamps, "y": y}).write_parquet(folder / "wave.parquet")
    result = training.train(
        catalogue.load("forecast"),
        str(folder / "wave.parquet"),
        SMALL,
        TrainSettings(),
        folder / "m.safetensors",
    )
    return folder, result


def test_a_seasonal_wave_is_learned(trained):
    _, result = trained
    assert result["metrics"]["crps"] < 0.7 * result["baselines"]["persistence"]["crps"]
    assert 0.6 < result["metrics"]["coverage_80"] < 0.95


def test_evaluate_repeats_what_training_reported(trained):
    folder, result = trained
    file = modelfile.load(folder / "m.safetensors")
    again = training.evaluate(
        catalogue.load("forecast"), file, folder / "m.safetensors", None, lambda line: None
    )
    assert again["metrics"] == pytest.approx(result["metrics"])
    for name, values in result["baselines"].items():
        assert again["baselines"][name] == pytest.approx(values)


def test_other_data_are_scored_only_outside_the_training_period(trained, tmp_path):
    folder, _ = trained
    file = modelfile.load(folder / "m.safetensors")
    frame = pl.read_parquet(folder / "wave.parquet")
    later = frame.with_columns(pl.col("time") + pl.duration(hours=900))
    pl.concat([frame, later]).write_parquet(tmp_path / "both.parquet")
    dataset = reopen(str(tmp_path / "both.parquet"), file)
    scored = dataset.series.time[dataset.origins("test")]
    assert scored.min() == file.info["split"]["test"][0]
    assert len(scored) == 900 + 135 - 1
    frame[:400].write_parquet(tmp_path / "early.parquet")
    with pytest.raises(DataError, match="nothing to evaluate"):
        reopen(str(tmp_path / "early.parquet"), file)


def test_no_forecast_depends_on_the_future(hourly):
    """Change everything after a step: no forecast up to it changes, the model's or a baseline's,
    nor does the scaling.
    """
    dataset = prepare(str(hourly), SMALL)
    model = dataset.build()
    torch.nn.init.normal_(model.head.recurrent.weight)
    cut = 420  # in the test split
    series = dataset.series
    changed = replace(
        series,
        values=np.where(
            np.arange(len(series))[:, None] > cut, series.values * -3 + 100, series.values
        ),
    )
    x, y = dataset.codec.encode(series), dataset.codec.encode(changed)
    at = np.arange(cut + 1)
    assert np.array_equal(model.run(x, series.start, at), model.run(y, series.start, at))
    assert not np.array_equal(x[cut + 1], y[cut + 1])
    level = dataset.codec.scale(dataset.codec.fill(changed)[:, :1], changed)
    history = replace(dataset.history, level=level, inputs=y.astype(np.float64))
    for method in dataset.baseline_models.values():
        assert np.array_equal(method.point(dataset.history, at), method.point(history, at))


def test_splits_are_by_time_and_no_target_crosses_them(hourly):
    dataset = prepare(str(hourly), SMALL)
    assert (np.diff(dataset.split) >= 0).all()
    sizes = np.bincount(dataset.split)
    assert sizes.tolist() == [350, 75, 75]
    for name in ("train", "valid"):
        last = dataset.origins(name).max()
        known = ~np.isnan(dataset.history.future[np.array([last])][0, :, 0])
        targets = last + 1 + np.flatnonzero(known)
        assert (dataset.split[targets] == dataset.split[last]).all()


def test_scaling_is_fitted_on_the_training_split(hourly):
    dataset = prepare(str(hourly), SMALL)
    values = dataset.series.values[dataset.split == 0, 0]
    assert dataset.codec.mean[0] == pytest.approx(values.mean())
    assert dataset.codec.std[0] == pytest.approx(values.std())


def test_running_in_chunks_equals_the_full_sequence(hourly, monkeypatch):
    dataset = prepare(str(hourly), SMALL)
    model = dataset.build()
    torch.nn.init.normal_(model.head.recurrent.weight)
    start = dataset.series.start.copy()
    start[100:] = 100
    start[130:] = 130
    at = np.arange(len(start))
    whole = model.run(dataset.inputs, start, at)
    monkeypatch.setattr("memorycell.applications.forecast.model.MAX_CHUNK_STEPS", 37)
    monkeypatch.setattr("memorycell.applications.forecast.model.MAX_SEGMENTS", 2)
    pieces = model.run(dataset.inputs, start, at)
    assert np.abs(whole - pieces).max() < 1e-5
    reset = torch.from_numpy(start == at)[None]
    with torch.inference_mode():
        once, _ = model(torch.from_numpy(dataset.inputs)[None], reset=reset)
    assert np.abs(once[0].numpy() - whole).max() < 1e-5


@pytest.mark.parametrize("cell", ["gru", "rnn", "peephole", "coupled", "layernorm"])
def test_every_cell_trains(cell, hourly, tmp_path):
    settings = replace(SMALL, cell=cell, zoneout=0.05, weight_drop=0.1, layers=2, hidden=4)
    result = training.train(
        catalogue.load("forecast"),
        str(hourly),
        settings,
        TrainSettings(epochs=1),
        tmp_path / "m.safetensors",
    )
    assert np.isfinite(result["metrics"]["crps"])
    assert modelfile.load(tmp_path / "m.safetensors").model.config.cell == cell


def test_several_targets_and_groups(hourly, tmp_path):
    frame = read_table(hourly)
    both = pl.concat([frame.with_columns(g=pl.lit(g)) for g in ("a", "b")])
    both.write_csv(tmp_path / "both.csv")
    settings = replace(SMALL, target="y,x", group="g")
    result = training.train(
        catalogue.load("forecast"),
        str(tmp_path / "both.csv"),
        settings,
        QUICK,
        tmp_path / "m.safetensors",
    )
    assert result["metrics"]["crps"] < result["baselines"]["persistence"]["crps"] * 1.5
    file = modelfile.load(tmp_path / "m.safetensors")
    assert file.codec.targets == ("y", "x")
    assert file.model.config.targets == 2


def test_groups_without_a_clock_are_evaluated_on_their_own_test_splits(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{g},{np.sin(k / 3) + rng.normal() / 9:.4f}" for g in "ab" for k in range(300)]
    (tmp_path / "g.csv").write_text("g,y\n" + "\n".join(rows))
    settings = replace(SMALL, group="g")
    training.train(
        catalogue.load("forecast"),
        str(tmp_path / "g.csv"),
        settings,
        TrainSettings(epochs=1),
        tmp_path / "m.safetensors",
    )
    dataset = reopen(None, modelfile.load(tmp_path / "m.safetensors"))
    at = dataset.origins("test")
    assert (at % 300 >= 255).all()
    assert set(dataset.series.group[at]) == {0, 1}


def test_months_and_rows_without_a_clock(tmp_path):
    lines = ["month,y"] + [
        f"{2000 + k // 12}-{k % 12 + 1:02d}-01,{100 + 10 * np.sin(k * np.pi / 6) + k % 5}"
        for k in range(160)
    ]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    dataset = prepare(str(tmp_path / "m.csv"), ForecastSettings(hidden=4))
    assert (dataset.settings.horizon, dataset.settings.season) == (12, 12)
    (tmp_path / "r.csv").write_text("y\n" + "\n".join(line.split(",")[1] for line in lines[1:]))
    dataset = prepare(str(tmp_path / "r.csv"), ForecastSettings(hidden=4))
    assert set(dataset.baseline_models) == {"persistence", "ridge"}


@pytest.mark.data
def test_glucose_beats_every_baseline_in_one_short_run(glucose, tmp_path):
    """A tenth of the demo's training beats ridge on the held-out weeks."""
    how = replace(catalogue.load("forecast").training, epochs=7)
    settings = ForecastSettings(hidden=64)
    result = training.train(
        catalogue.load("forecast"), "glucose", settings, how, tmp_path / "g.safetensors"
    )
    assert result["skill"] > 0.04
    assert result["metrics"]["mae"] < result["baselines"]["ridge"]["mae"]
    assert result["baselines"]["ridge"]["crps"] < result["baselines"]["persistence"]["crps"]


@pytest.mark.data
def test_etth1_reads_from_the_folder_of_public_data(public_data):
    dataset = prepare("ETTh1", ForecastSettings(horizon=6, context=12))
    assert len(dataset.series) == 7 * 17_420
    assert dataset.series.groups[-1] == "OT"
    assert dataset.codec.inputs == ()


def test_the_day_of_the_week_is_an_input_if_it_helps(tmp_path):
    def codec(sundays: float, **settings):
        hours = np.arange(24 * 7 * 20)
        stamps = np.datetime64("2024-01-01T00:00:00", "us") + hours * np.timedelta64(1, "h")
        y = np.random.default_rng(0).normal(size=len(hours)) + sundays * (hours // 24 % 7 == 6)
        pl.DataFrame({"time": stamps, "y": y}).write_parquet(tmp_path / "t.parquet")
        found = prepare(str(tmp_path / "t.parquet"), replace(SMALL, **settings)).codec
        assert len(found.features) == 3 + 4 * len(found.calendar)
        assert {f"sin of {name}" for name in found.calendar} <= set(found.features)
        return found

    weekly = codec(5.0)
    assert list(weekly.calendar) == ["day", "week"]
    assert list(codec(0.0).calendar) == ["day"]
    assert list(codec(0.0, calendar="day, week").calendar) == ["day", "week"]
    assert not codec(5.0, calendar="none").calendar
    with pytest.raises(DataError, match=r"calendar=year: with steps of 1 h, expected day, week"):
        codec(0.0, calendar="year")
    before = {
        k: v for k, v in weekly.to_json().items() if k != "cycles"
    }  # old files, whose inputs are all cycles
    assert SeriesCodec.from_json(before).features == weekly.features


def test_day_and_week_are_inputs_of_hourly_returns(hourly):
    dataset = prepare(
        str(hourly), ForecastSettings(returns="y", inputs="none", horizon=1, context=24, hidden=4)
    )
    assert list(dataset.codec.calendar) == ["day", "week"]  # returns have no ridge baseline
    assert set(dataset.baseline_models) == {"constant", "rolling variance", "weighted variance"}


def test_none_on_the_command_line(hourly):
    settings, _ = parse_settings(
        (SMALL, QUICK), {"inputs": "none", "calendar": "none", "window": "none"}
    )
    assert settings.window is None
    assert prepare(str(hourly), settings).codec.columns == ("y",)


def test_the_stride_of_tested_forecasts(hourly, tmp_path):
    with pytest.raises(
        DataError, match="nothing to forecast in the test split; stride=499 may be too long"
    ):
        prepare(str(hourly), replace(SMALL, stride=499))
    every, daily = (prepare(str(hourly), replace(SMALL, stride=stride)) for stride in (1, 24))
    np.testing.assert_array_equal(
        daily.origins("test"), every.origins("test")[every.origins("test") % 24 == 0]
    )
    assert {int(t) // 3_600_000_000 % 24 for t in daily.series.time[daily.origins("test")]} == {
        0
    }  # the table begins at midnight
    for split in ("train", "valid"):
        np.testing.assert_array_equal(daily.origins(split), every.origins(split))
    result = training.train(
        catalogue.load("forecast"),
        str(hourly),
        replace(SMALL, stride=24),
        QUICK,
        tmp_path / "m.safetensors",
    )
    file = modelfile.load(tmp_path / "m.safetensors")
    at = daily.origins("test")
    truth, ours = daily.history.future[at], daily.quantiles(file.model, at)
    error = daily.codec.unscale(truth[..., None])[..., 0] - np.median(daily.codec.unscale(ours), -1)
    assert result["metrics"]["mae"] == pytest.approx(np.nanmean(np.abs(error)), rel=1e-5)
    assert "one every 24 steps, with the state carried" in evaluation_page(file, reopen(None, file))
