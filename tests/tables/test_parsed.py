"""Columns of text that were read stand for their text."""

import numpy as np
import polars as pl
import pytest

from memorycell.errors import DataError
from memorycell.tables import time_patterns
from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import PLAIN, plain_values, read_numbers
from memorycell.tables.parsed import with_numbers, with_times
from memorycell.tables.table import read_table
from memorycell.tables.times import TimeColumns


def test_numbers_take_the_place_of_text_alone():
    frame = pl.DataFrame({"a": ["1.5", "2"], "b": [3, 4], "c": ["x", "y"]})
    read = with_numbers(frame, {"a": np.array([1.5, 2.0]), "b": np.array([0.0, 0.0])})
    assert read["a"].to_list() == [1.5, 2.0]
    assert read["b"].to_list() == [3, 4]
    assert read["c"].to_list() == ["x", "y"]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        (["2024-03-30 12:00", "2024-03-31 12:00"], None),
        (["30.03.2024 12:00", "31.03.2024 12:00"], "%d.%m.%Y %H:%M"),
        (["2024-03-30 12:00:00+05:00", "2024-03-31 12:00:00+05:00"], "%Y-%m-%d %H:%M:%S"),
        (["1711800000", "1711886400"], "s"),
    ],
)
def test_times_in_place_of_text_are_the_same_times(texts, pattern, zone):
    frame = pl.DataFrame({"t": texts})
    times = TimeColumns(("t",), pattern, zone)
    read = with_times(frame, times, "f")
    assert (read["t"].dtype == pl.Datetime("us")) == ("+" not in texts[0])
    np.testing.assert_array_equal(times.read(read, "f"), times.read(frame, "f"))


def test_times_in_two_columns_stay():
    frame = pl.DataFrame({"day": ["2024-03-30"], "hour": ["12:00"]})
    assert with_times(frame, TimeColumns(("day", "hour"), "%Y-%m-%d %H:%M"), "f") is frame


@pytest.mark.parametrize(
    "cells",
    [
        ["1.25", "-2", "3e5", None],
        ["1.25", "nan", "NA", "+4."],
        [" 1.25", "2 "],
        ["1.25", "(2.5)", "2.5-"],
        ["1.250", "12.500"],
    ],
)
def test_plain_numbers_are_read_as_by_float(cells):
    column = pl.Series("x", cells, pl.String)
    expected = [
        np.nan
        if c is None or c.lower() in ("nan", "na")
        else {"(2.5)": -2.5, "2.5-": -2.5}.get(c) or float(c)
        for c in cells
    ]
    np.testing.assert_array_equal(read_numbers(column, "f"), expected)
    whole = plain_values(column)
    if whole is not None:
        np.testing.assert_array_equal(whole.fill_null(np.nan).to_numpy(), expected)
    assert (whole is None) == any(c is not None and not _is_float(c) for c in cells)


def _is_float(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return cell == cell.strip()


def test_groups_of_three_digits_stay_in_doubt():
    frame = pl.DataFrame({"x": ["1.250", "12.500", "7"]})
    with pytest.raises(ValueError, match="two ways"):
        find_number_formats(frame, ["x"], "f")
    assert find_number_formats(pl.DataFrame({"x": ["1.25", "12.5"]}), ["x"], "f")[0] == {"x": PLAIN}


def test_one_line_too_short_and_one_too_long_are_not_a_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,2,3\n4,5\n6,7,8,9\n")  # as many commas as an even table
    with pytest.raises(DataError, match="row 2"):
        read_table(path)
    path.write_text("a,b,c\n1,2,3\n4,,6\n,,9\n")
    assert read_table(path).rows() == [("1", "2", "3"), ("4", None, "6"), (None, None, "9")]


def test_one_cell_of_many_tells_day_and_month_apart(monkeypatch):
    monkeypatch.setattr(time_patterns, "MAX_SHARE_ROWS", 4)
    days = [f"0{1 + k % 9}/0{1 + k % 7}/2024" for k in range(40)]
    with pytest.raises(DataError, match="day and month"):
        time_patterns.find_pattern(pl.Series("t", days), "f", named=True, any_number=False)
    days[17] = "05/28/2024"
    found = time_patterns.find_pattern(pl.Series("t", days), "f", named=True, any_number=False)
    assert found == "%m/%d/%Y"
