"""Forecasts of tables that are not the training file: several origins, grown and new series, known
futures, other orders of columns; as polars and pandas frames.
"""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest

import memorycell
from memorycell.errors import UserError

ROWS, HORIZON = 130, 4
START = datetime(2026, 1, 1)


def shop(name, level, rows=ROWS, seed=0):
    """Hourly sales with a promotion that doubles them."""
    rng = np.random.default_rng(seed)
    promotion = (rng.random(rows) < 0.2).astype(float)
    wave = 1 + 0.3 * np.sin(np.arange(rows) * 2 * np.pi / 24)
    return pl.DataFrame(
        {
            "time": [START + timedelta(hours=k) for k in range(rows)],
            "shop": [name] * rows,
            "sales": level * wave * (1 + promotion) + rng.normal(size=rows) * level / 20,
            "promotion": promotion,
        }
    )


def with_future(frame, steps=HORIZON):
    """The last rows without their sales."""
    known = pl.int_range(pl.len()) < pl.len() - steps
    return frame.with_columns(pl.when(known).then("sales").alias("sales"))


@pytest.fixture(scope="module")
def model():
    frame = pl.concat([shop("a", 100), shop("b", 3, seed=1)])
    return memorycell.train(
        "forecast",
        frame,
        target="sales",
        known="promotion",
        group="shop",
        scaling="series",
        horizon=HORIZON,
        hidden=8,
        context=24,
        bptt=24,
        epochs=1,
        progress=False,
    )


def medians(frame):
    return np.array(frame["median"])


def test_several_origins_are_forecasts_of_shorter_tables(model):
    frame = shop("a", 100, rows=160, seed=3)
    several = model.predict(with_future(frame), origins=4, every=7, quantiles="0.3")
    assert several.columns[:5] == ["shop", "row", "origin", "time", "target"]
    assert several.height == 4 * HORIZON
    for k, (origin, own) in enumerate(several.group_by("origin", maintain_order=True)):
        end = 160 - HORIZON - 7 * (3 - k)
        assert origin[0] == START + timedelta(hours=end - 1)
        assert own["row"].unique().to_list() == [end]
        assert own["time"].to_list() == [START + timedelta(hours=end + k) for k in range(HORIZON)]
        alone = model.predict(with_future(frame[: end + HORIZON]), quantiles="0.3")
        for column in ("median", "low80", "high80", "q0.3"):
            np.testing.assert_allclose(own[column], alone[column], rtol=1e-4)


def test_an_origin_is_a_row_that_was_read(model):
    frame = shop("a", 100, rows=60, seed=3)
    gap = with_future(frame.filter(~pl.int_range(pl.len()).is_between(40, 44)))
    with pytest.warns(memorycell.DataWarning, match="^47 of 100 forecasts: the table has no more"):
        record = model.predict(gap, origins=100)
    # Before the gap, the promotions of the next hours are not known.
    assert record["origin"].n_unique() == 60 - 5 - HORIZON - HORIZON
    assert record["origin"].is_sorted()


def test_fewer_origins_than_asked_for_are_said(model, tmp_path):
    path = tmp_path / "a.csv"
    with_future(shop("a", 100, rows=30, seed=3)).write_csv(path)
    record = model.predict(path, origins=20, every=5)
    assert len(record["forecasts"]) == 6
    assert "6 of 20 forecasts: the table has no more rows to start from" in record["notes"]


def test_a_series_that_has_grown(model):
    frame = shop("b", 3, rows=170, seed=1)
    before = model.predict(with_future(frame[:150]))
    after = model.predict(with_future(frame[:160]))
    again = model.predict(with_future(frame[:160]), origins=11)
    assert before["time"][0] == START + timedelta(hours=146)
    assert after["time"][0] == START + timedelta(hours=156)
    np.testing.assert_allclose(medians(again)[:HORIZON], medians(before), rtol=1e-4)
    np.testing.assert_allclose(medians(again)[-HORIZON:], medians(after), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:1 series that were not in training:memorycell.DataWarning")
def test_a_new_series_in_every_kind_of_table(model, tmp_path):
    frame = with_future(shop("new", 5000, rows=90, seed=4))
    expected = model.predict(frame)
    assert 2000 < medians(expected).min() < medians(expected).max() < 20_000  # its own scale
    pandas = frame.to_pandas()
    assert pandas["sales"].isna().sum() == HORIZON
    for table in (pandas, pandas.set_index("time"), frame.to_arrow()):
        found = model.predict(table)
        assert type(found).__module__.split(".")[0] == type(table).__module__.split(".")[0]
        np.testing.assert_array_equal(medians(found), medians(expected))
        assert [pd.Timestamp(str(t)) for t in found["time"]] == expected["time"].to_list()
    path = tmp_path / "new.csv"  # times as text
    frame.write_csv(path)
    record = model.predict(path)
    np.testing.assert_array_equal(
        record["forecasts"][0]["forecast"]["sales"]["median"], medians(expected)
    )
    assert any("new" in note and "scaled by their own rows" in note for note in record["notes"])


def test_the_future_of_a_known_column_counts(model):
    frame = with_future(shop("a", 100))
    last = pl.int_range(pl.len()) >= pl.len() - HORIZON
    on, off = (
        frame.with_columns(pl.when(last).then(value).otherwise("promotion").alias("promotion"))
        for value in (1.0, 0.0)
    )
    assert (medians(model.predict(on)) != medians(model.predict(off))).all()
    with pytest.raises(UserError, match="'promotion' of 'a' must be known 4 steps after"):
        model.predict(shop("a", 100))


def test_columns_in_another_order_and_more_of_them(model, tmp_path):
    frame = with_future(shop("a", 100))
    expected = medians(model.predict(frame))
    other = frame.with_columns(weather=pl.lit("rain"), till=pl.int_range(pl.len()))
    other = other.select(sorted(other.columns, reverse=True))
    for given in (other, other.to_pandas()):
        with pytest.warns(memorycell.DataWarning, match="not used by the model: 'weather', 'till'"):
            np.testing.assert_array_equal(medians(model.predict(given)), expected)
    path = tmp_path / "more.csv"
    other.write_csv(path)
    assert "columns not used by the model: 'weather', 'till'" in model.predict(path)["notes"]


def test_missing_columns_are_named(model):
    frame = with_future(shop("a", 100))
    with pytest.raises(UserError, match="no column 'promotion'; it has time, shop, sales"):
        model.predict(frame.drop("promotion"))
    with pytest.raises(UserError, match="no columns 'sales, promotion'; it has time, shop"):
        model.predict(frame.drop("promotion", "sales").to_pandas())
    with pytest.raises(UserError, match="time"):
        model.predict(frame.drop("time"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"origins": 0}, "origins"),
        ({"every": -1}, "every"),
        ({"origins": "many"}, "origins"),
        ({"origin": 3}, "origin.*origins"),
    ],
)
def test_options_that_cannot_be_used(model, options, words):
    with pytest.raises(UserError, match=words):
        model.predict(with_future(shop("a", 100)), **options)


def test_a_page_has_the_last_forecast_of_each_series(model, tmp_path):
    path = tmp_path / "a.csv"
    with_future(shop("a", 100, rows=60)).write_csv(path)
    out = tmp_path / "a.html"
    model.write(out, path, origins=3)
    assert out.read_text().count("sales of a in 4 steps") == 1
