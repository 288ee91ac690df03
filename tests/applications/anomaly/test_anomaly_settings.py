"""Columns, settings and commands of anomaly detection."""

import json

import numpy as np
import polars as pl
import pytest
from anomaly_data import cards, sensors
from typer.testing import CliRunner

from memorycell.application import catalogue, modelfile
from memorycell.applications.anomaly.batches import slow_variation
from memorycell.applications.anomaly.prepare import prepare
from memorycell.applications.anomaly.session import AnomalySession
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.source import infer_columns
from memorycell.cli.verbs import app
from memorycell.errors import DataError
from memorycell.setting_fields import parse_settings, settings_from_json
from memorycell.training import loop as training

ANOMALY = catalogue.load("anomaly")
run = CliRunner().invoke


def test_columns_are_inferred():
    frame = cards(200).with_columns(
        note="n" + pl.int_range(200).cast(pl.String) + "x", same=pl.lit(3)
    )
    columns, notes = infer_columns(frame, "t.csv", group="card", label="fraud")
    assert (columns.numbers, columns.categories, columns.times.columns) == (
        ("price", "(gap)"),
        ("what",),
        ("when",),
    )
    assert [n.split(" left out")[0] for n in notes] == ["column 'same'", "column 'note'"]
    columns, _ = infer_columns(sensors(100), "t.csv", label="fault")
    assert (columns.numbers, columns.categories) == (("swing", "follow", "noise"), ())


@pytest.mark.parametrize(
    ("change", "params", "message"),
    [
        ({}, {"label": "nothing"}, "no column 'nothing'"),
        ({"fault": 2}, {"label": "fault"}, "row 1, column 'fault': '2' is not a label"),
        ({"swing": "x"}, {"columns": "swing,noise"}, "'x' is not a number"),
        ({"swing": 1.0}, {"columns": "swing,noise"}, "column 'swing' is always the same"),
        ({}, {"settle": "2000"}, "no recording is longer than settle=2000"),
        (
            {"time": "2026-01-01 00:00:00"},
            {"group": "swing"},
            "no recording has rows to train on",
        ),
    ],
)
def test_unusable_tables(tmp_path, change, params, message):
    frame = sensors(300)
    if change == {"swing": "x"}:
        words = frame["swing"].cast(pl.String).to_list()
        frame = frame.with_columns(swing=pl.Series([*words[:200], "x", *words[201:]]))
    else:
        frame = frame.with_columns(**{name: pl.lit(value) for name, value in change.items()})
    frame.write_csv(tmp_path / "t.csv")
    result = run(
        app,
        [
            "train",
            "anomaly",
            str(tmp_path / "t.csv"),
            "--out",
            str(tmp_path / "o.safetensors"),
            *(x for k, v in params.items() for x in ("--set", f"{k}={v}")),
        ],
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "o.safetensors").exists()


def test_time_must_not_go_back(tmp_path):
    frame = sensors(200)
    pl.concat([frame[:100], frame[50:]]).write_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="row 101: the time goes back.*group=COLUMN"):
        prepare(str(tmp_path / "t.csv"), AnomalySettings(label="fault"))


@pytest.mark.parametrize(
    "wrong",
    [
        "settle=5",
        "budget=0",
        "budget=0.9",
        "drift=-1",
        "corrupt=1",
        "adapt=-1",
        "gap=maybe",
        "smooth=0",
        "scales=0",
    ],
)
def test_invalid_settings(wrong):
    result = run(app, ["train", "anomaly", "x.csv", "--set", wrong])
    assert result.exit_code == 2
    assert wrong.split("=")[0] in result.stderr


def test_only_numbers_of_recordings_that_settle_drift_in_training(tmp_path):
    sensors(400).drop("fault", strict=False).write_csv(tmp_path / "s.csv")
    cards(8000).write_csv(tmp_path / "c.csv")
    for name, params, drift in (
        ("s", {}, 0.0),
        ("s", {"settle": 60}, 2.0),
        ("s", {"settle": 60, "drift": 0.5}, 0.5),
        ("c", {"group": "card", "label": "fraud", "settle": 60}, 0.0),
    ):
        dataset = prepare(str(tmp_path / f"{name}.csv"), AnomalySettings(**params))
        assert dataset.settings.drift_scale(bool(dataset.codec.categories)) == drift
        scale = slow_variation(dataset.recordings, dataset.settings.bptt) * drift
        assert (dataset._batches._drift is None) == (drift == 0)
        assert drift == 0 or np.array_equal(dataset._batches._drift, scale)


def test_gap_setting_of_earlier_versions():
    assert settings_from_json(AnomalySettings, {"gap": "yes"}).gap is True
    assert settings_from_json(AnomalySettings, {"gap": None}).gap is None
    assert parse_settings((AnomalySettings(),), {"gap": "no"})[0].gap is False


def test_commands_without_labels(tmp_path):
    sensors(900).drop("fault").write_csv(tmp_path / "t.csv")
    out = tmp_path / "o.safetensors"
    result = run(
        app,
        [
            "train",
            "anomaly",
            str(tmp_path / "t.csv"),
            "--out",
            str(out),
            "--json",
            "--set",
            "epochs=2",
            "--set",
            "hidden=8",
            "--set",
            "adapt=100",
        ],
    )
    assert result.exit_code == 0, result.stderr
    trained = json.loads(result.stdout.splitlines()[-1])
    assert trained["primary"] == "nats"
    assert not trained["higher"]
    assert set(trained["metrics"]) == {"flagged", "nats"}
    again = json.loads(run(app, ["evaluate", str(out), "--json"]).stdout.splitlines()[-1])
    assert again["metrics"] == pytest.approx(trained["metrics"])
    page = tmp_path / "p.html"
    result = run(app, ["predict", str(out), str(tmp_path / "t.csv"), "--out", str(page)])
    assert result.exit_code == 0, result.stderr
    assert "rows flagged" in result.stdout
    assert "rows flagged" in page.read_text()
    result = run(
        app, ["predict", str(out), str(tmp_path / "t.csv"), "--out", str(tmp_path / "p.png")]
    )
    assert result.exit_code == 2
    lines = (tmp_path / "t.csv").read_text().splitlines()
    result = run(app, ["stream", str(out)], input="\n".join(lines[:30]))
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 29
    assert set(answers[-1]) == {"time", "score", "threshold", "anomaly"}
    assert run(app, ["inspect", str(out), "--out", str(tmp_path / "i.html")]).exit_code == 0


def test_a_folder_of_recordings_with_their_own_levels(tmp_path):
    for k in range(3):
        frame = sensors(500, seed=k).with_columns(
            pl.col("swing") + 100 * k, fault=(pl.int_range(500) >= 450).cast(int)
        )
        (frame.drop("fault") if k == 2 else frame).write_csv(tmp_path / f"{k}.csv")
    log: list[str] = []
    chosen, how = parse_settings(
        (AnomalySettings(), ANOMALY.training),
        {"label": "fault", "settle": "200", "epochs": "1", "hidden": "8"},
    )
    out = tmp_path / "o.safetensors"
    result = training.train(ANOMALY, str(tmp_path), chosen, how, out, log=log.append)
    assert any("1 of 3 tables, without the column 'fault': 2.csv" in line for line in log)
    assert result["baselines"]["flag everything"]["f1"] == pytest.approx(2 * 50 / (2 * 50 + 250))
    live = AnomalySession(modelfile.load(out))
    answers = [live.step(row) for row in sensors(220, seed=5).to_dicts()]
    assert [a.get("settling") for a in answers[:200]] == list(range(199, -1, -1))
    assert all("score" in a for a in answers[200:])
