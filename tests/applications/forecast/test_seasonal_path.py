"""linear=season and raw+season: paths whose weights are shared by the phases of a season."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.ridge import PENALTIES
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import UserError
from memorycell.tables.clock import Clock

SEASON = 6
SETTINGS = ForecastSettings(
    target="y,z",
    hidden=4,
    horizon=10,
    season=SEASON,
    context=24,
    window=19,
    inputs="none",
    calendar="none",
    normal="level",
    linear="season",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Two seasonal columns with slowly varying levels, and a gap."""
    rng, t = np.random.default_rng(0), np.arange(900)
    stamps = np.datetime64("2026-01-01T00:00:00") + t * np.timedelta64(1, "h")
    columns = {"time": [str(s).replace("T", " ") for s in stamps]}
    for name, amplitude in (("y", 3.0), ("z", 1.0)):
        level = 0.3 * np.cumsum(rng.normal(size=len(t)))
        wave = amplitude * np.sin(2 * np.pi * t / SEASON) * (1 + 0.3 * np.sin(t / 40))
        columns[name] = (20 + level + wave + rng.normal(0, 0.5, len(t))).round(4)
    columns["y"][300:305] = np.nan
    path = tmp_path_factory.mktemp("seasonal") / "t.csv"
    pl.DataFrame(columns).fill_nan(None).write_csv(path)
    return str(path)


