"""`memorycell.tune`: the space as users write it, and searches that are killed and continued."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="pip install 'memorycell[tune]'")

import memorycell
from memorycell.application import catalogue
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.face import tuning, tuning_space, tuning_trial
from memorycell.face.tuning_report import search_page, search_text
from memorycell.face.tuning_study import open_study
from memorycell.face.workers import WAIT, Answer

SMALL = {"target": "y", "hidden": 4, "horizon": 4, "context": 24, "epochs": 8, "dropout": 0.0}
SMALL |= {"window": 6, "inputs": "none", "calendar": "none", "linear": "trained", "bptt": 48}
SPACE = {"lr": "loguniform(1e-3,5e-2)", "weight_decay": [0.01, 0.1]}


def space_of(task, given, fixed=()):
    application = catalogue.load(task)
    return tuning_space.search_space(
        application, given, application.settings(), TrainSettings(), fixed
    )


def work_here(function, workers, next_job, on_answer):
    """`workers.work` in this process."""
    while (job := next_job()) is not None:
        assert job is not WAIT
        on_answer(job, Answer(result=tuning_trial.run(job)))


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(tuning, "work", work_here)


# ---- the space -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("lr", "loguniform(1e-3, 1e-2)", Uniform(1e-3, 1e-2, log=True)),
        ("dropout", "uniform(0,0.5)", Uniform(0, 0.5)),
        ("hidden", "logint(8,64)", Uniform(8, 64, log=True, whole=True)),
        ("layers", "int(1,3)", Uniform(1, 3, whole=True)),
        ("cell", "choice(lstm, gru)", Choice(["lstm", "gru"])),
        ("hidden", "choice(8,16)", Choice([8, 16])),
        ("window", "choice(none,6)", Choice([None, 6])),
        ("positive", "choice(yes,no)", Choice([True, False])),
        ("hidden", [8, 16], Choice([8, 16])),
        ("lr", Uniform(0.1, 0.2), Uniform(0.1, 0.2)),
    ],
)
def test_a_distribution_is_read(key, text, expected):
    assert space_of("forecast", {key: text})[key] == expected


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("lrr", "uniform(0,1)", "did you mean lr"),
        ("lr", "uniform(1,0)", "low < high"),
        ("lr", "loguniform(0,1)", "low > 0"),
        ("lr", "loguniform(1e-3,100)", "10"),
        ("lr", "uniform(a,b)", "not a number"),
        ("lr", "normal(0,1)", "expected loguniform"),
        ("lr", "0.1", "expected loguniform"),
        ("lr", 0.1, "expected loguniform"),
        ("hidden", "uniform(8,16)", "int"),
        ("hidden", "int(0,16)", "expected 1 to"),
        ("hidden", "int(1.5,16)", "whole numbers"),
        ("cell", "choice(lstm,lstn)", "lstn"),
        ("cell", "choice(lstm)", "two or more"),
        ("cell", [], "two or more"),
        ("seed", "int(0,9)", "--seeds"),
        ("horizon", "int(1,9)", "leave out one of the two"),
    ],
)
def test_a_distribution_is_refused(key, text, words):
    with pytest.raises(UserError, match=words):
        space_of("forecast", {key: text}, fixed=("horizon",))


def test_spaces_come_from_files_too(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text('lr = "loguniform(1e-4, 1e-2)"\nhidden = [8, 16]\n')
    read = tuning_space.read_spaces([str(path), "hidden=choice(4,8)"])
    assert read == {"lr": "loguniform(1e-4, 1e-2)", "hidden": "choice(4,8)"}
    path.write_text("lr = ")
    with pytest.raises(UserError, match="TOML"):
        tuning_space.read_spaces([str(path)])
    with pytest.raises(UserError, match="key=distribution"):
        tuning_space.read_spaces(["lr"])


# ---- searches ------------------------------------------------------------------------------------


def search(hourly, out, trials=2, **options):
    return memorycell.tune(
        "forecast",
        hourly,
        out=out,
        space=SPACE,
        trials=trials,
        progress=False,
        **{**SMALL, **options},
    )


def outcomes(trained):
    return [(t["state"], t["value"], t["settings"]) for t in trained.search["trials"]]


@pytest.mark.slow
def test_a_search_ends_with_the_same_result_though_a_worker_is_killed(
    hourly, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "work", work_here)
        expected = search(hourly, tmp_path / "here.safetensors", seeds=2)
    log, killed = [], []

    def on_answer(run):
        def follow(self, job, answer):
            run(self, job, answer)
            log.append(answer.died)

        return follow

    def next_trial(run):
        def follow(self):
            if self.logged and not killed:  # the first trial is done: kill the next one in its run
                killed.append(True)
                kill_when_running(study_of(tmp_path / "killed.safetensors"))
            return run(self)

        return follow

    monkeypatch.setattr(tuning._Search, "_on_trial", on_answer(tuning._Search._on_trial))
    monkeypatch.setattr(tuning._Search, "_next_trial", next_trial(tuning._Search._next_trial))
    with monkeypatch.context() as patch:
        patch.setattr(tuning._Search, "_missing_repeats", lambda self, best: [])
        trained = search(hourly, tmp_path / "killed.safetensors", seeds=2)
    assert log.count(True) == 1
    assert outcomes(trained) == outcomes(expected)
    monkeypatch.setattr(tuning, "work", work_here)
    trained = search(hourly, tmp_path / "killed.safetensors", seeds=2)  # the repeats
    assert trained.search["repeated"][0]["values"] == expected.search["repeated"][0]["values"]
    assert trained.metrics == expected.metrics
    check_result(expected, trained, tmp_path)


def check_result(expected, trained, tmp_path):
    """Of a finished search."""
    first = trained.search["trials"][0]
    defaults = {"lr": 8e-3, "weight_decay": 0.01}
    assert {name: first["settings"][name] for name in defaults} == defaults
    values = [t["value"] for t in trained.search["trials"] if t["value"] is not None]
    assert min(values) <= first["value"]
    best = trained.search["best"]
    assert {key: trained.settings[key] for key in best} == best
    assert memorycell.load(tmp_path / "killed.safetensors").search == trained.search
    assert set(trained.metrics) == set(expected.metrics)
    assert all(len(r["values"]) == 2 for r in trained.search["repeated"])
    assert "chosen: lr=" in search_text(trained.search)
    page = search_page("forecast", trained.search)
    assert {"best so far", "parallel coordinates"} <= set(page.figures())


def study_of(out):
    return open_study(f"sqlite:///{out}.trials.db", "memorycell forecast", 0, 4)


def kill_when_running(study):
    """kill -9 the process of the next trial that is running, from another thread."""
    import threading

    def follow():
        end = time.monotonic() + 200
        while time.monotonic() < end:
            for trial in study.get_trials(deepcopy=False):
                name = trial.user_attrs.get("process")
                if trial.state.name == "RUNNING" and name:
                    os.kill(int(name.rpartition(":")[2]), signal.SIGKILL)
                    return
            time.sleep(0.05)

    threading.Thread(target=follow, daemon=True).start()


def test_a_finished_search_continues_with_more_trials(hourly, tmp_path, in_process, monkeypatch):
    from memorycell.applications.forecast.dataset import ForecastDataset

    scored = []
    evaluate = ForecastDataset.evaluate

    def counted(self, model, split, precision="float32"):
        scored.append(split)
        return evaluate(self, model, split, precision)

    monkeypatch.setattr(ForecastDataset, "evaluate", counted)
    out, quick = tmp_path / "m.safetensors", {"seeds": 1, "epochs": 2}
    two = search(hourly, out, trials=2, **quick)
    assert scored.count("test") == 1
    more = search(hourly, out, trials=3, **quick)
    assert outcomes(more)[:2] == outcomes(two)
    assert len(more.search["trials"]) == 3
    with pytest.raises(UserError, match="other settings"):
        search(hourly, out, trials=3, **quick, horizon=5)
    text = Path(hourly).read_text().splitlines()
    Path(hourly).write_text("\n".join(text[:-1]) + "\n")
    for _ in range(2):
        with pytest.raises(UserError, match="data have changed"):
            search(hourly, out, trials=4, **quick)


def test_errors_of_the_user(hourly, tmp_path, in_process, monkeypatch):
    out = tmp_path / "m.safetensors"
    with pytest.raises(UserError, match="no such file"):
        memorycell.tune("forecast", tmp_path / "x.csv", out=out, trials=2, progress=False)
    assert not list(tmp_path.glob("m.*"))
    for storage in ("nonsense", f"sqlite:///{tmp_path}/no/x.db", "other://x/y"):
        with pytest.raises(UserError, match="cannot be used") as error:
            memorycell.tune("forecast", hourly, out=out, storage=storage, progress=False)
        assert "\n" not in str(error.value)
    for name in ("trials", "seeds", "workers"):
        with pytest.raises(UserError, match=name):
            memorycell.tune("forecast", hourly, **{name: 0})
    with pytest.raises(UserError, match="no setting"):
        memorycell.tune("forecast", hourly, hiden=4)


def test_a_search_ends_with_one_result_however_slow_the_machine_is(
    hourly, tmp_path, in_process, monkeypatch
):
    fit = tuning_trial.Run.fit
    late = lambda *arguments: time.sleep(0.7) or fit(*arguments)  # noqa: E731
    monkeypatch.setattr(tuning_trial.Run, "fit", late)
    found = search(hourly, tmp_path / "late.safetensors", minutes=0.01, trials=2)
    assert len(found.search["trials"]) == 1
    assert found.search["trials"][0]["state"] == "complete"
    monkeypatch.setattr(tuning._Search, "_is_over", lambda self: True)
    diverging = iter([True])

    def diverges_once(*arguments):
        if next(diverging, False):
            raise UserError("the loss is not finite")
        return fit(*arguments)

    monkeypatch.setattr(tuning_trial.Run, "fit", diverges_once)
    found = search(hourly, tmp_path / "later.safetensors", minutes=0.01, trials=9)
    assert [t["state"] for t in found.search["trials"]] == ["pruned", "complete"]
    diverging = iter([True] * 9)
    with pytest.raises(UserError, match="no trial has ended"):
        search(hourly, tmp_path / "never.safetensors", minutes=0.01, trials=9)


def test_what_a_trial_reached_counts_where_the_time_ends_before_any_has_ended(
    hourly, tmp_path, in_process, monkeypatch
):
    run_trial, later = tuning_trial.Run.fit, time.time() + 3600

    def fit(run, on_event, *others):
        def follow(event):
            if run.progress.epoch == 3:
                monkeypatch.setattr(time, "time", lambda: later)
            on_event(event)

        return run_trial(run, follow, *others)

    with monkeypatch.context() as patch:
        patch.setattr(tuning_trial.Run, "fit", fit)
        trained = search(hourly, tmp_path / "m.safetensors", minutes=5, seeds=1, trials=3)
    (trial,) = trained.search["trials"]
    assert trial["epochs"] == 3
    assert trial["value"] > 0


@pytest.mark.slow
def test_a_search_ends_with_the_same_result_though_the_driver_is_killed(hourly, tmp_path):
    words = [f"{key}={value}" for key, value in (SMALL | {"epochs": 40, "patience": 40}).items()]
    command = [sys.executable, "-m", "memorycell", "tune", "forecast", str(hourly), "--trials", "4"]
    command += ["--seeds", "1", *(part for word in words for part in ("--set", word)), "--json"]
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    subprocess.run([*command, "--out", one], check=True, capture_output=True)
    with subprocess.Popen([*command, "--out", two], stderr=subprocess.PIPE, text=True) as driver:
        for line in driver.stderr:
            if line.startswith("trial 2/"):
                break
        driver.kill()
    subprocess.run([*command, "--out", two], check=True, capture_output=True)
    assert outcomes(memorycell.load(two)) == outcomes(memorycell.load(one))
    assert memorycell.load(two).metrics == memorycell.load(one).metrics
