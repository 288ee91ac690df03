"""Tables as people write them: formats, zones, known futures, new series; changed files."""

import csv
import io
import json
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.columns import forecast_csv, forecast_parquet
from memorycell.applications.forecast.predict import PredictOptions, predict, quantile_at, render
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.session import ForecastSession
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError, StateError
from memorycell.training import loop as training

FORECAST = catalogue.load("forecast")
SMALL = ForecastSettings(hidden=4, horizon=6, context=24, bptt=24)


def train(folder, text, settings=SMALL, epochs=2, name="t.csv"):
    """(model file, result) of a table."""
    (folder / name).write_text(text, encoding=settings.encoding or "utf-8")
    out = folder / "m.safetensors"
    result = training.train(
        FORECAST, str(folder / name), settings, TrainSettings(epochs=epochs), out
    )
    return modelfile.load(out), result


def hourly(values, start="2024-01-01T00:00:00", column="y") -> str:
    stamps = np.datetime64(start) + np.arange(len(values)) * np.timedelta64(1, "h")
    lines = [f"{str(t).replace('T', ' ')},{v}" for t, v in zip(stamps, values, strict=True)]
    return "\n".join([f"time,{column}", *lines]) + "\n"


def wave(size=500, level=20.0):
    rng = np.random.default_rng(5)
    return level + 5 * np.sin(np.arange(size) / 24 * 2 * np.pi) + rng.normal(size=size)


def test_answers_have_the_full_precision_of_the_column(tmp_path):
    counter = 1_234_569.01 + np.cumsum(np.random.default_rng(0).uniform(1, 3, 500)).round(2)
    file, _ = train(tmp_path, hourly(counter.round(2)))
    record = predict(file, str(tmp_path / "t.csv"), PredictOptions())
    median = record["forecasts"][0]["forecast"]["y"]["median"]
    assert any(round(value) != value for value in median)
    assert [float(f"{v:.6g}") for v in median] != median
    rows = list(csv.DictReader(io.StringIO(forecast_csv(file, record))))
    assert [float(row["median"]) for row in rows] == median
    assert json.loads(json.dumps(record)) == record
    table = pl.read_parquet(io.BytesIO(forecast_parquet(file, record)))
    assert table["median"].to_list() == median
    assert f"{median[0]:.0f}" in render(record)  # people see what the interval needs


def test_other_quantiles(tmp_path):
    file, _ = train(tmp_path, hourly(wave().round(3)))
    options = PredictOptions(quantiles="0.05,0.5,0.95")
    record = predict(file, str(tmp_path / "t.csv"), options)
    values = record["forecasts"][0]["forecast"]["y"]
    assert list(values) == ["median", "low80", "high80", "q0.05", "q0.5", "q0.95"]
    np.testing.assert_allclose(values["q0.5"], values["median"])
    assert (np.array(values["q0.05"]) < values["low80"]).all()
    assert (np.array(values["q0.95"]) > values["high80"]).all()
    assert "q0.95" in forecast_csv(file, record).splitlines()[0]
    uniform = (np.arange(15)[None] + 0.5) / 15
    for level in (0.01, 0.2, 0.5, 0.77, 0.99):
        assert quantile_at(uniform, level)[0] == pytest.approx(level)
    for wrong in ("0", "1.5", "half"):
        with pytest.raises(ValueError, match="expected levels between 0 and 1"):
            PredictOptions(quantiles=wrong)


def test_decimal_commas_and_encodings_in_training_predict_and_stream(tmp_path):
    lines = [
        f"{1 + k // 24:02d}.01.2024 {k % 24:02d}:00;{value:.2f};{k * 7 % 11},5"
        for k, value in enumerate(wave(480))
    ]
    text = "Zeit;Wärme;Köln\n" + "\n".join(line.replace(".", ",") for line in lines) + "\n"
    text = text.replace(",01,2024", ".01.2024")
    plain = "Zeit,Wärme,Köln\n" + "\n".join(line.replace(";", "|") for line in lines) + "\n"
    plain = plain.replace(",5\n", ".5\n").replace(",Wärme,", "|Wärme|")
    settings = replace(SMALL, target="Wärme", encoding="cp1252", inputs="Köln")
    file, _ = train(tmp_path, text, settings)
    other = tmp_path / "plain.csv"
    other.write_text(plain, "cp1252")
    codec = file.codec
    np.testing.assert_array_equal(
        codec.read(codec.read_file(tmp_path / "t.csv"), "t").values[:3, 0],
        wave(480)[:3].round(2),
    )
    session = ForecastSession(file)
    header, first, *_ = text.splitlines()
    assert session.feed(header) == []
    (answer,) = session.feed(first)
    assert session._series[""][0].memory["filled"] == [round(wave(480)[0], 2), 0.5]
    assert answer["time"] == "2024-01-01 00:00:00"


