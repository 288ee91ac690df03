"""What people give who have not read the docs: data as other libraries hold them, and mistakes."""

import copy
import datetime as dt
import decimal
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import memorycell

QUICK = {"epochs": 1, "hidden": 4, "progress": False, "baselines": False}
ROWS = 240
TIMES = pd.date_range("2024-01-01", periods=ROWS, freq="h")
LOAD = 10 + 3 * np.sin(np.arange(ROWS) * 2 * np.pi / 24)
DAYS = [dt.date(2023, 1, 1) + dt.timedelta(days=k) for k in range(ROWS)]
MINUTES = np.arange(ROWS) % 7


def train(data, **settings):
    return memorycell.train(
        "forecast", data, **{"target": "load", "horizon": 2, **QUICK, **settings}
    )


@pytest.mark.parametrize(
    ("frame", "kind", "first"),
    [
        (
            pd.DataFrame({"load": LOAD}, index=TIMES.tz_localize("Europe/Berlin")),
            "datetime64[us, Europe/Berlin]",
            pd.Timestamp("2024-01-11", tz="Europe/Berlin"),
        ),
        (
            pa.table(
                {
                    "at": pa.array(TIMES.tz_localize("UTC"), type=pa.timestamp("us", "UTC")),
                    "load": pa.array(
                        [decimal.Decimal(f"{v:.3f}") for v in LOAD], type=pa.decimal128(9, 3)
                    ),
                    "day": pa.array(DAYS, type=pa.date32()),
                    "shop": pa.array(["a", "b"] * (ROWS // 2)).dictionary_encode(),
                }
            ),
            "timestamp[us, tz=UTC]",
            dt.datetime(2024, 1, 11, tzinfo=dt.UTC),
        ),
        (
            pl.DataFrame(
                {
                    "day": DAYS,
                    "load": LOAD,
                    "wind": pl.Series(["n", "s"] * (ROWS // 2), dtype=pl.Enum(["n", "s"])),
                    "late": pl.Series(MINUTES).cast(pl.Duration("ms")),
                }
            ),
            "Date",
            DAYS[-1] + dt.timedelta(days=1),
        ),
        (
            pd.DataFrame(
                {
                    "at": TIMES.to_numpy().astype("datetime64[ns]"),
                    "load": pd.array(np.where(MINUTES == 6, None, LOAD), dtype="Float64"),
                    "count": pd.array(np.where(MINUTES == 3, None, MINUTES), dtype="Int64"),
                    "open": pd.array(np.where(MINUTES == 2, None, MINUTES > 3), dtype="boolean"),
                    "name": pd.array(np.where(MINUTES == 1, None, "x"), dtype="string"),
                    "grade": pd.Categorical(MINUTES % 3, ordered=True),
                }
            ),
            "datetime64[us]",
            pd.Timestamp("2024-01-11"),
        ),
    ],
    ids=["pandas index", "arrow", "polars", "pandas nullable"],
)
@pytest.mark.filterwarnings("ignore:columns? not used")
def test_frames_as_people_have_them(frame, kind, first):
    found = train(frame).predict(frame)
    assert type(found) is type(frame)
    times = found["time"]
    assert str(getattr(times, "dtype", None) or times.type) == kind
    value = times[0]
    assert (value.as_py() if hasattr(value, "as_py") else value) == first
    medians = np.array(found["median"], float)
    assert np.isfinite(medians).all()


def test_arrays_of_a_list_are_series_of_their_own():
    arrays = [LOAD, 5 * LOAD[:200]]
    model = train(arrays, target=None, scaling="series")
    found = model.predict(arrays)
    names = sorted({str(answer["series"]) for answer in found["forecasts"]})
    assert names == ["1", "2"]
    two = train([np.c_[LOAD, -LOAD], np.c_[LOAD, LOAD]], target="x1", inputs="x2")
    assert two.codec.group == "series"
    assert train([1.0, *LOAD], target=None, every="row").codec.group is None


@pytest.fixture(scope="module")
def model():
    return train(pd.DataFrame({"at": TIMES, "load": LOAD, "x": -LOAD}), inputs="x")


def test_columns_in_another_order_and_more_of_them(model):
    frame = pd.DataFrame({"at": TIMES, "load": LOAD, "x": -LOAD})
    expected = model.predict(frame)
    pd.testing.assert_frame_equal(model.predict(frame[["x", "load", "at"]]), expected)
    with pytest.warns(memorycell.DataWarning, match="not used by the model: 'more'"):
        pd.testing.assert_frame_equal(model.predict(frame.assign(more=1)), expected)
    pd.testing.assert_frame_equal(model.predict(frame.set_index("at")), expected)
    grown = pd.concat([frame, frame.tail(1).assign(at=TIMES[-1] + pd.Timedelta("1h"))])
    assert model.predict(grown)["time"][0] == TIMES[-1] + pd.Timedelta("2h")
    assert len(model.predict(frame, origins=3)) == 6


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pd.DataFrame({"when": TIMES, "y": LOAD}), "no columns 'load, x'; it has when, y"),
        (pd.DataFrame({"at": TIMES, "load": LOAD}), "no column 'x'"),
        (pd.DataFrame({"at": TIMES, "load": LOAD, "x": "?!"}), "row 1, column 'x': '[?]!' is not"),
    ],
)
def test_a_frame_of_another_schema_names_the_columns(model, data, words):
    with pytest.raises(memorycell.UserError, match=words):
        model.predict(data)


ONE = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("forecast", {"load": LOAD}, "not 'dict'; make a data frame"),
        (
            "forecast",
            pd.DataFrame({"load": [1, "a"] * 9, "at": TIMES[:18]}),
            "'load' holds a number [(]row 1[)] and text [(]row 2[)]",
        ),
        ("forecast", [[[1.0, 2.0], [3.0]]], "array 1: row 2 has 1 value, row 1 has 2"),
        ("sentiment", (["a"] * 5, ["x"] * 4), "5 texts and 4 labels"),
        ("translation", (["a"] * 5, ["x"] * 4), "5 sources and 4 targets"),
        ("chat", ["hello"], "dialogue 1 is 'hello'; a dialogue is a list of its turns"),
        ("speech", [((np.zeros(9), "x"), "a")], "sound 1: 'x' is not a sample rate"),
        ("handwriting", [([[[0, 1], [2]]], "a")], "drawing 1, stroke 1: point 2 has 1 value"),
        ("music", ["/none.mid"], "piece 1: '/none.mid' is no file"),
        ("sequences", ([ONE] * 3, ["a", None, "b"]), "label 2 is missing"),
    ],
)
def test_mistakes_are_one_line_that_names_the_place(task, data, words):
    with pytest.raises(memorycell.UserError, match=words) as error:
        memorycell.train(task, data, progress=False)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


def test_a_model_is_pickled_and_copied(model):
    frame = pd.DataFrame({"at": TIMES, "load": LOAD, "x": -LOAD})
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        pd.testing.assert_frame_equal(other.predict(frame), model.predict(frame))
        assert other.metrics == model.metrics
