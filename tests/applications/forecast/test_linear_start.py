"""linear=ridge: the linear path is a ridge regression; what is chosen by trials."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from memorycell.applications.forecast import choices
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.ridge import PENALTIES, best_penalty
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
    assert model.config.exportable
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
    at = dataset.origins("test")[:60]
    stepper = model.stepper("float32")
    ring = np.zeros((1, stepper.layout.width), np.float32)
    live = np.stack([stepper.step_one(ring, 0, x)[0] for x in dataset.inputs[: at[-1] + 1]])
    np.testing.assert_allclose(live[at], dataset.quantiles(model, at), rtol=1e-4, atol=1e-4)
    many = np.zeros((2, stepper.layout.width), np.float32)
    both = [stepper.step_many(many, np.array([0, 1]), np.stack([x, x])) for x in dataset.inputs[:9]]
    np.testing.assert_allclose(np.stack(both)[:, 1], live[:9], rtol=1e-4, atol=1e-4)


def test_the_penalty_of_a_raw_path_favours_no_level(tmp_path):
    """Against least squares of augmented rows: differences from the last value and the last value,
    each row divided by the spread of its window.
    """
    rng, values = np.random.default_rng(0), np.zeros(900)
    for t in range(1, 900):
        values[t] = 0.97 * values[t - 1] + rng.normal() * (1 + (t // 100) % 3)
    settings = replace(SMALL, normal="level", linear="raw", window=9, horizon=3)
    dataset = prepare(table(tmp_path / "t.csv", (100 + values).round(4)), settings)
    features, found = dataset.inputs.shape[1], dataset.build().head.linear

    def rows(split):
        at = dataset.origins(split)
        before = np.concatenate([np.zeros((8, features)), dataset.inputs])  # zero, not observed
        windows = before[at[:, None] + np.arange(9)]
        y = (dataset.history.future[at] - dataset.history.level[at, None])[..., 0]
        known = ~np.isnan(y).any(1)
        windows, y = windows[known], y[known]
        seen = np.ma.array(windows[..., 0], mask=windows[..., 2] == 0)
        unit = np.sqrt(seen.var(1).data + MIN_WINDOW_STD**2)[:, None]
        return np.concatenate([windows.reshape(len(y), -1), np.ones((len(y), 1))], 1), y, unit

    (x, y, unit), (x_valid, y_valid, _) = rows("train"), rows("valid")
    differences = np.eye(9 * features + 1)  # of the values: w = differences v
    differences[8 * features, : 8 * features : features] = -1
    errors, solutions = [], []
    for penalty in PENALTIES:
        root = np.sqrt(penalty) * np.eye(len(differences))
        root[-1, -1] = 0  # of the constant
        left = np.concatenate([x @ differences / unit, root])
        right = np.concatenate([y / unit, np.zeros((len(root), 3))])
        solutions.append(differences @ np.linalg.lstsq(left, right, rcond=None)[0])
        errors.append(np.abs(y_valid - x_valid @ solutions[-1]).mean())
    best = max(k for k, error in enumerate(errors) if error <= 1.005 * min(errors))
    weight = np.concatenate([found.weight.detach().numpy().T, found.bias.detach().numpy()[None]])
    np.testing.assert_allclose(weight, solutions[best], rtol=1e-3, atol=1e-4)


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


def test_the_strongest_of_about_equal_penalties():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(300, 6)), rng.normal(size=(6, 2))
    x[:, -1] = 1.0
    y, x_valid = x @ w + rng.normal(size=(300, 2)), rng.normal(size=(200, 6))
    y_valid = x_valid @ w + rng.normal(size=(200, 2))
    free = np.diag([1.0] * 5 + [0.0])
    solutions = [np.linalg.solve(x.T @ x + p * free, x.T @ y) for p in PENALTIES]
    errors = np.array([np.abs(y_valid - x_valid @ s).mean() for s in solutions])
    chosen = set()
    for tolerance in (0.0, 0.005, 0.2, 10.0):
        found, error = best_penalty(
            x.T @ x, x.T @ y, x_valid, y_valid, np.ones((200, 2)), tolerance
        )
        best = np.flatnonzero(errors <= (1 + tolerance) * errors.min()).max()
        np.testing.assert_allclose(found, solutions[best], rtol=1e-6)
        assert error == pytest.approx(errors[best])
        chosen.add(int(best))
    assert len(chosen) >= 3