def test_answers_carry_the_offset_and_cycles_follow_local_time(tmp_path):
    """A local day cycle through the end of summer time."""
    utc = np.datetime64("2023-10-08T22:00:00") + np.arange(720) * np.timedelta64(1, "h")
    summer = utc < np.datetime64("2023-10-29T01:00:00")
    offset = np.where(summer, 2, 1)
    local = utc + offset * np.timedelta64(1, "h")
    y = np.where(local.astype(int) // 3600 % 24 < 12, 0.0, 10.0)
    rows = [f"{t}+0{o}:00,{v}" for t, o, v in zip(local, offset, y, strict=True)]
    file, _ = train(tmp_path, "time,y\n" + "\n".join(rows) + "\n", replace(SMALL, calendar="day"))
    record = predict(file, str(tmp_path / "t.csv"), PredictOptions())
    assert record["forecasts"][0]["time"].endswith("+01:00")
    assert all(time.endswith("+01:00") for time in record["forecasts"][0]["ahead"])
    codec = file.codec
    series = codec.read(codec.read_file(tmp_path / "t.csv"), "t")
    phase = codec.encode(series)[:, list(codec.features).index("sin of day")]
    np.testing.assert_allclose(
        phase, np.sin(2 * np.pi * (local.astype(int) % 86_400) / 86_400), atol=1e-6
    )
    session = ForecastSession(file)
    (answer,) = session.feed({"time": "2023-10-15T05:00:00+02:00", "y": 3})
    assert answer["ahead"][0] == "2023-10-15 06:00:00+02:00"


def test_missing_known_futures_are_refused_with_the_rows_that_are_needed(tmp_path):
    rng = np.random.default_rng(0)
    promo = (rng.random(500) < 0.2).astype(int)
    sales = 20 + 30 * promo + rng.normal(size=500)
    lines = hourly(sales.round(1)).splitlines()
    lines = [lines[0] + ",promo", *(f"{a},{p}" for a, p in zip(lines[1:], promo, strict=True))]
    file, _ = train(tmp_path, "\n".join(lines) + "\n", replace(SMALL, target="y", known="promo"))
    ahead = [f"2024-01-21 {20 + k}:00:00,,1" for k in range(4)] + ["2024-01-22 00:00:00,,0"]
    whole = tmp_path / "whole.csv"
    whole.write_text("\n".join([*lines, *ahead, "2024-01-22 01:00:00,,0"]) + "\n")
    record = predict(file, str(whole), PredictOptions())
    assert record["forecasts"][0]["time"] == "2024-01-21 19:00:00"
    short = tmp_path / "short.csv"
    short.write_text("\n".join([*lines, *ahead[:2], ahead[3]]) + "\n")
    with pytest.raises(DataError, match="22:00:00, 2024-01-22 00:00:00, 2024-01-22 01:00:00"):
        predict(file, str(short), PredictOptions())
    with pytest.raises(DataError, match="'promo' must be known 6 steps after"):
        predict(file, str(tmp_path / "t.csv"), PredictOptions())


def test_a_new_series_is_scaled_by_its_own_rows(tmp_path):
    days = np.datetime64("2023-01-01") + np.arange(300)
    rng = np.random.default_rng(0)
    rows = [
        f"{day},{shop},{level + rng.normal():.2f}"
        for shop, level in (("A", 8), ("B", 40))
        for day in days
    ]
    settings = replace(SMALL, target="sales", group="shop", scaling="series", static="group")
    text = "date,shop,sales\n" + "\n".join(rows) + "\n"
    file, _ = train(tmp_path, text, settings, epochs=5)
    new = tmp_path / "new.csv"
    new.write_text(
        "date,shop,sales\n" + "".join(f"{d},NEW,{955 + 3 * rng.normal():.2f}\n" for d in days[:60])
    )
    record = predict(file, str(new), PredictOptions())
    assert np.abs(np.array(record["forecasts"][0]["forecast"]["sales"]["median"]) - 955).max() < 12
    assert "scaled by their own rows: NEW" in record["notes"][0]
    with pytest.raises(DataError, match="series 'NEW' was not in training"):
        ForecastSession(file).feed({"date": "2023-05-01", "shop": "NEW", "sales": 9})
    new.write_text("date,shop,sales\n2023-01-01,NEW,5\n")
    with pytest.raises(DataError, match="too few different values"):
        predict(file, str(new), PredictOptions())


def test_what_cannot_be_negative_is_not(tmp_path):
    values = np.abs(np.random.default_rng(0).normal(size=500)).round(3)
    file, _ = train(tmp_path, hourly(values), replace(SMALL, positive=True), epochs=1)
    record = predict(file, str(tmp_path / "t.csv"), PredictOptions(quantiles="0.01"))
    for part in record["forecasts"][0]["forecast"]["y"].values():
        assert min(part) >= 0
    assert np.min(replace(file.codec, positive=False).unscale(np.full((1, 1, 1), -9.0))) < 0
    values[3] = -1
    (tmp_path / "n.csv").write_text(hourly(values))
    with pytest.raises(DataError, match="row 4, column 'y': -1 is negative; leave positive out"):
        prepare(str(tmp_path / "n.csv"), replace(SMALL, positive=True))


def test_an_extreme_reading_is_clipped_and_said(tmp_path):
    values = wave().round(3)
    file, _ = train(tmp_path, hourly(values))
    session = ForecastSession(file)
    for hour in range(20):
        session.feed({"time": f"2024-03-01 {hour:02d}:00:00", "y": float(values[hour])})
    (answer,) = session.feed({"time": "2024-03-01 20:00:00", "y": 1e38})
    assert answer["clipped"] == ["y"]
    (later,) = session.feed({"time": "2024-03-01 21:00:00", "y": 20.0})
    assert "clipped" not in later
    for record in (answer, later):
        assert np.abs(record["forecast"]["y"]["median"]).max() < 1000
    for hour, missing in enumerate((None, float("nan"), np.datetime64("NaT"))):
        session.feed({"time": np.datetime64(f"2024-03-02T{hour:02d}:00:00"), "y": missing})


def test_counters_and_indexes_are_not_inputs(tmp_path):
    lines = hourly(wave().round(3)).splitlines()
    rows = [f"{k},{line},{k + 1}" for k, line in enumerate(lines[1:])]
    (tmp_path / "t.csv").write_text("\n".join(["," + lines[0] + ",number", *rows]) + "\n")
    dataset = prepare(str(tmp_path / "t.csv"), SMALL)
    assert dataset.codec.columns == ("y",)
    assert sum("left out" in note for note in dataset.notes) == 2


def test_a_changed_description_is_refused(tmp_path):
    file, _ = train(tmp_path, hourly(wave().round(3)), epochs=1)
    good = json.loads(json.dumps(file.codec.to_json()))
    assert SeriesCodec.from_json(good) == file.codec
    old = {k: v for k, v in good.items() if k not in ("times", "numbers", "bounds", "positive")}
    old |= {"time": "time", "time_format": None}
    assert SeriesCodec.from_json(old).times.columns == ("time",)
    for change in (
        {"std": [0.0]},
        {"std": [True]},
        {"mean": ["1"]},
        {"mean": []},
        {"mean": [1e305]},
        {"max_gap": 0},
        {"max_gap": 2.5},
        {"targets": []},
        {"targets": ["y", "y"]},
        {"inputs": ["y"]},
        {"gappy": ["z"]},
        {"known": ["z"]},
        {"reach": 3},
        {"cycles": ["moon"]},
        {"bounds": [1.0]},
        {"bounds": [-1.0, 1.0]},
        {"static": {"kind": ["a"]}},
        {"returns": "y"},
        {"each": ["y"]},
        {"own": {"a": [[1.0], [0.0], [1.0]]}},
        {"clock": {"unit": "second", "size": 0}},
        {"times": None},
        {"unknown": 1},
    ):
        with pytest.raises((ValueError, KeyError, TypeError)):
            SeriesCodec.from_json({**good, **change})
    for name in ("targets", "inputs", "clock", "max_gap", "mean", "std"):
        with pytest.raises((ValueError, KeyError, TypeError)):
            SeriesCodec.from_json({k: v for k, v in good.items() if k != name})


def test_a_changed_state_is_refused(tmp_path, monkeypatch):
    file, _ = train(tmp_path, hourly(wave().round(3)), epochs=1)
    session = ForecastSession(file)
    session.feed({"time": "2024-03-01 00:00:00", "y": 3.0})
    before = session.snapshot()
    from memorycell.applications.forecast import session as module

    state, extra = module.State.from_bytes(before, fingerprint=session._initial.fingerprint)
    memory, last = extra["memory"][0], extra["last"][0]
    for change in (
        {"names": [1]},
        {"names": ["", ""]},
        {"memory": [{**memory, "filled": ["x"]}]},
        {"memory": [{**memory, "filled": []}]},
        {"memory": [{**memory, "time": 1.5}]},
        {"memory": [{**memory, "time": 10**30}]},
        {"memory": [{}]},
        {"last": [{}]},
        {"last": [{**last, "forecast": {}}]},
        {"last": [{**last, "forecast": {"y": {"median": [1.0]}}}]},
        {"last": []},
        {"lines": 3},
        {"more": 1},
    ):
        data = state.to_bytes(fingerprint=session._initial.fingerprint, extra={**extra, **change})
        with pytest.raises(StateError):
            session.restore(data)
    session.restore(before)
    assert session.snapshot() == before


def test_where_a_baseline_is_better_a_setting_is_named(tmp_path):
    walk = np.cumsum(np.random.default_rng(1).normal(size=500)).round(3)
    _, result = train(tmp_path, hourly(walk), replace(SMALL, window=1), epochs=1)
    if result["skill"] < 0:
        assert "is better than the model: use it, or try --set normal=level" in result["advice"]
    assert asdict(SMALL)["normal"] is None
