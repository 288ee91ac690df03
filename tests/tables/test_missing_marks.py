"""How other programs mark missing values."""

import numpy as np
import polars as pl
import pytest

from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import parse_number, read_numbers
from memorycell.tables.table import read_table


@pytest.mark.parametrize("word", [r"\N", "#N/A", ".", "NULL", "<NA>"])
def test_words_for_a_missing_value(word):
    column = pl.Series("x", ["1.5", word, "2"])
    formats, notes = find_number_formats(column.to_frame(), ["x"], "t")
    np.testing.assert_array_equal(read_numbers(column, "t", formats["x"]), [1.5, np.nan, 2])
    assert np.isnan(parse_number(word))
    assert notes == []


@pytest.mark.parametrize(
    ("marks", "others", "value"),
    [
        ([-9999, -9999], [20.5, 21], "-9999"),
        ([-999.9, -999.9, -9999], [0, 30], "-999.9"),
        ([99999.0] * 2, [1000, 2000], "99999"),
        ([-9999], [20.5, 21], None),  # once
        ([9999, 9999], [9000, 12000], None),  # among the others
        ([-999, -999], [-2000, 500], None),
        ([-9999, -9999], [], None),  # no others
    ],
)
@pytest.mark.parametrize("dtype", [pl.String, pl.Float64])
def test_numbers_that_may_mark_missing_values_are_said(marks, others, value, dtype):
    column = pl.Series("x", [float(v) for v in [*others, *marks, *others]]).cast(dtype)
    notes = find_number_formats(column.to_frame(), ["x"], "t")[1]
    if value is None:
        assert notes == []
    else:
        count = marks.count(float(value))
        assert notes[0].startswith(f"column 'x': {value} occurs {count} times, far from the other")


def test_a_last_row_with_a_time_beyond_the_year_9999_is_read(tmp_path):
    far = (20291 - 1970) * 31_556_952 * 1_000_000  # microseconds
    frame = pl.DataFrame({"t": pl.Series([0, far]).cast(pl.Datetime("us")), "y": [1.0, 2.0]})
    frame.write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").height == 2
