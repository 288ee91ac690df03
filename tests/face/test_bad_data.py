"""Data in memory that cannot be used: one line that names the column, the row and the fix."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from quick import QUICK

import memorycell
from memorycell.errors import DataWarning, UserError

HOURS = pd.date_range("2024-01-01", periods=60, freq="h")
GOOD = pd.DataFrame({"time": HOURS, "y": np.sin(np.arange(60)), "x": np.cos(np.arange(60))})
LABELLED = pd.DataFrame({"text": [f"day {k}" for k in range(60)], "label": [0.0, 1.0] * 30})
LIBRARIES = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}


def changed(frame, column, row, value):
    frame = frame.copy()
    frame[column] = frame[column].astype(object if isinstance(value, str) else frame[column].dtype)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("task", "frame", "words"),
    [
        ("forecast", GOOD[["y", "x"]], ["'y', 'x'", "row 1 to 60", "set the index", "every='row'"]),
        ("forecast", changed(GOOD, "time", 7, pd.NaT), ["row 8", "'time'", "remove the row"]),
        ("forecast", GOOD.assign(y=[*map(str, range(59)), "high"]), ["row 60", "'y'", "'high'"]),
        ("forecast", GOOD.assign(y=np.nan), ["'y' is empty", "choose another"]),
        ("forecast", GOOD[:0], ["no rows"]),
        ("sentiment", changed(LABELLED, "label", 5, np.nan), ["'label'", "row 6", "lossy=True"]),
    ],
)
def test_frames_of_every_library(library, task, frame, words):
    settings = {"target": "y"} if task == "forecast" else {}
    with pytest.raises(UserError) as raised:
        memorycell.train(task, LIBRARIES[library](frame), **settings, **QUICK)
    message = str(raised.value)
    assert not [word for word in words if word not in message], message
    assert "\n" not in message
    assert "/tmp" not in message


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("forecast", GOOD.set_index(["time", "x"]), ["2 levels", "'time', 'x'", "reset_index()"]),
        ("forecast", GOOD.set_index("time", drop=False), ["both named 'time'"]),
        ("forecast", changed(GOOD, "x", 3, "a"), ["'x' holds a number (row 1) and text (row 4)"]),
        ("forecast", pd.concat([GOOD, GOOD[["y"]]], axis=1), ["two columns 'y'", "rename"]),
        (
            "forecast",
            pd.DataFrame(np.zeros((9, 2)), columns=pd.MultiIndex.from_tuples([(1, 2), (1, 3)])),
            ["columns of 2 levels"],
        ),
        ("forecast", pl.from_pandas(GOOD).lazy(), ["collect()"]),
        ("forecast", [[[1.0], [2.0, 3.0]]], ["array 1: row 2 has 2 values, row 1 has 1"]),
        (
            "forecast",
            [np.zeros((9, 2)), np.zeros((9, 3))],
            ["array 2 has 3 columns, array 1 has 2"],
        ),
        ("forecast", [{"y": 1.0}], ["array 1 is a dict", "make a data frame"]),
        ("forecast", [GOOD, GOOD], ["array 1 is a DataFrame", "names the series"]),
        ("forecast", GOOD.to_numpy(), ["array 1, row 1 holds Timestamp('2024", "give numbers"]),
        ("forecast", GOOD[["time", "y"]][:5], ["add rows, or horizon=… context=…"]),
        ("sentiment", [("a b", "x"), ("c d", None)], ["label 2 is missing"]),
        ("translation", [("a", "b"), ("c",)], ["row 2 is ('c',)"]),
        ("speech", [((np.zeros(9), 8000), float("nan"))], ["label 1 is missing"]),
    ],
)
def test_other_data(task, data, words):
    with pytest.raises(UserError) as raised:
        memorycell.train(task, data, **QUICK)
    message = str(raised.value)
    assert not [word for word in words if word not in message], message
    assert "\n" not in message


def test_rows_that_are_meant_to_have_no_times():
    model = memorycell.train("forecast", GOOD[["y"]], every="row", horizon=2, **QUICK)
    assert list(model.predict(GOOD[["y"]])["target"]) == ["y", "y"]


@pytest.mark.parametrize(
    "data", [list(GOOD["y"]), torch.tensor(GOOD["y"].to_numpy()), GOOD["y"].to_numpy(object)]
)
def test_numbers_without_a_frame(data):
    model = memorycell.train("forecast", data, horizon=2, **QUICK)
    expected = memorycell.train("forecast", GOOD["y"].to_numpy(), horizon=2, **QUICK)
    assert model.metrics == expected.metrics


@pytest.mark.parametrize("target", ["load, kW", ["load, kW"], '"load, kW"'])
def test_a_column_with_a_comma(target):
    frame = GOOD.rename(columns={"y": "load, kW"})
    model = memorycell.train("forecast", frame, target=target, horizon=2, **QUICK)
    assert model.codec.targets == ("load, kW",)


def test_a_series_is_a_frame_of_one_column():
    series = pd.Series(np.sin(np.arange(60)), index=HOURS)
    model = memorycell.train("forecast", series, horizon=2, **QUICK)
    assert model.codec.targets == ("value",)
    assert model.predict(series)["time"].iloc[0] == HOURS[-1] + pd.Timedelta("1h")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_frame_of_another_schema(forecaster, load_frame, library):
    frame = LIBRARIES[library](load_frame.reset_index().rename(columns={"load": "level"}))
    with pytest.raises(UserError, match=r"data in memory: no column 'load'.*'?time'?, '?level'?"):
        forecaster.predict(frame)


def test_columns_that_a_model_does_not_know_are_said(forecaster, load_frame):
    expected = forecaster.predict(load_frame)
    with pytest.warns(DataWarning, match="columns not used by the model: 'rain', 'wind'$"):
        found = forecaster.predict(load_frame.assign(rain=1.0, wind="w"))
    pd.testing.assert_frame_equal(found, expected)
    other_order = load_frame.reset_index()[["load", "time"]]
    pd.testing.assert_frame_equal(forecaster.predict(other_order), expected)


def test_rows_further_apart_than_the_steps_of_the_model_are_said(forecaster, tmp_path):
    days = pd.DataFrame({"time": pd.date_range("2024", periods=60, freq="D"), "load": 1.0})
    days.to_csv(tmp_path / "days.csv", index=False)
    (note,) = forecaster.predict(tmp_path / "days.csv")["notes"]
    assert note.startswith("96% of the steps have no row; a step of the model is 1 h")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"minutes": -1}, "minutes=-1: expected a number 0.01 to 100,000"),
        ({"minutes": "x"}, "minutes='x'"),
        ({"minutes": float("nan")}, "minutes=nan"),
        ({"resume": True}, "resume needs out="),
        ({"device": "gpu"}, "device='gpu'"),
        ({"hidden": True}, "hidden=True"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, words):
    with pytest.raises(UserError, match=words):
        memorycell.train("forecast", GOOD, target="y", **{**QUICK, **arguments})
