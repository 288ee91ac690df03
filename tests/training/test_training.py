"""Training: resumed runs are exact, time limits hold, the best model survives, failures are
reported.
"""

import dataclasses
import json
import math
import threading

import numpy as np
import pytest
import torch

from memorycell.application import catalogue, modelfile
from memorycell.application.contract import TrainSettings
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import UserError
from memorycell.models.batches import lanes
from memorycell.settings import parse_settings
from memorycell.training.events import Epoch, Step
from memorycell.training.gradients import GradientWatch
from memorycell.training.loop import train

SMALL = ForecastSettings(target="y", hidden=6, horizon=4, context=24, dropout=0.1, bptt=24, lanes=3)
HOW = TrainSettings(epochs=5, lr=0.02)


def run(path, out, how=HOW, stop_after=None, **options):
    """Train; returns (result or None, the epochs seen). Raises KeyboardInterrupt inside after some
    epochs if asked.
    """
    seen = []

    def on_event(event):
        if isinstance(event, Epoch):
            seen.append(event)
        elif stop_after is not None and len(seen) == stop_after and isinstance(event, Step):
            raise KeyboardInterrupt

    try:
        result = train(
            catalogue.load("forecast"), str(path), SMALL, how, out, on_event=on_event, **options
        )
        return result, seen
    except KeyboardInterrupt:
        return None, seen


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(hourly, tmp_path):
    whole, epochs = run(hourly, tmp_path / "whole.safetensors")
    stopped, first = run(hourly, tmp_path / "parts.safetensors", stop_after=2)
    assert stopped is None
    assert len(first) == 2
    assert (
        modelfile.load(tmp_path / "parts.safetensors").info["task"] == "forecast"
    )  # the best so far is there
    torch.manual_seed(99)  # whatever happened in between
    resumed, rest = run(hourly, tmp_path / "parts.safetensors", resume=True)
    assert [e.loss for e in first + rest] == [e.loss for e in epochs]
    assert [e.valid for e in first + rest] == [e.valid for e in epochs]
    assert resumed["metrics"] == whole["metrics"]
    assert not (tmp_path / "parts.safetensors.resume").exists()
    one, two = (modelfile.load(tmp_path / f"{n}.safetensors") for n in ("whole", "parts"))
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True)
    )


def test_a_resumed_run_keeps_the_time_of_the_first(hourly, tmp_path):
    _, first = run(hourly, tmp_path / "m.safetensors", stop_after=2, minutes=0.15)
    _, rest = run(hourly, tmp_path / "m.safetensors", resume=True, minutes=5)
    assert rest[0].epoch == 3
    assert first[-1].seconds < rest[-1].seconds < 18  # of nine


def test_with_a_budget_of_time_the_plan_follows_the_machine(hourly, tmp_path):
    how = dataclasses.replace(HOW, patience=1000)
    _, epochs = run(hourly, tmp_path / "m.safetensors", how=how, minutes=0.05)
    assert epochs[-1].epoch == epochs[-1].epochs  # it ended as planned, the learning rate at zero
    assert epochs[-1].seconds < 4  # of three, what was read before included


def test_resume_refuses_what_is_not_the_same(hourly, tmp_path):
    out = tmp_path / "m.safetensors"
    with pytest.raises(UserError, match="nothing to resume"):
        run(hourly, out, resume=True)
    run(hourly, out, stop_after=1)
    with pytest.raises(UserError, match="other training"):
        run(hourly, out, how=TrainSettings(epochs=5, lr=0.5), resume=True)
    checkpoint = tmp_path / "m.safetensors.resume"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        run(hourly, out, resume=True)


def test_the_same_seed_gives_the_same_model_and_another_another(hourly, tmp_path):
    results = [
        run(hourly, tmp_path / "m.safetensors", how=dataclasses.replace(HOW, seed=s))[0]
        for s in (1, 1, 2)
    ]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["metrics"] != results[2]["metrics"]


