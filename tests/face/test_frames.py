"""Data frames of every library, against polars' own reading of the same values."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from memorycell.errors import UserError
from memorycell.face.frames import is_frame, like, to_polars

HOURS = [datetime(2024, 3, 31, tzinfo=UTC) + timedelta(hours=k) for k in range(5)]


def test_what_is_a_frame():
    assert is_frame(pd.DataFrame({"a": [1]}))
    assert is_frame(pl.DataFrame({"a": [1]}))
    assert is_frame(pa.table({"a": [1]}))
    assert not is_frame({"a": [1]})
    assert not is_frame(np.zeros(3))


def test_types_survive():
    frame = pd.DataFrame(
        {
            "time": pd.to_datetime(HOURS).tz_convert("Europe/Berlin"),
            "whole": pd.array([1, 2, None, 4, 5], dtype="Int64"),
            "number": [1.5, np.nan, 3.0, 1e300, -0.0],
            "kind": pd.Categorical(["a", "b", None, "a", "b"]),
            "text": ["x", "y", "z", None, "w"],
            "flag": [True, False, True, True, False],
        }
    )
    got = to_polars(frame)
    assert got["time"].dt.convert_time_zone("UTC").to_list() == HOURS
    assert str(got["time"].dtype.time_zone) == "Europe/Berlin"
    assert got["whole"].to_list() == [1, 2, None, 4, 5]
    assert got["number"].to_list()[3:] == [1e300, -0.0]
    assert got["kind"].to_list() == ["a", "b", None, "a", "b"]
    assert got["text"].to_list() == ["x", "y", "z", None, "w"]
    assert got["flag"].to_list() == [True, False, True, True, False]


def test_an_index_of_times_is_the_time_column():
    index = pd.DatetimeIndex(HOURS)
    assert to_polars(pd.DataFrame({"y": range(5)}, index=index)).columns == ["time", "y"]
    named = pd.DataFrame({"y": range(5)}, index=index.rename("read at"))
    assert to_polars(named)["read at"].to_list() == HOURS


def test_row_numbers_are_no_column():
    frame = pd.DataFrame({"y": range(5)})
    assert to_polars(frame).columns == ["y"]
    assert to_polars(frame[frame.y > 1]).columns == ["y"]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"y": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, 2), (3, 4)])), "levels"),
        (pd.DataFrame(np.zeros((2, 2)), columns=["y", "y"]), "two columns 'y'"),
        (
            pd.DataFrame({"y": [1.5, "a"]}, dtype=object),
            "column 'y' holds float.*row 1.*str.*row 2",
        ),
        (pd.DataFrame({"t": [1]}, index=pd.Index([3], name="t")), "both named 't'"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame.*collect"),
    ],
)
def test_frames_that_cannot_be_read(frame, words):
    with pytest.raises(UserError, match=words):
        to_polars(frame)


@pytest.mark.parametrize(
    "template", [pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}), pa.table({"a": [1]})]
)
def test_the_same_kind_comes_out(template):
    out = like(template, {"time": HOURS, "y": [1.0, 2.0, 3.0, 4.0, 5.0]})
    assert type(out) is type(template)
    assert to_polars(out)["y"].to_list() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert to_polars(out)["time"].to_list() == HOURS
