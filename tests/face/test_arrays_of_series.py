"""Arrays of a model that was trained on several of them, and pairs of data for a model."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from quick import QUICK

import memorycell
from memorycell.errors import UserError
from memorycell.face.writers import WRITERS, write_sequences

SMALL = {**QUICK, "baselines": False}
STEPS = np.arange(240)
FIRST = 10 + 3 * np.sin(STEPS * 2 * np.pi / 24)


@pytest.fixture(scope="module")
def model():
    both = [FIRST, 50 * FIRST[:200]]
    return memorycell.train("forecast", both, horizon=2, scaling="series", **SMALL)


def forecasts(model, data):
    return {f["series"]: f["forecast"]["value"] for f in model.predict(data)["forecasts"]}


def test_one_array_is_a_new_series_on_its_own_scale(model):
    """Until now: no column 'series'."""
    assert model.codec.own.keys() == {"1", "2"}
    other = 7000 * FIRST[:120]
    (name, found), = forecasts(model, other).items()  # fmt: skip
    assert name == "new"
    assert 30_000 < np.min(found["median"]) < np.max(found["median"]) < 120_000
    notes = model.predict(other)["notes"]
    assert notes == ["1 series that were not in training, scaled by their own rows: new"]
    frame = pl.DataFrame({"series": "new", "value": other})
    with pytest.warns(memorycell.DataWarning, match="scaled by their own rows: new"):
        table = model.predict(frame)
    np.testing.assert_array_equal(table["median"], found["median"])
    for same in (other.tolist(), tuple(other), other.astype(">f8"), other[:, None]):
        assert forecasts(model, same) == {"new": found}


def test_arrays_of_a_list_are_those_of_the_training_in_order(model):
    both = forecasts(model, [FIRST, 50 * FIRST[:200]])
    assert both.keys() == {"1", "2"}
    alone = forecasts(model, [FIRST])
    assert alone.keys() == {"1"}
    for name, values in alone["1"].items():
        np.testing.assert_allclose(values, both["1"][name], rtol=1e-6)


def test_it_is_evaluated_and_looked_into_on_one_array(model):
    assert model.evaluate(FIRST)["metrics"]["crps"] > 0
    assert model.inspect(FIRST).figure() is not None
    assert list(model.figures(FIRST))


def test_a_model_of_one_array_has_no_series():
    numbers = [1.0, *FIRST]
    one = memorycell.train("forecast", numbers, horizon=2, **SMALL)
    assert one.codec.group is None
    assert "series" not in one.predict(FIRST)["forecasts"][0]
    for use in (one.predict, one.evaluate, one.backtest):
        with pytest.raises(UserError, match="of one series, and these are 2 arrays: give one"):
            use([FIRST, FIRST])
    numbers[7] = None
    gaps = memorycell.train("forecast", numbers, horizon=2, **SMALL)
    assert "value: 1 of 241 values missing" in gaps.notes


A, B = np.ones((5, 3)), np.zeros((4, 3))


@pytest.mark.parametrize(
    "data",
    [
        ([A, B], ["u", "v"]),
        [[A, B], ["u", "v"]],
        ((A, B), np.array(["u", "v"])),
        [(A, "u"), (B, "v")],
        [[A, "u"], (B, "v")],
        ((A, "u"), (B, "v")),
        ([A.tolist(), B.tolist()], pd.Series(["u", "v"], [8, 9])),
        ([pd.DataFrame(A), pl.DataFrame(B)], ["u", "v"]),
    ],
    ids=range(8),
)
def test_two_sequences_and_two_targets(data, tmp_path):
    """(X, y) of two sequences was read as two pairs."""
    table = pl.read_ipc(write_sequences(data, tmp_path))
    assert table["label"].to_list() == ["u"] * 5 + ["v"] * 4
    np.testing.assert_array_equal(table[:, 2:].to_numpy(), np.concatenate([A, B]))


def test_two_of_everything(tmp_path):
    """Two sequences of two steps, and rows of a frame."""
    x = np.arange(4.0).reshape(2, 2)
    for own in (x, x.tolist(), pd.DataFrame(x, columns=["u", "v"]), pl.DataFrame(x)):
        table = pl.read_ipc(write_sequences((own, [7, 8]), tmp_path))
        assert table.rows() == [(1, 7, 0.0), (1, 7, 1.0), (2, 8, 2.0), (2, 8, 3.0)]


def test_a_tuple_of_two_arrays_is_two_sequences_to_predict():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.normal(size=(40, 6)) + 2 * y[:, None]
    settings = {"members": 1, "augment": "none", **SMALL}
    model = memorycell.train("sequences", (x, y), **settings)
    expected = model.predict(x[:2])["sequences"]
    assert len(expected) == 2
    for same in ((x[0], x[1]), [x[0], x[1]], (x[:2], y[:2]), [(x[0], 0), (x[1], 1)]):
        assert model.predict(same)["sequences"] == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", "x"), ("b", "y")], [("a", "x"), ("b", "y")]),
        ((["a", "b"], ["x", "y"]), [("a", "x"), ("b", "y")]),
        ((np.array(["a", "b"], object), ["x", "y"]), [("a", "x"), ("b", "y")]),
        ((pd.Series(["a", "b"]), pl.Series(["x", "y"])), [("a", "x"), ("b", "y")]),
    ],
    ids=range(4),
)
def test_two_texts_and_two_labels(rows, expected, tmp_path):
    assert pl.read_ipc(WRITERS["labelled"](rows, tmp_path)).rows() == expected


@pytest.mark.parametrize("rows", [[["a", "x"], ["b", "y"]], (("a", "x"), ("b", "y"))], ids=range(2))
def test_what_could_be_either_is_refused(rows):
    words = re.escape("two rows, or two columns? give a frame with the columns text, label")
    with pytest.raises(UserError, match=words):
        memorycell.train("sentiment", rows, progress=False)
