"""2,000 damaged models, states, spill folders and inputs, the same in every run; `make fuzz` runs
many more.
"""

import pytest
import torch
from mutations import mutate_bytes, mutate_container, mutate_json, mutate_text
from oracle import verdict
from subjects import NAMES, case

from memorycell.errors import DataError

CASES = {"model": 28, "session": 36, "state": 200, "spill": 100, "predict": 18, "items": 20}
"""Cases of every subject of a group."""
SLOW = {
    "model: anomaly": 10,
    "model: forecast panel": 10,
    "session: music": 12,
    "items: music": 1,
    "predict: music .musicxml": 8,
    "prepare": 2,
    "prepare: forecast": 1,
}
"""Exceptions, for what takes long."""


def count(name: str) -> int:
    """The number of cases of a subject."""
    group = name.split(":")[0]
    return SLOW.get(name, SLOW.get(group, CASES.get(group, 0)))


def test_there_are_enough_cases():
    assert sum(map(count, NAMES)) >= 2000


@pytest.mark.parametrize("name", NAMES)
def test_damaged_inputs_work_or_are_refused_in_one_line(name):
    wrong = {number: what for number in range(count(name)) if (what := case(name, number)[1])}
    assert not wrong


# ---- the oracle and the mutations can fail -------------------------------------------------------


def raising(error):
    """A check that raises."""

    def check():
        raise error

    return check


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("x"), "KeyError"),
        (RecursionError(), "RecursionError"),
        (MemoryError(), "MemoryError"),
        (DataError("two\nlines"), "not one line"),
        (DataError("\x1b[31m"), "not one line"),
        (DataError("x" * 300), "300 characters"),
        (DataError(""), "not one line"),
        (SystemExit(1), "SystemExit"),
    ],
)
def test_the_oracle_reports(error, words):
    assert words in verdict(raising(error))


def test_the_oracle_accepts_a_refusal_and_a_result():
    assert verdict(raising(DataError("row 3: not a number"))) is None
    assert verdict(lambda: None) is None


def test_the_oracle_bounds_memory():
    assert "Error" in verdict(lambda: torch.zeros(1 << 40))


def test_a_case_is_the_same_in_every_run():
    assert case("state: lstm", 3) == case("state: lstm", 3)
    assert case("state: lstm", 3)[0] != case("state: lstm", 4)[0]


def test_mutations_change_their_input():
    from random import Random

    raw = b'{"a": [1, 2.5, "x"], "b": {"c": null}}'
    for mutate in (mutate_bytes, mutate_text, mutate_container):
        assert sum(mutate(raw, Random(k)) != raw for k in range(100)) > 80
    values = {"a": [1, 2.5, "x"], "b": {"c": None}}
    assert len({mutate_json(values, Random(k)) for k in range(200)}) > 100
