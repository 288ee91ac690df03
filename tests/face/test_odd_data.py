"""Data in containers that few people use, mistakes, and a model's own data in memory."""

import array
import collections
import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from quick import QUICK

import memorycell
from memorycell.application import catalogue
from memorycell.errors import DataError, UserError
from memorycell.face.memory import as_input, as_source
from memorycell.face.recording_writers import write_clips
from memorycell.face.writers import write_series

SMALL = {**QUICK, "baselines": False}
NUMBERS = np.arange(40) % 7 / 4


def column(data):
    with as_source(catalogue.load("forecast"), data) as source:
        return pl.read_ipc(source)["value"].to_list()


@pytest.mark.parametrize(
    "data",
    [
        NUMBERS.astype(np.longdouble),
        torch.tensor(NUMBERS).bfloat16(),
        torch.tensor(NUMBERS, requires_grad=True),
        array.array("d", NUMBERS),
        memoryview(NUMBERS),
        collections.deque(NUMBERS.tolist()),
        [np.float32(x) for x in NUMBERS],
        pd.arrays.SparseArray(NUMBERS),
    ],
    ids=lambda data: type(data).__name__,
)
def test_numbers_in_other_containers(data):
    if isinstance(data, pd.arrays.SparseArray):
        data = pd.Series(data)
    assert column(data) == NUMBERS.tolist()


def test_ranges_are_numbers():
    assert column(range(3, 9)) == [3, 4, 5, 6, 7, 8]


def test_what_is_masked_is_missing(tmp_path):
    """It was read as if it were not masked."""
    masked = np.ma.masked_array([1, 2, 3, 4], mask=[False, True, False, True])
    table = pl.read_ipc(write_series(masked, tmp_path))
    np.testing.assert_array_equal(table["value"], [1.0, np.nan, 3.0, np.nan])


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("forecast", b"abc", "not 'bytes'$"),
        ("forecast", (x for x in NUMBERS), "not 'generator'; make a list of it$"),
        ("sentiment", zip("ab", "cd", strict=True), "not 'zip'; make a list of it$"),
        ("sentiment", [{"text": "a", "label": "b"}] * 9, "row 1 is a dict; make a data frame"),
        ("chat", [["a", 1]], "dialogue 1, turn 2 is 1: expected text"),
        ("handwriting", [([[[0, np.nan]]], "a")], "drawing 1: a coordinate is no finite number"),
    ],
)
def test_mistakes_in_training_data(task, data, words):
    with pytest.raises(UserError, match=words) as raised:
        memorycell.train(task, data, progress=False)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("sequences", (x for x in np.ones((4, 5))), "a list of arrays .*; make a list of it$"),
        ("sequences", {"a": NUMBERS}, "not 'dict'; make a data frame of its columns"),
        ("speech", 5, "takes a path, the name of a dataset or .samples, sample rate in Hz.*'int'$"),
        ("speech", NUMBERS, "samples without their rate"),
        ("handwriting", b"abc", "not 'bytes'$"),
        ("music", ["a.mid", "b.mid"], "predict reads one piece; got 2"),
        ("text", b"abc", "predict takes a text, .* not 'bytes'"),
    ],
)
def test_mistakes_in_data_to_predict(task, data, words):
    """A generator of sequences lost its first one."""
    application = catalogue.load(task)
    with (
        pytest.raises(UserError, match=words),
        as_input(application, application.predict_reads, data),
    ):
        pass


def test_a_clip_in_colour_is_not_many_clips(tmp_path):
    with pytest.raises(ValueError, match=r"clip 1: \[6, 9, 8, 3\] is a clip in colour"):
        write_clips([np.zeros((6, 9, 8, 3), np.uint8)], tmp_path)


def test_dialogues_with_their_key(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    application = catalogue.load("chat")
    contents = []
    for data in ([turns] * 3, [{"messages": turns}] * 3, [["a", "b"]] * 3):
        with as_source(application, data) as source, open(source) as file:
            contents.append(file.read())
    assert contents[0] == contents[1] == contents[2]


def test_a_series_without_values_has_no_forecast(forecaster, load_frame):
    with pytest.raises(DataError, match="no row has a value of 'load'"):
        forecaster.predict(load_frame.assign(load=np.nan))


@pytest.mark.parametrize("item", [12.5, None, ["a"], {1, 2}])
def test_items_that_no_session_reads(forecaster, item):
    session = forecaster.session()
    before = session.snapshot()
    with pytest.raises(DataError, match="expected a row or a line of text, got"):
        session.feed(item)
    assert session.snapshot() == before


RNG = np.random.default_rng(0)
WORDS = [(f"{'good' if k % 2 else 'bad'} day {k}", "ab"[k % 2]) for k in range(120)]
SOUNDS = [((RNG.normal(size=4000) * 0.1, 8000), f"w{k % 2}") for k in range(60)]
CLIPS = (255 * RNG.random((30, 8, 12, 16))).astype(np.uint8)
OWN = {
    "sentiment": (WORDS, {"embedding": 4, "pairs": False, "mix": "no"}),
    "speech": (SOUNDS, {}),
    "video": (CLIPS, {"context": 5, "horizon": 3}),
}


@pytest.mark.parametrize("task", OWN)
def test_a_model_is_looked_into_on_its_own_data_in_memory(task):
    """Pairs were read as texts, and the folder of sounds as a recording."""
    data, settings = OWN[task]
    model = memorycell.train(task, data, **settings, **SMALL)
    found = model.inspect()
    assert "memorycell-data" not in found.title
    assert model.figure("gates") is not None
    assert copy.deepcopy(model).inspect().title == found.title
    without = pickle.loads(pickle.dumps(model))
    with pytest.raises(UserError, match="^it was trained on data in memory: give the data again"):
        without.inspect()
    if task == "video":
        assert len(model.predict()["predicted"]) == 3
        assert "memorycell-data" not in str(model.predict())
        with pytest.raises(UserError, match="^it was trained on data in memory: give the data"):
            without.predict()
