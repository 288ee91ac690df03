"""Data in memory reach the readers of every application as the files that people have do."""

import numpy as np
import pytest

import memorycell
from memorycell.application import catalogue
from memorycell.errors import UserError
from memorycell.face.memory import as_source

RNG = np.random.default_rng(0)
WORDS = ("a panda eats bamboo", "a crane stands still", "a kiwi sleeps all day", "the eagle flies")
LETTERS = "abcdefghijklmnopqr"
DATA = {
    "text": [f"{WORDS[k % 4]} on day {k}." for k in range(300)],
    "sentiment": [(f"{'good' if k % 2 else 'bad'} day {k}", k % 2) for k in range(200)],
    "translation": [
        (f"the day {a}{b} is long", f"der Tag {a}{b} ist lang") for a in LETTERS for b in LETTERS
    ],
    "chat": [[f"is day {k} long?", f"day {k} is long", "why?", "it is"] for k in range(300)],
    "speech": [((RNG.normal(size=4000) * 0.1, 8000), f"w{k % 2}") for k in range(120)],
    "handwriting": [([RNG.normal(size=(9, 2)).cumsum(0)], f"s{k % 2}") for k in range(120)],
    "drawing": [([RNG.normal(size=(9, 2)).cumsum(0)], f"s{k % 2}") for k in range(120)],
}


@pytest.mark.parametrize("task", DATA)
def test_every_reader_reads_them(task):
    application = catalogue.load(task)
    with as_source(application, DATA[task]) as source:
        dataset = application.prepare(source, application.settings())
        assert next(iter(dataset.batches(0))) is not None


def test_arrays_are_series():
    application = catalogue.load("forecast")
    arrays = [RNG.normal(size=200).cumsum(), RNG.normal(size=150).cumsum()]
    settings = application.settings(target="value", group="series", horizon=2)
    with as_source(application, arrays) as source:
        dataset = application.prepare(source, settings)
    assert dataset.series.groups == ["1", "2"]
    assert len(dataset.series) == 350


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("forecast", [np.zeros((2, 2, 2))], r"array 1: float64 \[2, 2, 2\]"),
        ("forecast", [["a"]], "array 1"),
        ("sentiment", ["no label"], "a list of .text, label."),
        ("speech", [(np.zeros(3), "x")], "samples, sample rate"),
        ("text", [], "a list of strings"),
        ("music", ["none.mid"], "none.mid"),
    ],
)
def test_other_data_are_refused_in_one_line(task, data, words):
    with pytest.raises(UserError, match=words) as raised:
        memorycell.train(task, data, progress=False)
    assert "\n" not in str(raised.value)
