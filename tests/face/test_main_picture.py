"""The main picture of a model, against its own predictions."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from quick import QUICK

import memorycell
from memorycell.application.picture import Picture, picture_of_result
from memorycell.errors import UserError
from memorycell.face import pictures
from memorycell.face.notebook import picture_html


def test_a_forecaster_shows_forecasts_of_rows_before_them(forecaster, load_frame):
    picture = forecaster.picture
    times = [pd.Timestamp(label) for label in picture.x]
    np.testing.assert_allclose(picture.lines["observed"], load_frame["load"][times], rtol=1e-4)
    assert len(picture.begins) == 12
    for begin in picture.begins[::3]:
        expected = forecaster.predict(load_frame[load_frame.index < times[begin]])
        shown = slice(begin, begin + 4)
        assert list(expected["time"]) == times[shown]
        for line, name in (
            (picture.lines["forecast"], "median"),
            (picture.low, "low80"),
            (picture.high, "high80"),
        ):
            np.testing.assert_allclose(line[shown], expected[name], rtol=2e-4)
    assert times[picture.begins[0] - 1] >= load_frame.index[int(0.8 * len(load_frame))]


def test_it_is_made_again_for_a_model_that_was_loaded(forecaster, load_frame, tmp_path):
    load_frame.reset_index().to_parquet(tmp_path / "load.parquet")
    model = memorycell.train(
        "forecast",
        tmp_path / "load.parquet",
        target="load",
        horizon=4,
        out=tmp_path / "m.safetensors",
        **QUICK,
    )
    assert model.picture == forecaster.picture
    loaded = memorycell.load(tmp_path / "m.safetensors")
    assert loaded.picture is None
    assert loaded._repr_html_().count("<svg") == 1
    figure = loaded.figure("main")
    assert loaded.picture == model.picture
    lines = {trace.name: trace for trace in figure.data}
    assert [y for y in lines["observed"].y if y is not None] == model.picture.lines["observed"]
    assert "picture" not in loaded.info  # values of the data are not stored
    assert "picture" not in model.result


def test_a_detector_shows_scores_flags_and_labels():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "time": pd.date_range("2024-03-01", periods=400, freq="h"),
            "x": np.sin(np.arange(400) / 9) + 0.1 * rng.normal(size=400),
            "label": 0,
        }
    )
    frame.loc[380:384, "label"], frame.loc[380:384, "x"] = 1, 4.0
    model = memorycell.train("anomaly", frame, label="label", **QUICK)
    picture = model.picture
    found = model.predict(frame)
    rows = np.flatnonzero(found["time"].isin(pd.to_datetime(picture.x)))
    assert len(rows) == len(picture.x)
    assert rows[-1] == 399
    scores = np.fmax(found["score"].to_numpy()[rows].astype(float), 0.1)
    np.testing.assert_allclose(picture.lines["score"], scores, rtol=2e-3)
    assert picture.marks == np.flatnonzero(found["anomaly"].to_numpy()[rows].astype(bool)).tolist()
    assert picture.marks
    ((first, last),) = picture.spans
    assert [rows[first], rows[last]] == [380, 384]
    assert isinstance(model.figure("main"), go.Figure)


def test_a_classifier_shows_its_confusion():
    rows = [(f"{'good' if k % 2 else 'bad'} day {k}", "ab"[k % 2]) for k in range(120)]
    model = memorycell.train("sentiment", rows, embedding=4, pairs=False, **QUICK)
    picture = model.picture
    assert picture.table[0] == ["", "a", "b"]
    counts = np.array([[int(cell) for cell in row[1:]] for row in picture.table[1:]])
    assert counts.sum() == model.info["split"]["test"]
    accuracy = np.trace(counts) / counts.sum()
    assert accuracy == pytest.approx(model.metrics["accuracy"])
    assert "<th>a</th>" in model._repr_html_()
    assert model.figure("main").data[0].text[0][0] == counts[0, 0]


def test_a_task_without_one_says_so(forecaster, monkeypatch):
    monkeypatch.setattr(forecaster, "picture", None)
    monkeypatch.setattr(pictures, "_made_again", lambda model: None)
    with pytest.raises(UserError, match="forecast: no main picture"):
        forecaster.figure("main")


@pytest.mark.parametrize("broken", [{"marks": [2]}, {"lines": {"y": [1.0]}}, {"spans": [(0, 9)]}])
def test_positions_outside_are_refused(broken):
    with pytest.raises(ValueError, match="picture|length"):
        Picture(title="t", x=["a", "b"], **broken)


def test_text_of_the_data_is_no_markup():
    hostile = "<script>alert(1)</script>"
    confusion = {hostile: {hostile: 3, "b": 1}, "b": {hostile: 0, "b": 0}}
    for picture in (
        picture_of_result({"confusion": confusion}),
        Picture(title=hostile, x=[hostile] * 2, lines={hostile: [1.0, None]}, span=hostile),
    ):
        assert "<script" not in picture_html(picture)
        assert "&lt;script" in picture_html(picture)
