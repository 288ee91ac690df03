"""Numbers as people write them: found by the column's own pattern, read the same way live."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorycell.errors import DataError
from memorycell.setting_fields import from_json
from memorycell.tables.number_formats import check_separators, find_number_formats
from memorycell.tables.numbers import (
    PLAIN,
    NumberFormat,
    number_text,
    parse_number,
    read_number,
    read_numbers,
)


def find(cells, **settings):
    """(format or None, notes) of one column."""
    frame = pl.DataFrame({"x": cells}, schema={"x": pl.String})
    formats, notes = find_number_formats(frame, ["x"], "t.csv", **settings)
    return formats.get("x"), notes


def values(cells, **settings):
    """The numbers of a column, read as a whole and cell by cell."""
    number_format, _ = find(cells, **settings)
    whole = read_numbers(pl.Series("x", cells, dtype=pl.String), "t.csv", number_format)
    live = [read_number({"x": cell}, "x", "row", number_format) for cell in cells]
    np.testing.assert_array_equal(whole, live)
    return whole.tolist()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.5", "2", "-3.25"], [1.5, 2, -3.25]),
        (["1,5", "2", "-3,25"], [1.5, 2, -3.25]),
        (["1.025,50", "991"], [1025.5, 991]),
        (["1,025.50", "991"], [1025.5, 991]),
        (["1.234.567", "12"], [1_234_567, 12]),
        (["12,34,567.5", "1,000"], [1_234_567.5, 1000]),
        (["1 025,5", "3"], [1025.5, 3]),
        (["1\u202f025,5", "1\u00a0000"], [1025.5, 1000]),
        (["1'025.5", "1’000"], [1025.5, 1000]),
        (["0,123", "1,234"], [0.123, 1.234]),
        (["0.123", "1.234"], [0.123, 1.234]),
        (["1500", "1.025"], [1500, 1.025]),
        (["12.5 kWh", "3 kWh", "0"], [12.5, 3, 0]),
        (["12 %", "13.5%"], [12, 13.5]),
        (["5 W/m2", "6 W/m2"], [5, 6]),
        (["-3 °C", "12.5 °C"], [-3, 12.5]),
        (["€ 12", "€ 1.025,50"], [12, 1025.5]),
        (["$1,025.50", "-$3.00", "($4.00)"], [1025.5, -3, -4]),
        (["EUR 12", "EUR 7,5"], [12, 7.5]),
        (["1e-3", "2E5", "+4"], [1e-3, 2e5, 4]),
        (["1,5e3", "2"], [1500, 2]),
        (["\u22125.5", "(2)", "3-"], [-5.5, -2, -3]),
        (["True", "False", "TRUE"], [1, 0, 1]),
        (["yes", "no"], [1, 0]),
        (["1.", ".5"], [1, 0.5]),
    ],
)
def test_ways_to_write_a_number(cells, expected):
    assert values([*cells, "", "NA"])[: len(expected)] == expected
    assert np.isnan(values([*cells, "", "NA"])[-2:]).all()


@pytest.mark.parametrize(
    "cells",
    [
        ["a1", "a2"],
        ["2024-01-01", "2024-01-02"],
        ["01/02/2024", "02/02/2024"],
        ["12:30", "13:30"],
        ["1_000", "2_000"],
        ["inf", "nan"],
        ["1a2b", "3c4d"],
        ["", "NA"],
        ["yes", "false"],
        ["run", "idle"],
        [".", ","],
        ["1.2.3", "4.5.6"],
    ],
)
def test_what_is_not_a_column_of_numbers(cells):
    assert find(cells) == (None, [])


def test_what_was_found_is_said():
    assert find(["1,5", "2"])[1] == ["column 'x': decimal comma"]
    assert find(["12.5 kWh", "3 kWh"])[1] == ["column 'x': unit 'kWh'"]
    assert find(["true", "false"])[1] == ["column 'x': words read as 1 and 0"]
    assert find(["1.5", "2"]) == (PLAIN, [])
    assert "1.025 read with a decimal point" in find(["1.025", "2.125"])[1][0]


GROUPED = [f"{k / 1000:.3f}" for k in range(1001, 1200) if k % 10] + ["991", "87"]


def test_points_beside_whole_numbers_group_thousands():
    """No decimal of 180 ends in zero: these are groups of three digits."""
    number_format, notes = find(GROUPED)
    assert number_format == NumberFormat(",", ".")
    assert notes == ["column 'x': 1.001 read as 1001; else --set decimal=."]
    assert values(GROUPED)[0] == 1001
    assert values(GROUPED, decimal=".")[0] == 1.001
    assert values(GROUPED, thousands="none")[0] == 1.001
    commas = [cell.replace(".", ",") for cell in GROUPED]
    assert values(commas)[0] == 1001
    assert values(commas, decimal=",")[0] == 1.001


@pytest.mark.parametrize("cells", [["1.025", "991"], ["1,025", "991"], ["1,025", "2,500"]])
def test_what_can_be_read_in_two_ways_is_refused(cells):
    with pytest.raises(DataError, match=r"column 'x': '1.025' can be read in two ways.*--set"):
        find(cells)
    assert {values(cells, decimal=d)[0] for d in (".", ",")} == {1.025, 1025}
    thousands = "." if "." in cells[0] else ","
    assert values(cells, thousands=thousands)[0] == 1025


def test_the_other_columns_decide():
    frame = pl.DataFrame({"x": ["1.025", "2.500"], "y": ["0,5", "1,25"], "z": ["0.5", "1.25"]})
    formats, _ = find_number_formats(frame, ["x", "y"], "t.csv")
    assert read_numbers(frame["x"], "t", formats["x"]).tolist() == [1025, 2500]
    formats, _ = find_number_formats(frame, ["x", "z"], "t.csv")
    assert read_numbers(frame["x"], "t", formats["x"]).tolist() == [1.025, 2.5]
    frame = pl.DataFrame({"x": GROUPED, "z": ["0.5"] * len(GROUPED)})
    with pytest.raises(DataError, match="two ways"):
        find_number_formats(frame, ["x", "z"], "t.csv")


def test_a_cell_of_another_format_is_named_with_its_row():
    cells = ["1,5"] * 5 + ["2.5"]
    column = pl.Series("load", cells)
    number_format, _ = find(cells)
    with pytest.raises(DataError, match=r"row 6, column 'load': '2\.5'.*\(decimal comma\)"):
        read_numbers(column, "t.csv", number_format)
    with pytest.raises(DataError, match=r"column 'load': '2\.5' is not a finite number"):
        read_number({"load": "2.5"}, "load", "line 3", number_format)
    with pytest.raises(DataError, match="row 1.*infinite"):
        read_numbers(pl.Series("x", ["1e999"]), "t.csv")
    with pytest.raises(DataError, match="no column 'x'; it has y"):
        read_number({"y": 1}, "x", "row")


def test_typed_numbers_ignore_the_format():
    comma = NumberFormat(",", ".")
    assert read_number({"x": 1.025}, "x", "row", comma) == 1.025
    assert read_numbers(pl.Series("x", [1.025, None]), "t", comma)[0] == 1.025


def test_true_is_a_number_only_in_a_column_of_words():
    frame = pl.DataFrame({"x": [True, False, None]})
    formats, notes = find_number_formats(frame, ["x"], "t")
    assert notes == []
    assert parse_number(True, formats["x"]) == 1
    with pytest.raises(ValueError, match="true or false"):
        parse_number(True)
    with pytest.raises(DataError, match="column 'x': True is not a finite number"):
        read_number({"x": True}, "x", "row")


class NAType:
    """As pandas.NA: comparing gives itself, which is neither true nor false."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise TypeError("ambiguous")

    __hash__ = None


