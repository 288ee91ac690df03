"""Long tables: encoded in blocks, and choices from regressions on a part of the steps."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from memorycell.applications.forecast import choices, encoding, ridge, windows
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.settings import ForecastSettings

ROWS = 4000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Hourly rows with gaps: the target follows "useful" and the day; "noise" says nothing."""
    rng = np.random.default_rng(0)
    hours = np.arange(ROWS)
    useful = rng.standard_normal(ROWS)
    load = np.roll(useful, 1) * 3 + 2 * np.sin(2 * np.pi * hours / 24) + rng.normal(0, 0.3, ROWS)
    frame = pl.DataFrame(
        {
            "time": pl.datetime_range(
                pl.datetime(2020, 1, 1), pl.datetime(2021, 1, 1), "1h", eager=True
            )[:ROWS],
            "load": load,
            "useful": np.where(rng.random(ROWS) < 0.05, np.nan, useful),
            "noise": rng.standard_normal(ROWS),
        }
    ).with_columns(pl.col("useful").fill_nan(None))
    path = tmp_path_factory.mktemp("long") / "table.parquet"
    frame.filter(pl.int_range(pl.len()) % 97 != 0).write_parquet(path)
    return str(path)


SETTINGS = ForecastSettings(target="load", horizon=6, context=48)


def test_blocks_give_the_inputs_of_the_complete_table(table, monkeypatch):
    dataset = prepare(table, replace(SETTINGS, inputs="all", calendar="day,week"))
    bounds = dataset.codec.bounds
    for steps in (1, 7, 1000, ROWS):
        monkeypatch.setattr(encoding, "BLOCK_STEPS", steps)
        np.testing.assert_array_equal(dataset.codec.encode(dataset.series), dataset.inputs)
        unbounded = replace(dataset.codec, bounds=())
        largest = encoding.largest_inputs(unbounded, dataset.series, dataset.split == 0)
        encoded = unbounded.encode(dataset.series)[dataset.split == 0]
        np.testing.assert_array_equal(largest, np.abs(encoded[:, : len(bounds)]).max(0))


def test_choices_on_a_part_of_the_steps_are_those_on_all(table, monkeypatch):
    complete = prepare(table, SETTINGS)
    monkeypatch.setattr(choices, "LONG_TABLE_ROWS", 1000)
    monkeypatch.setattr(ridge, "LONG_TABLE_ROWS", 1000)
    monkeypatch.setattr(ridge, "LONG_TABLE_WORK", 1.0)  # MIN_ROWS of them
    partial = prepare(table, SETTINGS)
    assert list(partial.codec.calendar) == ["day"] == list(complete.codec.calendar)
    assert partial.codec.inputs == complete.codec.inputs
    assert partial.codec.features == complete.codec.features
    np.testing.assert_array_equal(partial.inputs, complete.inputs)
    np.testing.assert_array_equal(partial.history.inputs, complete.history.inputs)
    ours, theirs = (d.baselines("valid")["ridge"]["crps"] for d in (partial, complete))
    assert ours == pytest.approx(theirs, rel=0.1)


def test_the_week_stays_where_it_helps(tmp_path, monkeypatch):
    hours = np.arange(ROWS)
    weekend = (hours // 24) % 7 >= 5
    load = 10 * weekend * np.sin(2 * np.pi * hours / 24) ** 2 + np.random.default_rng(0).normal(
        0, 0.2, ROWS
    )
    times = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2021, 1, 1), "1h", eager=True)
    pl.DataFrame({"time": times[:ROWS], "load": load}).write_parquet(tmp_path / "week.parquet")
    monkeypatch.setattr(choices, "LONG_TABLE_ROWS", 1000)
    dataset = prepare(str(tmp_path / "week.parquet"), SETTINGS)
    assert list(dataset.codec.calendar) == ["day", "week"]


def test_cholesky_solves_and_gives_way_where_it_fails():
    x = np.random.default_rng(0).standard_normal((40, 9))
    gram, cross = x.T @ x, x.T @ np.ones((40, 2))
    np.testing.assert_allclose(
        ridge.solve(gram, cross), np.linalg.lstsq(x, np.ones((40, 2)), rcond=None)[0], rtol=1e-9
    )
    indefinite = np.diag([1.0, -2.0])
    np.testing.assert_allclose(ridge.solve(indefinite, np.eye(2)), np.diag([1.0, -0.5]))


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("width", [1, 3, 8, 40])
def test_the_last_steps_are_those_of_the_segment(contiguous, width):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((30, 4)).astype(np.float32)
    values = values if contiguous else values[:, :3]
    start = np.repeat([0, 10, 17], [10, 7, 13])
    at = rng.permutation(30)
    expected = np.zeros((30, width, values.shape[1]), np.float32)
    for k, step in enumerate(at):
        own = values[max(start[step], step - width + 1) : step + 1]
        expected[k, width - len(own) :] = own
    np.testing.assert_array_equal(windows.last_steps(values, start, at, width), expected)


def test_some_of_the_products_compare_as_their_own(table):
    """Products of all inputs, of which some are offered, give the errors of those inputs' own."""
    dataset = prepare(table, replace(SETTINGS, inputs="all", calendar="day,week"))
    complete = choices.subset_ridge(dataset)
    kept = np.ones(dataset.codec.dynamic_size, bool)
    kept[1:5] = False  # any four: the codec only says how many are left
    codec = replace(dataset.codec, cycles=("day",))
    own = choices.subset_ridge(dataset.with_features(codec, kept))
    own._width = complete._width = min(own._width, complete._width)
    some = np.zeros(kept.sum(), bool)
    some[[0, 2, 5]] = True
    assert complete.among(kept).error(some) == pytest.approx(own.error(some), rel=1e-9)


def test_normal_and_window_of_a_long_table_are_chosen_by_the_linear_path(table, monkeypatch):
    monkeypatch.setattr(choices, "MIN_TRIAL_STEPS", 400)
    monkeypatch.setattr(choices, "TRIAL_UPDATES", 2)
    monkeypatch.setattr(choices, "TRIAL_HIDDEN", 4)
    complete = prepare(table, SETTINGS)
    monkeypatch.setattr(choices, "LONG_TABLE_ROWS", 1000)
    trained = []
    crps = choices.Trials.crps
    monkeypatch.setattr(
        choices.Trials, "crps", lambda self, own: trained.append(own) or crps(self, own)
    )
    partial = prepare(table, SETTINGS)
    assert len(set(trained)) == 2  # linear=ridge and linear=trained alone
    for name in ("normal", "window", "linear"):
        assert getattr(partial.settings, name) == getattr(complete.settings, name)
    (note,) = [note for note in partial.notes if "by the linear path" in note]
    assert "no, window" in note
    assert "level, window" in note
    counts = prepare(table, replace(SETTINGS, linear="trained"))  # without such a path: by trials
    assert not any("by the linear path" in note for note in counts.notes)
