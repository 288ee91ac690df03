"""Rows of a live table: byte order marks, nested JSON, quotation marks; columns of row numbers."""

import polars as pl
import pytest

from memorycell.errors import DataError
from memorycell.tables.index import unused_reason
from memorycell.tables.rows import RowReader


def test_a_byte_order_mark_and_line_ends():
    rows = RowReader(["time", "load"])
    assert rows.read("\ufefftime;load\r\n") is None
    assert rows.read("1;2,5\r") == ({"time": "1", "load": "2,5"}, "stdin, line 2")
    rows = RowReader(["time", "load"])
    assert rows.read("\ufefftime,load\n".encode()) is None
    assert rows.read("\r\n") is None
    assert rows.read('\ufeff{"time": 1, "load": 2}') == ({"time": 1, "load": 2}, "stdin, line 3")


def test_nested_objects_are_columns_as_in_a_file():
    rows = RowReader(["a.b"])
    assert rows.read('{"a": {"b": 1, "c": {"d": 2}}}')[0] == {"a.b": 1, "a.c.d": 2}
    assert rows.read({"a": {"b": 1}, "x": 2})[0] == {"a.b": 1, "x": 2}


@pytest.mark.parametrize(
    "line",
    ['{"a": 1', '{"a": ' + "[" * 100_000, "1,2,3", 'x,"y', "x\ry,1", "x," + "y" * 200_000 + ",z"],
)
def test_a_wrong_line_is_one_error(line):
    rows = RowReader(["a", "b"])
    rows.read("a,b")
    with pytest.raises(DataError, match="line 2") as caught:
        rows.read(line)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    assert rows.read("1,2")[0] == {"a": "1", "b": "2"}


def test_quotation_marks_in_tabs():
    rows = RowReader(["text", "n"])
    rows.read("text\tn")
    assert rows.read('"Wow" said\t1')[0] == {"text": '"Wow" said', "n": "1"}
    assert rows.read('"a b"\t1')[0] == {"text": "a b", "n": "1"}


@pytest.mark.parametrize(
    ("name", "cells", "reason"),
    [
        ("", ["0", "1", "2"], "an unnamed index"),
        ("Unnamed: 0", [0, 1, 2], "an unnamed index"),
        ("Unnamed: 0", [0, 1, 2, 0, 1], "an unnamed index"),
        ("index", [5.0, 6.0, 7.0], "an unnamed index"),
        ("id", [1, 2, 3], "a counter of the rows"),
        ("id", ["17", "18", "19"], "a counter of the rows"),
        ("id", [0, 1, 2, 0, 1], None),
        ("y", [1, 2, 4], None),
        ("y", [3, 2, 1], None),
        ("y", [1.5, 2.5, 3.5], None),
        ("y", ["1", "2", None], None),
        ("y", ["a", "b", "c"], None),
        ("y", [1, 2], None),
        ("y", [True, False, True], None),
        ("y", [[1], [2], [3]], None),
        ("y", [2.0**60, 2.0**60, 2.0**60], None),
    ],
)
def test_columns_that_number_the_rows(name, cells, reason):
    assert unused_reason(pl.Series(name, cells)) == reason
