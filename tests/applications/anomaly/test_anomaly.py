"""What a trained detector finds in a table of sensors, and that its session answers the same."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from anomaly_data import sensors
from typer.testing import CliRunner

from memorycell import proof
from memorycell.application import catalogue, modelfile
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.predict import PredictOptions, predict, read_recordings
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.scoring import flagged_ranges, score_recording
from memorycell.applications.anomaly.session import AnomalySession
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.cli.verbs import app
from memorycell.errors import DataError, StateError
from memorycell.setting_fields import parse_settings
from memorycell.streaming.stream import Stream
from memorycell.training import loop as training

ANOMALY = catalogue.load("anomaly")
run = CliRunner().invoke
MACHINE = {
    "label": "fault",
    "hidden": "24",
    "epochs": "16",
    "bptt": "100",
    "smooth": "1",
    "corrupt": "0",
    "drift": "0",
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    sensors().write_csv(folder / "m.csv")
    chosen, how = parse_settings((AnomalySettings(), ANOMALY.training), MACHINE)
    result = training.train(ANOMALY, str(folder / "m.csv"), chosen, how, folder / "m.safetensors")
    return folder, result, modelfile.load(folder / "m.safetensors")


def test_detects_what_single_rows_do_not_show(machine):
    _, result, _ = machine
    assert result["primary"] == "f1"
    assert result["metrics"]["f1"] > 0.8
    assert result["metrics"]["f1"] > 1.5 * max(
        result["baselines"][m]["f1"] for m in ("mahalanobis", "isolation forest")
    )
    assert set(result["baselines"]) == set(ANOMALY.baselines)
    assert result["baselines"]["flag everything"]["mar"] == 0


def test_labels_do_not_affect_training(machine, tmp_path):
    _, _, file = machine
    sensors().with_columns(fault=1 - pl.col("fault")).write_csv(tmp_path / "m.csv")
    chosen, how = parse_settings((AnomalySettings(), ANOMALY.training), MACHINE)
    training.train(ANOMALY, str(tmp_path / "m.csv"), chosen, how, tmp_path / "m.safetensors")
    again = modelfile.load(tmp_path / "m.safetensors").model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in file.model.state_dict().items())


def test_row_by_row_equals_full_sequence(machine):
    folder, _, file = machine
    recording = read_recordings(file.codec, str(folder / "m.csv"))[0][0]
    recording.values[700:720, 1] = np.nan
    recording.values[800] = np.nan
    full = score_recording(file.model, file.codec, recording)
    scorer = RowScorer(file.model, file.codec, Stream(file.model, history=0))
    choices = file.codec.category_ids(recording.words)
    scores = []
    for values, own, time in zip(recording.values, choices, recording.time, strict=True):
        score, contributions, stuck = scorer.step(values, own, int(time))
        scores.append(score)
        assert score == pytest.approx(contributions.sum(), abs=1e-9)
        assert not stuck.any()
    np.testing.assert_allclose(scores, full.scores, rtol=1e-3, atol=1e-3)
    assert not full.stuck.any()


def test_snapshot_and_restore(machine):
    _, _, file = machine
    rows = sensors(300).drop("fault").to_dicts()
    full, first, second = AnomalySession(file), AnomalySession(file), AnomalySession(file)
    expected = [full.step(row) for row in rows]
    answers = [first.step(row) for row in rows[:150]]
    second.restore(first.snapshot())
    with pytest.raises(StateError):
        second.restore(b"no state")
    assert answers + [second.step(row) for row in rows[150:]] == expected
    model = Detector(replace(file.model.config, smooth=2))
    other = AnomalySession(modelfile.ModelFile(model, file.codec, file.info))
    with pytest.raises(StateError):
        other.restore(first.snapshot())


def test_stuck_and_huge_readings_are_flagged_and_blamed(machine):
    _, _, file = machine
    rows = sensors(400, seed=3).drop("fault").to_dicts()
    live = AnomalySession(file)
    for row in rows[:300]:
        live.step(row)
    for row in rows[300:340]:
        row["noise"] = rows[299]["noise"]
        answer = live.step(row)
    assert answer["anomaly"]
    assert answer["stuck"] == ["noise"]
    for row in rows[340:345]:
        row["follow"] *= 1000
        answer = live.step(row)
    assert answer["anomaly"]
    assert next(iter(answer["blame"])) == "follow"
    for row in rows[345:350]:
        row["follow"] = 1e300
        assert np.isfinite(live.step(row)["score"])


def test_unreadable_rows_change_nothing(machine):
    _, _, file = machine
    rows = sensors(40).drop("fault").to_dicts()
    live, other = AnomalySession(file), AnomalySession(file)
    for row in rows[:20]:
        live.step(row), other.step(row)
    for change, message in (
        ({"swing": "warm"}, "'swing': 'warm' is not a finite number"),
        ({"swing": "inf"}, "'swing': 'inf' is not a finite number"),
        ({"time": rows[3]["time"]}, "the time goes back"),
        ({"time": "soon"}, "'soon' is not a time"),
    ):
        with pytest.raises(DataError, match=message):
            live.step({**rows[20], **change})
    with pytest.raises(DataError, match="no column 'swing'"):
        live.step({"time": rows[20]["time"]})
    assert live.step(rows[20]) == other.step(rows[20])


def test_prove(machine):
    _, _, file = machine
    dataset = ANOMALY.reopen(None, file)
    found = proof.prove(file, dataset.sample(150), exports=())
    assert found.ok, found
    assert {c.precision for c in found.checks} == {"float32", "bfloat16", "int8"}


def test_predict(machine):
    folder, _, file = machine
    record = predict(file, str(folder / "m.csv"), PredictOptions())
    (one,) = record["recordings"]
    worst = max(one["anomalies"], key=lambda a: a["rows"])
    assert 1195 <= worst["row"] <= 1262
    assert {"swing", "follow"} >= set(worst["blame"])
    assert flagged_ranges(np.array([1, 1, 0, 1], bool)) == [(0, 1), (3, 3)]


def test_missing_column_in_another_table(machine, tmp_path):
    folder, _, _ = machine
    sensors(200).drop("swing").write_csv(tmp_path / "t.csv")
    result = run(app, ["predict", str(folder / "m.safetensors"), str(tmp_path / "t.csv")])
    assert result.exit_code == 2
    assert "no column 'swing', which the model reads" in result.stderr


@pytest.mark.data
@pytest.mark.slow
def test_skab_beats_every_baseline(public_data, tmp_path):
    chosen, how = parse_settings((AnomalySettings(), ANOMALY.training), {"epochs": "24"})
    result = training.train(ANOMALY, "skab", chosen, how, tmp_path / "s.safetensors")
    baselines = result["baselines"]
    assert baselines["flag everything"]["f1"] == pytest.approx(0.698, abs=0.001)
    assert result["metrics"]["f1"] > max(scores["f1"] for scores in baselines.values())
    assert result["metrics"]["far"] < baselines["mahalanobis"]["far"]
