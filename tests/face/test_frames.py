"""Data frames of every library, against polars' own reading of the same values."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from memorycell.errors import UserError
from memorycell.face.frames import as_frame, is_frame, like, to_polars

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


def test_an_index_of_periods_or_of_texts_with_times_is_the_time_column():
    periods = pd.period_range("2024-03-31", periods=5, freq="h")
    begins = [time.replace(tzinfo=None) for time in HOURS]
    assert to_polars(pd.DataFrame({"y": range(5)}, index=periods))["time"].to_list() == begins
    column = pd.DataFrame({"t": pd.Series(periods), "y": range(5)})
    assert to_polars(column)["t"].to_list() == begins
    texts = [time.isoformat() for time in HOURS]
    assert to_polars(pd.DataFrame({"y": range(5)}, index=texts))["time"].to_list() == texts
    assert to_polars(pd.DataFrame({"y": range(5)}, index=list("abcde"))).columns == ["y"]


@pytest.mark.parametrize("zone", ["+05:30", timezone(timedelta(hours=-3))])
def test_times_with_an_offset_are_the_same_instants(zone):
    frame = pd.DataFrame({"time": pd.to_datetime(HOURS).tz_convert(zone)})
    assert to_polars(frame)["time"].to_list() == HOURS


def test_names_that_are_numbers():
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], columns=["y", 7])
    assert to_polars(frame).to_dict(as_series=False) == {"y": [1.0, 3.0], "7": [2.0, 4.0]}


def test_numbers_of_several_types():
    whole_and_not = pd.Series([1, 2.5, None, np.float32(0.5)], dtype=object)
    assert to_polars(pd.DataFrame({"y": whole_and_not}))["y"].to_list() == [1.0, 2.5, None, 0.5]
    decimals = pd.DataFrame({"y": [Decimal("1.25"), Decimal("2.50")]})
    assert to_polars(decimals)["y"].cast(pl.Float64).to_list() == [1.25, 2.5]


@pytest.mark.parametrize(
    ("data", "library"),
    [
        (pa.RecordBatch.from_pydict({"value": [1.5, 2.5]}), "pyarrow"),
        (pa.array([1.5, 2.5]), "pyarrow"),
        (pa.chunked_array([[1.5], [2.5]]), "pyarrow"),
        (pl.Series([1.5, 2.5]), "polars"),
        (pd.Series([1.5, 2.5]), "pandas"),
        (np.array([(1.5,), (2.5,)], [("value", float)]), "polars"),
    ],
)
def test_batches_and_arrays_are_frames(data, library):
    frame = as_frame(data)
    assert type(frame).__module__.startswith(library)
    assert to_polars(frame).to_dict(as_series=False) == {"value": [1.5, 2.5]}


def test_structured_arrays_keep_their_times():
    data = np.array([("2024-03-31T00", 1)], [("t", "M8[h]"), ("y", int)])
    assert to_polars(as_frame(data))["t"].to_list() == [HOURS[0].replace(tzinfo=None)]


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
            "column 'y' holds a number.*row 1.*text.*row 2",
        ),
        (pd.DataFrame({"t": [1]}, index=pd.Index([3], name="t")), "both named 't'"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame.*collect"),
        (pd.DataFrame({"z": [1j, 2j]}), "column 'z' holds complex .row 1.*leave the column out"),
        (pl.DataFrame({"z": pl.Series([print], dtype=pl.Object)}), "column 'z' holds builtin"),
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


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_dates_come_out_where_dates_went_in(library):
    template = library({"day": [date(2024, 3, 30), date(2024, 3, 31)]})
    out = to_polars(like(template, {"time": ["2024-04-01 00:00:00"]}))
    assert out["time"].to_list() == [date(2024, 4, 1)]
    out = to_polars(like(template, {"time": ["2024-04-01 12:00:00"]}))
    assert out["time"].to_list() == [datetime(2024, 4, 1, 12)]
