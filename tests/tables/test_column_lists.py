"""Lists of columns: what is joined is split again, and lists without quotes are split at commas."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorycell.tables.column_lists import join_names, quoted_name, split_names, unused_note


@given(st.lists(st.text(min_size=1)))
def test_what_is_joined_is_split_again(names):
    assert list(split_names(join_names(names))) == names


@given(st.lists(st.text('ab," ', min_size=1), min_size=1))
def test_quotes_are_those_of_csv(names):
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerow(names)
    assert list(split_names(written.getvalue().removesuffix("\r\n"))) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, ()),
        ("", ()),
        ("a", ("a",)),
        (" a , b,,c,", ("a", "b", "c")),
        ('"a, b" , c', ("a, b", "c")),
        ('5" pipe,x', ('5" pipe', "x")),
    ],
)
def test_lists_that_people_write(text, names):
    assert split_names(text) == names


def test_most_names_need_no_quotes():
    assert quoted_name("load kW") == "load kW"
    assert quoted_name("load, kW") == '"load, kW"'


def test_columns_that_are_not_used_are_listed_up_to_eight():
    names = list("abcdefghi")
    assert unused_note([]) == []
    assert unused_note(names[:1]) == ["column not used by the model: 'a'"]
    (eight,) = unused_note(names[:8])
    assert eight.endswith("model: 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'")
    assert unused_note(names) == [f"{eight} and 1 more"]
