"""What a trained model can do, against the command line's own functions and independent counts."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pytest

import memorycell
from memorycell.application.contract import ModelFile
from memorycell.errors import UserError
from memorycell.face.figures import OWN_FIGURES
from memorycell.face.trained import Trained
from memorycell.inspection.report import FIGURE_NAMES
from memorycell.proof import prove


def test_its_settings_are_those_of_the_file(forecaster):
    assert forecaster.settings["horizon"] == 4
    assert forecaster.settings["epochs"] == 2
    assert forecaster.settings["lr"] == memorycell.settings("forecast").to_dict()["lr"]["default"]
    assert forecaster.path is None
    assert forecaster.result["metrics"] == forecaster.metrics
    assert forecaster.result["file"] is None


def test_every_picture_is_a_plotly_figure(forecaster, load_frame):
    evaluation = forecaster.figures()
    assert list(evaluation) == ["typical period", "lead times", "calibration", "training"]
    assert list(forecaster.figures(load_frame)) == ["load"]
    for name in ("lead times", *OWN_FIGURES, "gates"):
        assert isinstance(forecaster.figure(name), go.Figure), name
    assert set(forecaster.inspect(load_frame).figures()) == set(FIGURE_NAMES)
    assert isinstance(forecaster.figure(x=load_frame), go.Figure)
    bars = forecaster.figure("baselines").data[0]
    scores = {**forecaster.baselines, "memorycell": forecaster.metrics}
    assert dict(zip(bars.y, bars.x, strict=True)) == {n: s["crps"] for n, s in scores.items()}
    losses = forecaster.figure("training").data[0].y
    assert list(losses) == [entry["valid_crps"] for entry in forecaster.history]


def test_the_forecast_in_the_picture_is_the_forecast(forecaster, load_frame):
    lines = {line.name: line.y for line in forecaster.figure("load", load_frame).data}
    expected = forecaster.predict(load_frame)["median"]
    np.testing.assert_allclose(lines["forecast (median)"], expected)


def test_a_picture_that_there_is_not(forecaster):
    with pytest.raises(UserError, match="did you mean calibration"):
        forecaster.figure("calibrations")


def test_pages_do_not_name_temporary_files(forecaster, load_frame, tmp_path):
    forecaster.write(tmp_path / "p.html", load_frame)
    for page in ((tmp_path / "p.html").read_text(), forecaster.report()):
        assert "memorycell-data-" not in page


def test_a_backtest_trains_and_tests_forward_in_time(forecaster):
    result = forecaster.backtest(folds=2, start=0.5, refit=False)
    assert [fold["test"] for fold in result["folds"]] == ["0.5:0.75", "0.75:1"]
    folds = [fold["metrics"]["crps"] for fold in result["folds"]]
    assert result["metrics"]["crps"] == pytest.approx(np.mean(folds))
    assert "mean over the folds" in repr(result)
    with pytest.raises(UserError, match="folds=0"):
        forecaster.backtest(folds=0)


def test_a_pool_steps_as_streams_do(forecaster):
    pool = forecaster.encoded_pool(3)
    size = pool.stepper.input_size
    x = np.random.default_rng(0).normal(size=(2, 3, size)).astype(np.float32)
    stream = memorycell.stream(forecaster.model)
    alone = [stream.step(row) for row in x[:, 1]]
    together = [pool.step(pool.slots, rows)[1] for rows in x]
    np.testing.assert_array_equal(np.stack(alone), np.stack(together))
    with pytest.raises(UserError, match="precision"):
        forecaster.encoded_pool(1, "int4")
    with pytest.raises(UserError, match="precision='int4'"):
        forecaster.session("int4")


def test_it_is_proved_on_its_own_data(forecaster):
    found = forecaster.prove(("float32", "bfloat16"), exports=())
    assert found.ok
    (cost,) = found.costs
    assert cost["float32"] == pytest.approx(forecaster.metrics["crps"], rel=1e-4)
    expected = {
        check.name for check in prove(forecaster, precisions=("float32",), exports=()).checks
    }
    assert {c.name for c in found.checks if c.precision == "float32"} == expected
    assert f"crps on the test split {cost['float32']:.4g}" in repr(found)


def test_it_is_exported(forecaster, tmp_path):
    exported = forecaster.export("c", tmp_path)
    assert {path.name for path in exported.files} == {
        "forecast.c",
        "forecast.h",
        "forecast_test.c",
    }
    weights = sum(p.numel() for p in forecaster.model.parameters())
    assert exported.sizes["flash_bytes"] >= weights  # at least a byte per weight
    with pytest.raises(UserError, match="forecast can be exported to onnx and c"):
        forecaster.export("tflite", tmp_path)


class _Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_a_notebook_shows_the_table_and_the_training(forecaster):
    page = _Tags(forecaster._repr_html_())
    assert page.tags.count("svg") == 2  # the forecast, and the training
    assert "script" not in page.tags
    for word in ("ridge", "persistence", "valid crps after every epoch", "best baseline"):
        assert word in page.text
    lines = re.findall(r'points="([^"]*)" fill="none" stroke="#3d8fd1"', forecaster._repr_html_())
    assert len(lines[-1].split()) == len(forecaster.history)


def test_foreign_names_are_text_in_a_notebook(forecaster):
    hostile = "<script>alert(1)</script>"
    baselines = {hostile: {"crps": 1.0}}
    info = {**forecaster.info, "baselines": baselines, "notes": [hostile]}
    other = Trained(ModelFile(forecaster.model, forecaster.codec, info, forecaster.arrays))
    page = _Tags(other._repr_html_())
    assert "script" not in page.tags
    assert hostile in page.text
    assert "<script>" not in other.figure("baselines").to_json()


def test_texts_in_a_frame_get_their_labels(tmp_path):
    rows = [(f"{'good' if k % 2 else 'bad'} day {k}", "ab"[k % 2]) for k in range(120)]
    model = memorycell.train(
        "sentiment", rows, progress=False, epochs=1, hidden=4, embedding=4, pairs=False
    )
    texts = ["good day", "bad day\nwith rain"]
    expected = model.predict(texts, words=False)["texts"]
    for frame in (pd.DataFrame({"n": [1, 2], "text": texts}), pl.DataFrame({"note": texts})):
        found = model.predict(frame, words=False)
        assert type(found) is type(frame)
        assert list(found["label"]) == [one["label"] for one in expected]
        assert list(found["p a"]) == [one["probabilities"]["a"] for one in expected]
    path = tmp_path / "texts.txt"
    path.write_text("good day\nbad day with rain\n")
    assert [t["p"] for t in model.predict(path)["texts"]] == [t["p"] for t in expected]
    with pytest.raises(UserError, match="column 'text', row 2: no text"):
        model.predict(pd.DataFrame({"text": ["a", None]}))
    with pytest.raises(UserError, match="which column has the texts"):
        model.predict(pl.DataFrame({"a": ["x"], "b": ["y"]}))