def test_bfloat16_learns_as_well(hourly, tmp_path):
    crps = {
        precision: run(
            hourly, tmp_path / "m.safetensors", how=dataclasses.replace(HOW, precision=precision)
        )[0]["metrics"]["crps"]
        for precision in ("float32", "bfloat16", "auto")
    }
    assert crps["bfloat16"] == pytest.approx(crps["float32"], rel=0.1)
    assert crps["auto"] in (crps["float32"], crps["bfloat16"])
    assert crps["bfloat16"] != crps["float32"]


def test_minutes_are_kept(hourly, tmp_path):
    result, epochs = run(hourly, tmp_path / "m.safetensors", minutes=0.1)
    assert result["seconds"] < 12
    assert epochs[-1].epochs >= 2


def test_patience_ends_a_run_that_learns_nothing(hourly, tmp_path):
    _, epochs = run(
        hourly, tmp_path / "m.safetensors", how=TrainSettings(epochs=50, lr=1e-12, patience=2)
    )
    assert len(epochs) <= 6


def test_a_learning_rate_that_diverges_is_reported(hourly, tmp_path):
    with pytest.raises(UserError, match="diverged in epoch 1.*--set lr"):
        run(hourly, tmp_path / "m.safetensors", how=TrainSettings(epochs=9, lr=1e30, clip=1e30))


def test_tensorboard_log(hourly, tmp_path):
    run(
        hourly,
        tmp_path / "m.safetensors",
        how=TrainSettings(epochs=1),
        tensorboard=tmp_path / "log",
    )
    assert list((tmp_path / "log").glob("events*"))


def test_the_result_is_json_and_its_skill_is_right(hourly, tmp_path):
    result, _ = run(hourly, tmp_path / "m.safetensors")
    result = json.loads(json.dumps(result, allow_nan=False))
    best = min(b["crps"] for b in result["baselines"].values())
    assert result["skill"] == pytest.approx(1 - result["metrics"]["crps"] / best)
    assert set(result) == {
        "task",
        "file",
        "primary",
        "higher",
        "metrics",
        "baselines",
        "skill",
        "seconds",
        "by_lead",
    }


@pytest.mark.parametrize(
    ("norms", "words"),
    [
        ([1.0] * 50, None),
        ([1.0] * 40 + [1e5] * 10, "explode"),
        ([1e-9] * 50, "vanish"),
        ([1.0] * 49 + [math.inf], "not finite"),
        ([], None),
    ],
)
def test_gradient_watch(norms, words):
    watch = GradientWatch()
    for norm in norms:
        watch.add(norm)
    warning = watch.warning()
    assert (warning is None) if words is None else (words in warning and "try" in warning)


def test_lanes_cover_every_step_once_and_carry():
    x = np.arange(103, dtype=np.float32)[:, None]
    reset = np.zeros(103, bool)
    reset[[0, 50]] = True
    batches = list(lanes(x, x, reset, count=4, bptt=7, shift=90))
    seen = np.concatenate([b.x.flatten().numpy() for b in batches])
    assert len(seen) == len(set(seen.tolist())) == 4 * (103 // 4)
    assert [b.carry for b in batches] == [False, *[True] * (len(batches) - 1)]
    marked = np.concatenate([b.x[..., 0][b.reset].numpy() for b in batches])
    assert sorted(marked.tolist()) == [0, 50]
    lane = np.concatenate([b.x[1, :, 0].numpy() for b in batches])
    assert (np.diff(lane) % 103 == 1).all()


def test_settings_are_parsed_and_refused():
    own, how = parse_settings(
        (ForecastSettings(), TrainSettings()), {"hidden": "32", "lr": "1e-3", "target": "a,b"}
    )
    assert (own.hidden, how.lr, own.target) == (32, 1e-3, "a,b")
    for pairs, words in (
        ({"hiden": "3"}, "no such setting"),
        ({"hidden": "many"}, "expected a whole number"),
        ({"horizon": "0"}, "horizon=0"),
    ):
        with pytest.raises(UserError, match=words):
            parse_settings((ForecastSettings(), TrainSettings()), pairs)


def test_two_runs_in_threads_do_not_share_anything(hourly, tmp_path):
    """Files are written under temporary names of their own and renamed."""
    errors = []

    def one():
        try:
            run(hourly, tmp_path / "same.safetensors", how=TrainSettings(epochs=2))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors
    modelfile.load(tmp_path / "same.safetensors")
