"""`memorycell.train` and `Trained`, on data in memory, against the command's own path on files."""

import copy
import pickle

import pandas as pd
import polars as pl
import pytest
from quick import QUICK

import memorycell
from memorycell.errors import UserError
from memorycell.face.memory import NAME


def test_a_frame_trains_as_its_file_does(load_frame, forecaster, tmp_path):
    path = tmp_path / "load.parquet"
    pl.DataFrame(
        {"time": load_frame.index.to_list(), "load": load_frame["load"].to_list()}
    ).write_parquet(path)
    from_file = memorycell.train("forecast", path, target="load", horizon=4, **QUICK)
    assert from_file.metrics == forecaster.metrics
    assert from_file.baselines == forecaster.baselines
    assert from_file.info["data"] == str(path)
    assert forecaster.info["data"] == NAME


def test_what_it_knows(forecaster):
    assert set(forecaster.metrics) >= {"crps", "mae"}
    assert "ridge" in forecaster.baselines
    best = min(scores["crps"] for scores in forecaster.baselines.values())
    assert forecaster.skill == pytest.approx(1 - forecaster.metrics["crps"] / best)
    assert len(forecaster.history) == 2
    assert "memorycell" in repr(forecaster)
    assert "<td>ridge</td>" in forecaster._repr_html_()


def test_it_is_saved_pickled_and_copied(forecaster, load_frame, tmp_path):
    forecaster.save(tmp_path / "m.safetensors")
    expected = forecaster.predict(load_frame)
    copies = (
        memorycell.load(tmp_path / "m.safetensors"),
        pickle.loads(pickle.dumps(forecaster)),
        copy.deepcopy(forecaster),
    )
    for other in copies:
        assert other.metrics == forecaster.metrics
        pd.testing.assert_frame_equal(other.predict(load_frame), expected)


def test_evaluation_on_its_own_data_needs_them(forecaster, tmp_path):
    own = forecaster.evaluate()
    assert own["metrics"] == pytest.approx(forecaster.metrics)
    forecaster.save(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="in memory: give the data again"):
        memorycell.load(tmp_path / "m.safetensors").evaluate()


def test_a_live_session(forecaster):
    (answer,) = forecaster.session().feed({"time": "2024-03-01 00:00:00", "load": 12.0})
    assert len(answer["forecast"]["load"]["median"]) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizn": 3}, "no setting 'horizn'; did you mean horizon"),
        ({"horizon": 1.5}, "horizon=1.5"),
        ({"horizon": "soon"}, "horizon=soon"),
        ({"target": "other"}, "other"),
    ],
)
def test_settings_that_cannot_be_used(load_frame, settings, words):
    with pytest.raises(UserError, match=words) as raised:
        memorycell.train("forecast", load_frame, **{**QUICK, **settings})
    assert "\n" not in str(raised.value)
    assert "/tmp" not in str(raised.value)


def test_data_of_another_kind(load_frame):
    with pytest.raises(UserError, match="a data frame, an array.*not .dict"):
        memorycell.train("forecast", {"a": 1}, **QUICK)
    with pytest.raises(UserError, match="which column has the texts"):
        memorycell.train("text", load_frame, **QUICK)
    with pytest.raises(UserError, match="text 2 is int"):
        memorycell.train("text", ["a", 3], **QUICK)
