"""The notes of a prediction reach those who get a data frame, as warnings."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from quick import QUICK

import memorycell
from memorycell import DataWarning
from memorycell.face.data_warnings import MAX_WARNINGS, warn_of_notes

SMALL = {**QUICK, "baselines": False}


def warned(predict, *arguments, **options):
    """What a call gives, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = predict(*arguments, **options)
    return found, caught


def test_the_warning_is_at_the_line_of_the_caller(forecaster, load_frame):
    given = load_frame.assign(rain=1.0)
    for frame in (given, pl.from_pandas(given.reset_index()), pa.Table.from_pandas(given)):
        found, (only,) = warned(forecaster.predict, frame)
        assert type(found) is type(frame)
        assert only.category is DataWarning
        assert only.filename == __file__
        assert str(only.message) == "column not used by the model: 'rain'"


def test_notes_of_the_record_of_a_path_are_the_warnings_of_a_frame(forecaster, tmp_path):
    """Few rows for the origins, and a clock that is not the model's."""
    days = pd.DataFrame({"time": pd.date_range("2024", periods=60, freq="D"), "load": 1.0, "x": 2})
    days.to_csv(tmp_path / "days.csv", index=False)
    notes = forecaster.predict(tmp_path / "days.csv", origins=99)["notes"]
    assert len(notes) == 3
    _, caught = warned(forecaster.predict, days, origins=99)
    assert [str(one.message) for one in caught] == notes
    with warnings.catch_warnings():  # they are of a class of their own
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataWarning)
        forecaster.predict(days, origins=99)


def test_a_detector_and_a_classifier_name_the_columns_they_do_not_use():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=400), "always": 1, "event": 0})
    rows["x2"] = rows["x"].cumsum()
    detector = memorycell.train("anomaly", rows, label="event", **SMALL)
    _, (only,) = warned(detector.predict, rows.assign(late="no"))
    assert str(only.message) == "columns not used by the model: 'always', 'late'"
    walks = pd.DataFrame({"id": np.repeat(np.arange(40), 6), "x": rng.normal(size=240)})
    walks["kind"] = np.where(walks["id"] % 2, "up", "down")
    settings = {"members": 1, "augment": "none", "encoder": "none", **SMALL}
    model = memorycell.train("sequences", walks, sequence="id", target="kind", **settings)
    assert warned(model.predict, walks)[1] == []
    _, (only,) = warned(model.predict, walks.assign(late="no"))
    assert str(only.message) == "column not used by the model: 'late'"


def test_a_text_that_was_cut_is_named():
    rows = [(f"{'good' if k % 2 else 'bad'} day {k}", "ab"[k % 2]) for k in range(120)]
    model = memorycell.train("sentiment", rows, embedding=4, pairs=False, mix="no", **SMALL)
    frame = pl.DataFrame({"text": ["a good day", "bad " * 30_000]})
    (record,) = [one for one in model.predict(frame["text"].to_list(), words=False)["texts"]
                 if "note" in one]  # fmt: skip
    _, (only,) = warned(model.predict, frame, words=False)
    assert str(only.message) == f"text 2: {record['note']}"


def test_many_notes_are_counted():
    parts = [{"text": "t", "note": "cut"} for _ in range(40)]
    _, caught = warned(warn_of_notes, {"notes": ["first"], "texts": parts, "bias": 0.5})
    words = [str(one.message) for one in caught]
    assert words[:2] == ["first", "text 1: cut"]
    assert words[-1] == "and 34 more notes like this one"
    assert len(words) == MAX_WARNINGS == 8
    _, all_shown = warned(warn_of_notes, {"notes": ["first"], "texts": parts[:7]})
    assert [str(one.message) for one in all_shown] == [
        "first",
        *(f"text {k}: cut" for k in range(1, 8)),
    ]
    with pytest.warns(DataWarning, match="^first$"):
        warn_of_notes({"notes": ["first"]})
