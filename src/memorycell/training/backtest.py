"""Walk-forward evaluation: train on the past, test on the next period of time, move on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from memorycell.application import modelfile
from memorycell.application.contract import AnyModelFile, Application, Metrics, O, P, S
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.training.device import choose
from memorycell.training.events import Log, OnEvent, ignore
from memorycell.training.loop import compare, skill, train


def backtest(
    application: Application[S, P, O],
    data: str | None,
    settings: S,
    train_settings: TrainSettings,
    folder: Path,
    *,
    folds: int,
    start: float,
    refit: bool,
    minutes: float | None = None,
    device: str | torch.device | None = None,
    log: Log = ignore,
    on_event: OnEvent = ignore,
) -> dict[str, Any]:
    """Returns the JSON object of `memorycell backtest`.

    folder   for the model files, fold-1.safetensors, …
    folds    equal periods of time, from the share `start` of the time range on
    refit    train a new model before each period, instead of once before the first
    device   to train on, see `device.choose`
    """
    began, chosen = time.monotonic(), choose(device)
    walk = application.walk_forward
    if walk is None:
        raise UserError(
            f"backtest: not for the task {application.name}: its data have no time axis"
        )
    edges = [start + (1 - start) * k / folds for k in range(folds + 1)]
    results: list[dict[str, Any]] = []
    file: AnyModelFile | None = None
    for k, (begin, end) in enumerate(pairwise(edges), 1):
        own = walk.settings(settings, begin, end)
        path = folder / f"fold-{k if refit else 1}.safetensors"
        if refit or file is None:
            log(f"fold {k} of {folds}: trains on the first {begin:.0%} of the time")
            scores = train(
                application,
                data,
                own,
                train_settings,
                path,
                minutes=minutes,
                device=chosen,
                log=log,
                on_event=on_event,
            )
            file = modelfile.load(path)
        else:
            dataset = walk.reopen(file, begin, end)
            scores = compare(application, dataset, file.model, file=str(path), seconds=0.0)
        results.append(
            {
                "test": f"{begin:.6g}:{end:.6g}",
                "metrics": scores["metrics"],
                "baselines": scores["baselines"],
            }
        )
    metrics = _mean([result["metrics"] for result in results])
    baselines = {
        name: _mean([result["baselines"][name] for result in results])
        for name in results[0]["baselines"]
    }
    return {
        "task": application.name,
        "primary": application.metric.name,
        "higher": application.metric.higher_is_better,
        "refit": refit,
        "folds": results,
        "metrics": metrics,
        "baselines": baselines,
        "skill": skill(application.metric, metrics, baselines),
        "seconds": round(time.monotonic() - began, 2),
    }


def _mean(scores: Sequence[Metrics]) -> Metrics:
    return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}