def as_published(windows: torch.Tensor) -> torch.Tensor:
    """The inputs [N, S, W/S] of SparseTSF's shared regression, from windows [N, W]: the mean is
    subtracted, the convolution with a kernel of ones is added, and a reshape gives the phases.
    """
    centred = (windows - windows.mean(1, keepdim=True))[:, None]
    kernel = torch.full((1, 1, SEASON + 1), 1 / (SEASON + 1), dtype=torch.float64)
    smooth = F.conv1d(centred, kernel, padding=SEASON // 2) + centred
    return smooth.reshape(len(windows), -1, SEASON).permute(0, 2, 1)


def test_a_seasonal_path_is_the_published_one(data):
    """Its weights give the forecasts of ridge regressions by least squares of augmented rows."""
    dataset = prepare(data, SETTINGS)
    found, history = dataset.build().head.linear, dataset.history
    read, seasons = 18, 2  # of 19 steps, three seasons

    def windows(at):
        before = np.concatenate([np.zeros((read - 1, 2)), history.inputs[:, :2]])
        return torch.from_numpy(before[at[:, None] + np.arange(read)]).double()

    def rows(at):
        """Inputs [N, targets, S, W/S + 1] and changes from the mean [N, targets, S, H/S]."""
        w = windows(at)
        x = torch.stack([as_published(w[..., k]) for k in range(2)], 1).numpy()
        future = np.full((len(at), 2, seasons * SEASON), np.nan)
        future[..., :10] = np.moveaxis(history.future[at], 1, 2)
        change = future - w.mean(1).numpy()[..., None]
        change = change.reshape(len(at), 2, seasons, SEASON).transpose(0, 1, 3, 2)
        return np.concatenate([x, np.ones_like(x[..., :1])], -1), change

    train = dataset.origins("train")
    train = train[train - dataset.series.start[train] >= 18]  # full windows
    (x, y), (x_valid, y_valid) = rows(train), rows(dataset.origins("valid"))
    shared = np.zeros((4, seasons))
    for ahead in range(seasons):
        known, valid = ~np.isnan(y[..., ahead]), ~np.isnan(y_valid[..., ahead])
        errors, solutions = [], []
        for penalty in PENALTIES:
            root = np.sqrt(penalty) * np.eye(4)
            root[-1, -1] = 0
            left = np.concatenate([x[known], root])
            right = np.concatenate([y[known][:, ahead], np.zeros(4)])
            solutions.append(np.linalg.lstsq(left, right, rcond=None)[0])
            error = np.abs(y_valid[valid][:, ahead] - x_valid[valid] @ solutions[-1])
            errors.append(error.mean())
        best = max(k for k, error in enumerate(errors) if error <= 1.005 * min(errors))
        shared[:, ahead] = solutions[best]

    at = dataset.origins("test")[::7]
    phases = rows(at)[0] @ shared  # [N, targets, S, H/S]
    forecasts = phases.transpose(0, 1, 3, 2).reshape(len(at), 2, -1)[..., :10]
    forecasts += windows(at).mean(1).numpy()[..., None]
    start = np.concatenate([np.zeros((18, *history.inputs.shape[1:])), history.inputs])
    x = torch.from_numpy(start[at[:, None] + np.arange(19)]).float()
    x = x[..., : found.in_features // 19].flatten(1)
    ours = found(x).detach().numpy().reshape(len(at), 10, 2) + history.level[at, None]
    np.testing.assert_allclose(ours, np.moveaxis(forecasts, 1, 2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("window", "better"), [(19, 19), (120, 60)])
def test_the_mean_of_both_paths(data, window, better):
    """Weights are averaged; the raw path reads half of the window where it is better so."""
    settings = replace(SETTINGS, window=window)
    mixed = prepare(data, replace(settings, linear="raw+season")).build().head.linear
    season = prepare(data, settings).build().head.linear
    raws = {
        w: prepare(data, replace(settings, linear="raw", window=w)) for w in (window, window // 2)
    }
    assert min(raws, key=lambda w: raws[w].linear_error()) == better
    raw = raws[better].build().head.linear
    padded = F.pad(raw.weight, (mixed.in_features - raw.in_features, 0))
    torch.testing.assert_close(mixed.weight, (padded + season.weight) / 2)
    torch.testing.assert_close(mixed.bias, (raw.bias + season.bias) / 2)


def test_a_share_of_the_correction_is_kept(data):
    """The median moves this share of the way from the path's to the network's; the distances of
    the other quantiles from it stay.
    """
    torch.manual_seed(0)
    dataset = prepare(data, replace(SETTINGS, correction=0.25, members=2))
    model = dataset.build().eval()
    path = [one.head.linear for one in model.networks]
    for one in model.networks:
        for weight in (one.head.recurrent.weight, *one.recurrent.parameters()):
            torch.nn.init.normal_(weight, std=0.3)
    x = torch.from_numpy(dataset.inputs[None, :40])
    with torch.no_grad():
        before = [one.params(x)[0] for one in model.networks]
        kept = [linear.weight.clone() for linear in path]
        dataset.calibrate(model)
        after = [one.params(x)[0] for one in model.networks]
        for one in model.networks:
            one.head.recurrent.weight[one.head.location_index :: one.head.params_per_value] = 0
            one.head.recurrent.bias[one.head.location_index :: one.head.params_per_value] = 0
        alone = [one.params(x)[0] for one in model.networks]
    for one, old, new, without, weight in zip(
        model.networks, before, after, alone, kept, strict=True
    ):
        wanted = without.location + 0.25 * (old.location - without.location)
        torch.testing.assert_close(new.location, wanted)
        assert (new.location - old.location).abs().max() > 0.05
        gaps = [one.head.quantiles(p) - p.location[..., None] for p in (old, new)]
        torch.testing.assert_close(gaps[1], gaps[0])
        torch.testing.assert_close(one.head.linear.weight, weight)
    assert any("25%" in note for note in dataset.notes)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        replace(SETTINGS, correction=share)


def test_a_path_that_is_trained_keeps_the_correction(data):
    dataset = prepare(data, replace(SETTINGS, linear="trained", correction=0.25))
    model = dataset.build()
    torch.nn.init.normal_(model.head.recurrent.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dataset.calibrate(model)
    assert "no effect" in dataset.notes[-1]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_seasonal_model_learns_and_runs_live(data):
    dataset = prepare(data, replace(SETTINGS, linear="raw+season", window=None))
    assert dataset.settings.window == 720
    dataset = prepare(data, replace(SETTINGS, linear="raw+season", window=48))
    model = dataset.build()
    scores = dataset.evaluate(model, "test")
    assert scores["mae"] < 0.7 * dataset.baselines("test")["persistence"]["mae"]
    assert dataset.frozen_parameters(0) == ("head.linear.",)
    for weight in (model.head.recurrent.weight, *model.recurrent.parameters()):
        torch.nn.init.normal_(weight, std=0.3)
    at = dataset.origins("test")[:40]
    stepper = model.stepper("float32")
    ring = np.zeros((1, stepper.layout.width), np.float32)
    live = np.stack([stepper.step_one(ring, 0, x)[0] for x in dataset.inputs[: at[-1] + 1]])
    np.testing.assert_allclose(live[at], dataset.quantiles(model, at), rtol=1e-4, atol=1e-4)


def test_a_window_without_a_season_is_refused():
    hourly = Clock("second", 3600)
    with pytest.raises(UserError, match=r"window=20: linear=season needs a season of 24 steps"):
        replace(SETTINGS, season=None, window=20).with_defaults(hourly)
    assert replace(SETTINGS, season=None, window=None).with_defaults(hourly).window == 720
    assert replace(SETTINGS, season=1000, window=None).with_defaults(hourly).window == 1000
