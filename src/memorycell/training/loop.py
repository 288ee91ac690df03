"""Train and evaluate: data in, a model file and its comparison with the baselines out."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch

from memorycell.application.contract import (
    AnyApplication,
    AnyDataset,
    AnyModelFile,
    Application,
    Metric,
    Metrics,
    ModelFile,
    O,
    P,
    Record,
    S,
)
from memorycell.application.picture import PICTURE, picture_of_result
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.models.model import Model
from memorycell.ops import binding
from memorycell.training.checkpoint import (
    check_storage,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from memorycell.training.device import choose
from memorycell.training.events import Log, OnEvent, ignore
from memorycell.training.parallel import ALONE, Workers, joined_device
from memorycell.training.run import Run

MAX_SHARE = 6.0
"""Seconds per minute that are kept for the comparison with the baselines, at most."""


def train(
    application: Application[S, P, O],
    data: str | None,
    settings: S,
    train_settings: TrainSettings,
    out: Path,
    *,
    minutes: float | None = None,
    device: str | torch.device | None = None,
    resume: bool = False,
    storage: str | None = None,
    tensorboard: Path | None = None,
    name: str | None = None,
    workers: Workers = ALONE,
    search: Record | None = None,
    baselines: bool = True,
    log: Log = ignore,
    on_event: OnEvent = ignore,
) -> dict[str, Any]:
    """Read, train, compare with the baselines, save. Returns the JSON object of `memorycell train`;
    of several workers only the first compares, saves and returns it, the others return {}. It also
    has the main picture, see `main_picture`, which is not printed.

    search   that found the settings, for the model file
    minutes  for everything; of settings with a number of steps the limit, which is logged
    baselines   compare with them; False: the model file says that they were left out
    device   to train on, see `device.choose`; the model file and its metrics are the CPU's
    name     of the data in the model file; by default as the dataset names them
    resume   continue from `OUT.resume`, with the losses of a run that was never interrupted
    storage  where `OUT.resume` is, see `checkpoint_path`

    The model file is written at every better validation metric, so that an interrupted run leaves
    the best model; KeyboardInterrupt is passed on after that.
    """
    began = time.monotonic()
    chosen = joined_device(choose(device)) if workers.count > 1 else choose(device)
    checkpoint = checkpoint_path(out, storage)
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it, or name another file")
    if resume and not checkpoint.exists():
        raise UserError(f"{checkpoint}: nothing to resume; start without --resume")
    if workers.first:
        check_storage(out, storage)
    dataset = application.prepare(data, settings)
    for note in dataset.notes:
        log(note)
    metric = dataset.metric(application.metric)
    selection = application.selection_metric or metric.name
    compared = time.monotonic()
    best_baseline = None
    dataset.with_baselines = baselines
    if workers.first and baselines:
        best_baseline = _best_on_validation(dataset.baselines("valid"), metric, selection, log)
    compare_s = 2 * (time.monotonic() - compared)
    if chosen.type != "cpu":
        log(f"trains on {chosen}; validation and test on the CPU")
    elif binding.engine is None:
        log(f"the native engine is missing, training is slower: {binding.missing}")
    budget_s = None
    if minutes is not None:  # of which a part is kept for the comparison on the test split
        budget_s = 60 * minutes - (time.monotonic() - began) - min(compare_s, MAX_SHARE * minutes)
        budget_s = dataset.training_budget(budget_s) if baselines else budget_s
    budget_s = budget_s if workers.count == 1 else workers.from_first(budget_s)
    run = Run(dataset, train_settings, selection, best_baseline, budget_s, chosen, workers)
    if resume:
        load_checkpoint(run, checkpoint)
        log(f"resumed after epoch {run.progress.epoch}")
    dataset.attach(run.model, log)
    if minutes is not None and train_settings.steps is not None and not resume:
        log(f"trains for {train_settings.steps:,} updates, at most {minutes:g} minutes in all")
    info = {
        "task": application.name,
        "primary": metric.name,
        "higher": metric.higher_is_better,
        **dataset.info(),
        **({} if name is None else {"data": name}),
        "notes": dataset.notes,
        "training": dataclasses.asdict(train_settings),
        "to_beat": best_baseline,
        **({} if search is None else {"search": search}),
        **({} if baselines else {"compared": False}),
    }

    def on_checkpoint(better: bool) -> None:
        if not workers.first:
            return
        save_checkpoint(run, checkpoint)
        if better:
            model = dataset.build()
            model.load_state_dict(run.best_weights)
            _save(model, dataset, {**info, "history": run.progress.history}, out)

    with run.threads:
        run.fit(on_event, on_checkpoint, tensorboard)
    if not workers.first:
        return {}
    model, ended = run.best_model(), {"updates": run.progress.step, "ended_by": run.ended_by}
    if end := _end_note(run, minutes):
        log(end)
    logged = len(dataset.notes)
    dataset.calibrate(model)
    for note in dataset.notes[logged:]:
        log(note)
    result = compare(application, dataset, model, file=str(out), seconds=time.monotonic() - began)
    info |= {key: result[key] for key in ("metrics", "baselines", "skill")}
    result |= ended
    result |= main_picture(application, dataset, model, result)
    _save(model, dataset, {**info, "history": run.progress.history}, out)
    checkpoint.unlink(missing_ok=True)
    return result


def main_picture(
    application: AnyApplication, dataset: AnyDataset, model: Model[Any], result: Record
) -> Record:
    """`PICTURE` -> the main picture of a model as JSON, from the result of `compare`; {} where
    there is none.
    """
    if application.picture is None:
        picture = picture_of_result(result)
    else:
        picture = application.picture(dataset, model, result)
    return {} if picture is None else {PICTURE: picture.to_json()}


def evaluate(
    application: AnyApplication,
    file: AnyModelFile,
    path: Path,
    data: str | None,
    log: Log = ignore,
) -> dict[str, Any]:
    """Evaluate a model file on its test split, or on other data.

    Returns the JSON object of `memorycell evaluate`.
    """
    began = time.monotonic()
    dataset = application.reopen(data, file)
    for note in dataset.notes:
        log(note)
    seconds = time.monotonic() - began
    return compare(application, dataset, file.model, file=str(path), seconds=seconds)


def compare(
    application: AnyApplication,
    dataset: AnyDataset,
    model: Model[Any],
    *,
    file: str,
    seconds: float,
) -> dict[str, Any]:
    """The metrics of the model and of the baselines on the test split.

    `skill` is the relative improvement over the best baseline; None where there is none.
    """
    metric = dataset.metric(application.metric)
    began = time.monotonic()
    scores = _defined(dataset.evaluate(model, "test"), metric)
    baselines = test_baselines(dataset, metric) if dataset.with_baselines else {}
    details = dataset.details(model, "test")
    return {
        "task": application.name,
        "file": file,
        "primary": metric.name,
        "higher": metric.higher_is_better,
        "metrics": scores,
        "baselines": baselines,
        "skill": skill(metric, scores, baselines),
        "seconds": round(seconds + time.monotonic() - began, 2),
        **details,
    }


def test_baselines(dataset: AnyDataset, metric: Metric) -> dict[str, Metrics]:
    """The metrics of the baselines on the test split."""
    return {n: _defined(own, metric) for n, own in dataset.baselines("test").items()}


def _defined(scores: Metrics, metric: Metric) -> Metrics:
    """Without further metrics that are not defined for the split, such as R² of one number."""
    return {n: value for n, value in scores.items() if math.isfinite(value) or n == metric.name}


def skill(metric: Metric, scores: Metrics, baselines: dict[str, Metrics]) -> float | None:
    """The relative improvement over the best baseline; None where there is none."""
    if not baselines:
        return None
    return metric.skill(scores[metric.name], baselines[metric.best(baselines)][metric.name])


def _best_on_validation(
    baselines: dict[str, Metrics], metric: Metric, selection: str, log: Log
) -> float | None:
    """The selection metric of the best baseline, which is logged."""
    if not all(metric.name in scores for scores in baselines.values()):
        metric = Metric(selection)
    best = metric.best(baselines)
    log(f"best baseline on validation: {best}, {metric.name} {baselines[best][metric.name]:.4g}")
    return baselines[best].get(selection)


def _end_note(run: Run[Any, Any], minutes: float | None) -> str | None:
    """What ended a run before its plan; None where nothing did."""
    p, steps = run.progress, run.settings.steps
    if run.ended_by == "patience":
        return (
            f"training ended: no better {run.selection_metric} on validation in the last"
            f" {p.epoch - 1 - p.best_epoch} epochs; the model is that of epoch {p.best_epoch + 1}"
        )
    if run.ended_by == "minutes" and steps is not None:
        limit = minutes or (p.budget_s or 0.0) / 60  # of a resumed run
        return (
            f"the limit of {limit:.3g} minutes ended training after {p.step:,} of {steps:,}"
            f" updates; --set steps={steps} trains for all of them, without a limit"
        )
    return None


def _save(model: Model[Any], dataset: AnyDataset, info: dict[str, Any], out: Path) -> None:
    ModelFile(model, dataset.codec, info, dataset.arrays()).save(out)