@pytest.mark.parametrize("value", [None, "", " NaN ", math.nan, np.float32("nan"), NAType()])
def test_missing_values(value):
    assert math.isnan(parse_number(value))


@pytest.mark.parametrize("value", [[1], {}, object(), "x", float("inf"), 10**400])
def test_what_is_no_number_live_is_one_error(value):
    with pytest.raises(DataError, match="column 'x'"):
        read_number({"x": value}, "x", "row")


@given(
    number=st.decimals(-(10**9), 10**9, places=2),
    decimal=st.sampled_from(".,"),
    thousands=st.sampled_from(["", " ", "'", ".", ","]),
    unit=st.sampled_from(["", "kWh", "%", "€"]),
)
def test_a_written_number_reads_back(number, decimal, thousands, unit):
    if decimal == thousands:
        return
    text = f"{number:,.2f}".replace(",", "_").replace(".", decimal).replace("_", thousands)
    text = f"{text} {unit}".strip()
    number_format = NumberFormat(decimal, thousands, unit)
    assert parse_number(text, number_format) == float(number)
    column = pl.Series("x", [text])
    assert read_numbers(column, "t", number_format).tolist() == [float(number)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_is_exact(number):
    assert float(number_text(number)) == number


def test_the_text_of_a_number_is_short():
    assert [number_text(x) for x in (1237445.25, 3.0, -0.1, 1e300)] == [
        "1237445.25",
        "3",
        "-0.1",
        "1e+300",
    ]


def test_a_format_from_a_file_is_checked():
    stored = dataclasses.asdict(NumberFormat(",", ".", "kWh"))
    assert from_json(NumberFormat, stored) == NumberFormat(",", ".", "kWh")
    for change in (
        {"decimal": "x"},
        {"thousands": ","},
        {"unit": "x" * 17},
        {"unit": 3},
        {"words": 1},
        {"more": 1},
    ):
        with pytest.raises(ValueError):
            from_json(NumberFormat, {**stored, **change})


def test_settings_of_separators():
    check_separators(",", "space")
    for decimal, thousands in ((";", None), (None, "_"), (".", ".")):
        with pytest.raises(ValueError):
            check_separators(decimal, thousands)
