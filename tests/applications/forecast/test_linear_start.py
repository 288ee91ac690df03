"""linear=ridge: the linear path is a ridge regression; what is chosen by trials."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from memorycell.applications.forecast import choices
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.windows import MIN_WINDOW_STD

SMALL = ForecastSettings(
    target="y", hidden=4, horizon=4, context=24, window=3, inputs="none", calendar="none"
)


def table(path, values) -> str:
    stamps = np.datetime64("2026-01-01T00:00:00") + np.arange(len(values)) * np.timedelta64(1, "h")
    frame = pl.DataFrame({"time": [str(t).replace("T", " ") for t in stamps], "y": values})
    frame.write_csv(path)
    return str(path)


def seasonal(size=600):
    rng = np.random.default_rng(0)
    return (50 + 10 * np.sin(np.arange(size) * 0.7) + rng.normal(0, 0.3, size)).round(3)


@pytest.mark.parametrize(
    ("normal", "linear"), [("no", "ridge"), ("level", "ridge"), ("level", "raw"), ("no", "raw")]
)
def test_a_new_model_forecasts_as_ridge(tmp_path, normal, linear):
    dataset = prepare(
        table(tmp_path / "t.csv", seasonal()), replace(SMALL, normal=normal, linear=linear)
    )
    model = dataset.build()
    # Least squares of the same inputs by another way has as low an error on the training steps.
    at = dataset.origins("train")
    at = at[at >= 3]
    windows = dataset.inputs[at[:, None] + np.arange(-2, 1)].astype(float)
    level, unit = dataset.history.level[at, None], 1.0
    if (normal, linear) == ("level", "ridge"):
        values = windows[..., 0]
        unit = np.sqrt(values.var(1, keepdims=True) + MIN_WINDOW_STD**2)
        windows[..., 0] = (values - values.mean(1, keepdims=True)) / unit
    x = np.concatenate([windows.reshape(len(at), -1), np.ones((len(at), 1))], 1)
    y = (dataset.history.future[at] - level)[..., 0] / unit
    known = ~np.isnan(y).any(1)
    best = y - x @ np.linalg.lstsq(x[known], y[known], rcond=None)[0]
    median = dataset.quantiles(model, at)[..., 0, 7]
    error = y - (median - level[..., 0]) / unit
    assert np.abs(error[known]).mean() < 1.1 * np.abs(best[known]).mean()
    assert np.abs(error[known]).mean() < 0.5 * np.abs(y[known]).mean()  # half of persistence's


def test_a_raw_path_knows_the_level_and_runs_live(tmp_path):
    """Values that return to their mean, of which a window normalised by itself shows nothing."""
    rng, values = np.random.default_rng(0), np.zeros(900)
    for t in range(1, 900):
        values[t] = 0.9 * values[t - 1] + rng.normal()
    path = table(tmp_path / "t.csv", (100 + values).round(4))
    error = {}
    for linear in ("ridge", "raw"):
        settings = replace(SMALL, normal="level", linear=linear, horizon=12, context=24)
        dataset = prepare(path, settings)
        model = dataset.build()
        error[linear] = dataset.evaluate(model, "test")["mse"]
    assert error["raw"] < 0.95 * error["ridge"]
    for weight in (model.head.recurrent.weight, *model.recurrent.parameters()):
        torch.nn.init.normal_(weight, std=0.3)
    at = dataset.origins("test")
    full = dataset.quantiles(model, at)
    stepper = model.stepper("float32")
    ring = np.zeros((1, stepper.layout.width), np.float32)
    live = np.stack([stepper.step_one(ring, 0, x)[0] for x in dataset.inputs])
    np.testing.assert_allclose(live[at], full, rtol=1e-4, atol=1e-4)
    changed = replace(model.config, raw_linear=False)
    assert not model.config.exportable
    assert changed.exportable
    with pytest.raises(ValueError, match="raw_linear: expected false, or true with normal=level"):
        replace(model.config, normal="no")


def test_a_long_window_is_read_of_the_target_alone(tmp_path):
    path = table(tmp_path / "t.csv", seasonal(1500))
    settings = replace(SMALL, normal="level", linear="raw", calendar="day")
    short = prepare(path, replace(settings, window=100)).build()
    assert short.config.linear is None
    dataset = prepare(path, replace(settings, window=400))
    model = dataset.build()
    assert (model.config.linear, model.head.linear.in_features) == (1, 400)
    assert (
        dataset.evaluate(model, "test")["mae"]
        < 0.5 * dataset.baselines("test")["persistence"]["mae"]
    )


def test_heads_that_are_not_linear_start_at_persistence(tmp_path):
    rng = np.random.default_rng(0)
    path = table(tmp_path / "t.csv", rng.poisson(5, 600))
    counts = prepare(path, replace(SMALL, head="counts", linear="ridge"))
    assert not counts.build().head.linear.weight.any()
    assert counts.frozen_parameters(0) == ()
    assert not prepare(path, SMALL).build().head.linear.weight.any()  # without trials: trained
    dataset = prepare(path, replace(SMALL, linear="ridge"))
    model = dataset.build()
    assert model.head.linear.weight.any()
    frozen = [n for n, _ in model.named_parameters() if n.startswith(dataset.frozen_parameters(0))]
    assert frozen == ["head.linear.weight", "head.linear.bias"]
    dataset.settings = replace(
        dataset.settings, window=5
    )  # a model of another size is fitted again
    assert dataset.build().head.linear.weight.shape == (4, 5 * dataset.inputs.shape[1])


def test_where_little_of_the_future_is_known_training_starts_at_persistence(tmp_path):
    values = pl.Series(seasonal()).to_list()
    gaps = [None if k % 4 == 0 else value for k, value in enumerate(values)]
    dataset = prepare(table(tmp_path / "t.csv", gaps), replace(SMALL, linear="ridge"))
    assert not dataset.build().head.linear.weight.any()


def test_a_longer_window_is_chosen_where_it_helps(tmp_path, monkeypatch):
    """The value of 12 steps before decides; a window of the horizon does not reach it."""
    monkeypatch.setattr(choices, "MIN_TRIAL_STEPS", 400)
    monkeypatch.setattr(choices, "TRIAL_UPDATES", 4)
    monkeypatch.setattr(choices, "TRIAL_HIDDEN", 4)
    rng = np.random.default_rng(0)
    y = list(rng.normal(0, 1, 12))
    for _ in range(788):
        y.append(0.95 * y[-12] + rng.normal(0, 0.3))
    path = table(tmp_path / "t.csv", np.round(y, 4))
    dataset = prepare(path, replace(SMALL, window=None, season=12))
    assert choices.ridge_window(dataset) >= 12
    assert dataset.settings.window == choices.ridge_window(dataset)
    (note,) = [note for note in dataset.notes if note.startswith("normal=")]
    assert f"window={dataset.settings.window} and linear=ridge chosen" in note
    assert dataset.settings.linear == "ridge"  # four updates train too little without
    assert prepare(path, replace(SMALL, season=12)).settings.window == 3  # as set
