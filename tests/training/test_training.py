"""Training: resumed runs are exact, time limits hold, the best model survives, failures are
reported.
"""

import dataclasses
import itertools
import json
import math
import threading

import numpy as np
import pytest
import torch

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import UserError
from memorycell.files import read_tensors, tensors_to_bytes
from memorycell.models.batches import lanes
from memorycell.setting_fields import parse_settings
from memorycell.training.events import Epoch, Step
from memorycell.training.gradients import GradientWatch
from memorycell.training.loop import train
from memorycell.training.schedule import planned_epochs

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


class Clock:
    """A clock on which every look at it takes 10 ms, so that no test depends on the machine."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("run", "loop"):
        monkeypatch.setattr(f"memorycell.training.{module}.time", clock)


def test_a_resumed_run_keeps_the_time_of_the_first(hourly, tmp_path, clock):
    out = tmp_path / "m.safetensors"
    _, first = run(hourly, out, stop_after=2, minutes=0.2)
    _, rest = run(hourly, out, resume=True, minutes=5)
    assert rest[0].epoch == 3
    assert first[-1].seconds < rest[-1].seconds < 13  # of twelve


def test_a_resumed_run_keeps_the_updates_of_the_first(hourly, tmp_path):
    """Whatever the defaults of the command that resumes it."""
    how = TrainSettings(steps=60, lr=0.02, patience=99)
    whole, epochs = run(hourly, tmp_path / "whole.safetensors", how=how)
    for name, later in (("epochs", HOW), ("steps", dataclasses.replace(how, steps=999))):
        out = tmp_path / f"{name}.safetensors"
        _, first = run(hourly, out, how=how, stop_after=2)
        later = dataclasses.replace(later, patience=99)
        resumed, rest = run(hourly, out, how=later, resume=True, minutes=5)
        assert [e.loss for e in first + rest] == [e.loss for e in epochs]
        assert (resumed["updates"], resumed["ended_by"]) == (60, "updates")
        assert resumed["metrics"] == whole["metrics"]


def test_a_run_of_minutes_is_resumed_by_a_command_of_updates(hourly, tmp_path, clock):
    out = tmp_path / "m.safetensors"
    _, first = run(hourly, out, how=TrainSettings(lr=0.02), stop_after=2, minutes=0.2)
    later = TrainSettings(steps=100_000, lr=0.02)
    resumed, rest = run(hourly, out, how=later, resume=True, minutes=5)
    assert rest[0].epoch == 3
    assert resumed["updates"] < 100_000
    assert first[-1].seconds < rest[-1].seconds < 13  # of twelve


def test_with_a_budget_of_time_the_plan_follows_the_machine(hourly, tmp_path, clock):
    how = dataclasses.replace(HOW, patience=1000)
    _, epochs = run(hourly, tmp_path / "m.safetensors", how=how, minutes=0.05)
    assert epochs[-1].epoch == epochs[-1].epochs > 2  # as planned, the learning rate at zero
    assert 2 < epochs[-1].seconds < 3.3  # of three


@pytest.mark.parametrize(
    ("batches", "seconds", "budget_s", "expected"),
    [
        (10, 2.0, 60.0, 30),
        (10, 2.0, -5.0, 2),
        (10, 0.0, 1e300, 1_000_000),
        (1, 1.0, None, 200),
        (1000, 1.0, None, 24),
    ],
)
def test_planned_epochs(batches, seconds, budget_s, expected):
    planned = planned_epochs(batches, epochs_done=1, seconds=seconds, budget_s=budget_s)
    assert planned == expected


def test_a_split_without_batches_is_refused():
    with pytest.raises(UserError, match="training split is empty"):
        planned_epochs(0, epochs_done=1, seconds=1.0, budget_s=None)


def test_resume_refuses_what_is_not_the_same(hourly, tmp_path):
    out = tmp_path / "m.safetensors"
    with pytest.raises(UserError, match="nothing to resume"):
        run(hourly, out, resume=True)
    run(hourly, out, stop_after=1)
    with pytest.raises(UserError, match="other training"):
        run(hourly, out, how=TrainSettings(epochs=5, lr=0.5), resume=True)


def _without(key):
    return lambda note, tensors: note.pop(key)


def _in_progress(**values):
    return lambda note, tensors: note["progress"].update(values)


def _tensor(name, value):
    return lambda note, tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("gradients"), "gradients"),
        (_without("identity"), "identity"),
        (_in_progress(epoch="3"), "epoch"),
        (_in_progress(seconds=None), "seconds"),
        (lambda note, tensors: note.update(history=[{"loss": "low"}]), "history"),
        (lambda note, tensors: note.update(format="memorycell-resume-2"), "format"),
        (lambda note, tensors: note.update(more=1), "more"),
        (_tensor("model.head.linear.bias", torch.ones(2)), "model.head.linear.bias"),
        (_tensor("best.head.linear.bias", None), "best.head.linear.bias"),
        (_tensor("adam.x.step", torch.ones(())), "adam.x.step"),
        (_tensor("adam.999.step", torch.ones(())), "adam.999.step"),
        (_tensor("adam.0.exp_avg", torch.ones(2, 2)), "adam.0.exp_avg"),
        (_tensor("adam.0.exp_avg", None), "moments are missing"),
        (lambda note, tensors: tensors["average.head.linear.bias"].fill_(math.nan), "NaN"),
    ],
)
def test_a_damaged_checkpoint_is_refused(stopped_run, change, words):
    hourly, checkpoint = stopped_run
    note, tensors = read_tensors(checkpoint.read_bytes())
    del note["checksum"]
    change(note, tensors)
    kept = {name: value for name, value in tensors.items() if value is not None}
    damaged = checkpoint.parent / "d.safetensors.resume"
    damaged.write_bytes(tensors_to_bytes(kept, note))
    with pytest.raises(UserError, match=rf"damaged \(.*{words}.*start without --resume"):
        run(hourly, checkpoint.parent / "d.safetensors", resume=True)


def test_a_truncated_checkpoint_is_refused(stopped_run):
    hourly, checkpoint = stopped_run
    damaged = checkpoint.parent / "d.safetensors.resume"
    for size in (0, 7, 1000):
        damaged.write_bytes(checkpoint.read_bytes()[:size])
        with pytest.raises(UserError, match="damaged"):
            run(hourly, checkpoint.parent / "d.safetensors", resume=True)


@pytest.fixture
def stopped_run(hourly, tmp_path):
    """(the data, the checkpoint after one epoch)"""
    run(hourly, tmp_path / "m.safetensors", stop_after=1)
    return hourly, tmp_path / "m.safetensors.resume"


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


def test_patience_ends_a_run_that_learns_nothing(hourly, tmp_path, monkeypatch):
    monkeypatch.setattr(ForecastDataset, "validate", lambda self, model: {"crps": 1.0})
    _, epochs = run(hourly, tmp_path / "m.safetensors", how=TrainSettings(epochs=50, patience=2))
    assert len(epochs) == 3


def test_a_learning_rate_that_diverges_is_reported(hourly, tmp_path, monkeypatch):
    monkeypatch.setattr(ForecastDataset, "validate", lambda self, model: {"crps": math.nan})
    with pytest.raises(UserError, match="diverged in epoch 1.*--set lr"):
        run(hourly, tmp_path / "m.safetensors")


@pytest.mark.parametrize("every", [1, 2])
def test_losses_that_are_not_finite_are_left_out_of_the_history(
    hourly, tmp_path, monkeypatch, every
):
    """Of one batch in two, and of all."""
    loss_of, calls = Forecaster.loss, itertools.count()

    def damaged(self, batch, state=None):
        loss, state = loss_of(self, batch, state)
        return (loss * math.nan if next(calls) % every == 0 else loss), state

    monkeypatch.setattr(Forecaster, "loss", damaged)
    run(hourly, tmp_path / "m.safetensors", how=TrainSettings(epochs=2))
    history = modelfile.load(tmp_path / "m.safetensors").history
    assert [("loss" in entry, "valid_crps" in entry) for entry in history] == [
        (every == 2, True)
    ] * 2


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
    assert set(result) - {"advice", "picture"} == {
        "task",
        "file",
        "primary",
        "higher",
        "metrics",
        "baselines",
        "skill",
        "seconds",
        "updates",
        "ended_by",
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
        ({"hiden": "3"}, "no such setting; did you mean hidden?"),
        ({"hidden": "many"}, "expected a whole number"),
        ({"hidden": "1_000"}, "expected a whole number"),
        ({"hidden": "٣"}, "expected a whole number"),
        ({"hidden": "100000"}, "hidden=100000: expected 1 to 16,384"),
        ({"lr": "inf"}, "lr=inf: expected a number"),
        ({"lr": "nan"}, "lr=nan: expected a number"),
        ({"lr": "1e999"}, "lr=1e999: expected a number"),
        ({"lr": "1e13"}, "lr=1e13: expected at most 1e"),
        ({"lr": "11"}, "lr=11.0: expected 1e-09 to 10"),
        ({"seed": "9" * 5000}, "expected a whole number"),
        ({"horizon": "0"}, "horizon=0"),
    ):
        with pytest.raises(UserError, match=words):
            parse_settings((ForecastSettings(), TrainSettings()), pairs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"patience": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": True},
        {"lr": "0.1"},
        {"weight_decay": -1.0},
        {"clip": 0.0},
        {"average": 1.0},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_training_settings_are_in_their_ranges(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}=.*expected"):
        TrainSettings(**wrong)


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
