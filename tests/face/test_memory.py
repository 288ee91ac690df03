"""Data in memory reach the readers of every application as the files that people have do."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import memorycell
from memorycell.application import catalogue
from memorycell.errors import UserError
from memorycell.face.memory import as_source
from memorycell.face.writers import write_sequences

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
    "video": [(RNG.random((24, 9, 11)), f"class {k % 2}") for k in range(40)],
    "drawing": [([RNG.normal(size=(9, 2)).cumsum(0)], f"s{k % 2}") for k in range(120)],
}


@pytest.mark.parametrize("task", DATA)
def test_every_reader_reads_them(task):
    application = catalogue.load(task)
    with as_source(application, DATA[task]) as source:
        dataset = application.prepare(source, application.settings())
        assert next(iter(dataset.batches(0))) is not None


TEXTS, LABELS = [text for text, _ in DATA["sentiment"]], [n for _, n in DATA["sentiment"]]
SERIES = [RNG.normal(size=(5, 2)) for _ in range(6)]
CLASSES = np.arange(6) % 2
SAME_DATA = {
    "a column of texts": ("text", DATA["text"], pd.Series(DATA["text"], name="x")),
    "a frame of texts": ("text", DATA["text"], pl.DataFrame({"text": DATA["text"]})),
    "an array of texts": ("text", DATA["text"], np.array(DATA["text"])),
    "texts and labels": ("sentiment", DATA["sentiment"], (TEXTS, LABELS)),
    "columns": ("sentiment", DATA["sentiment"], (pd.Series(TEXTS), pd.Series(LABELS))),
    "sides": ("translation", DATA["translation"], tuple(zip(*DATA["translation"], strict=True))),
    "an own index": ("sequences", (SERIES, CLASSES), (SERIES, pd.Series(CLASSES, range(9, 15)))),
    "frames": ("sequences", (SERIES, CLASSES), ([pd.DataFrame(x) for x in SERIES], CLASSES)),
    "tensors": (
        "sequences",
        (SERIES, CLASSES),
        (torch.tensor(np.stack(SERIES)), torch.tensor(CLASSES)),
    ),
}


@pytest.mark.parametrize("name", SAME_DATA)
def test_the_same_data_in_other_containers_are_the_same_file(name):
    task, expected, data = SAME_DATA[name]
    application = catalogue.load(task)
    contents = []
    for given in (expected, data):
        with as_source(application, given) as source:
            path = Path(source)
            contents.append(path.read_text() if path.suffix == ".txt" else pl.read_ipc(path).rows())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        (
            "text",
            "To be, or not to be\n" * 9,
            "'To be.*no such file or dataset; texts are given in a list",
        ),
        ("text", "x" * 1001, "no such file or dataset"),
        ("sequences", (SERIES, np.eye(6)), r"label 1 is array\(\[1., 0., .*: expected one value"),
        ("text", [], "and this has none"),
        ("handwriting", [([[0, 0], [1, 1]], "a")] * 3, "^data in memory: line 1: stroke 1"),
    ],
)
def test_what_cannot_be_read_is_said_without_a_temporary_name(task, data, words):
    with pytest.raises(UserError, match=words) as raised:
        memorycell.train(task, data, progress=False)
    assert "\n" not in str(raised.value)


def test_a_sound_without_a_label_is_recognised():
    sounds = DATA["speech"]
    model = memorycell.train("speech", sounds, progress=False, epochs=1, hidden=4)
    alone = model.predict(sounds[0][0])["recordings"]
    assert [one["file"] for one in alone] == ["data in memory"]
    together = model.predict([sound for sound, _ in sounds[:2]])["recordings"]
    assert together[0]["probabilities"] == alone[0]["probabilities"]
    assert len(together) == 2


def test_sequences_are_a_long_table(tmp_path):
    arrays = [RNG.normal(size=(k + 2, 3)) for k in range(3)]
    labels = ["a", "b", "a"]
    for data in ((arrays, labels), list(zip(arrays, labels, strict=True))):
        table = pl.read_ipc(write_sequences(data, tmp_path))
        assert table.columns == ["sequence", "label", "x1", "x2", "x3"]
        assert table["sequence"].to_list() == [1] * 2 + [2] * 3 + [3] * 4
        assert table["label"].to_list() == ["a"] * 2 + ["b"] * 3 + ["a"] * 4
        np.testing.assert_array_equal(table[:, 2:].to_numpy(), np.concatenate(arrays))
    with pytest.raises(ValueError, match="3 sequences and 2 labels"):
        write_sequences((arrays, labels[:2]), tmp_path)
    with pytest.raises(memorycell.UserError, match="label 2 is missing"):
        write_sequences((arrays, ["a", None, "b"]), tmp_path)


def test_unlabelled_sequences_are_predicted_as_those_with_labels():
    y = np.arange(40) % 2
    x = RNG.normal(size=(40, 6, 2)) + 2 * y[:, None, None]
    options = {"epochs": 1, "hidden": 4, "members": 1, "augment": "none", "progress": False}
    model = memorycell.train("sequences", (x, y), **options)
    answers = [model.predict(data)["sequences"] for data in (x, list(x), (x, y))]
    assert len(answers[0]) == 40
    assert answers[0] == answers[1] == answers[2]


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


def test_clips_in_memory_are_those_of_a_file(tmp_path):
    frames = RNG.integers(0, 256, (12, 7, 9, 11), np.uint8)
    np.save(tmp_path / "clips.npy", frames)
    options = {"epochs": 1, "hidden": 2, "context": 3, "horizon": 1, "progress": False}
    expected = memorycell.train("video", str(tmp_path / "clips.npy"), **options).metrics
    for data in (frames, list(frames / np.float32(255))):
        model = memorycell.train("video", data, **options)
        assert model.metrics == expected
    alone, listed = model.predict(frames[0], frames=2), model.predict([frames[0]], frames=2)
    assert alone["predicted"] == listed["predicted"]
    one = memorycell.train("video", RNG.random((80, 9, 11)), **options)
    assert one.metrics["mse"] > 0


def test_clips_with_labels_are_classified():
    clips = [(np.full((4 + k % 3, 8, 9), 255 * (k % 2), np.uint8), k % 2) for k in range(40)]
    options = {"epochs": 4, "hidden": 3, "goal": "class", "progress": False}
    model = memorycell.train("video", clips, **options)
    assert model.metrics["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (np.zeros((5, 4)), r"clip 1: float64 \[5, 4\]"),
        ([np.zeros((5, 4, 4)), (np.zeros((5, 4, 4)), "a")], "clip 1 has no label"),
        ([(np.zeros((5, 4, 4)), None)], "label 1 is missing"),
        ([np.zeros((5, 4, 4)), np.array([[["a"]]])], "clip 2: <U1"),
        (np.full((5, 4, 4), 7.0), "floats outside 0 … 1"),
        (np.zeros((5, 4, 4), int), "values of type int64"),
    ],
)
def test_clips_that_cannot_be_used(data, problem):
    with pytest.raises(UserError, match=problem) as caught:
        memorycell.train("video", data, epochs=1, progress=False)
    assert "memorycell-data" not in str(caught.value)
