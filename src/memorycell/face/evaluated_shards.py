"""Evaluation on many files: each is a job whose metrics are kept, and all are combined exactly."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memorycell.application.combining import Combinable, combined
from memorycell.application.contract import Record
from memorycell.errors import UserError
from memorycell.face.shards import ShardResults, loaded, run_files
from memorycell.face.trained import Trained
from memorycell.face.workers import Work
from memorycell.files import write_atomically
from memorycell.training.events import Log, ignore
from memorycell.training.loop import skill

FUNCTION = f"{__name__}:evaluate_file"


def evaluate_files(
    model: Trained,
    inputs: str | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    workers: int = 1,
    log: Log = ignore,
    run_jobs: Work | None = None,
) -> tuple[Record | None, ShardResults]:
    """(the result of `Trained.evaluate` on all files together, None where none could be evaluated;
    what became of the files)

    out   folder where the metrics of each file are kept, so that an interrupted run continues;
          None: they are not

    The metrics are those of one evaluation on the data of all files, but for rounding, where each
    file is independent of the others; metrics that are no means over values are left out. Raises
    `UserError`, as `predict_files`, and for a task whose metrics cannot be combined.
    """
    with contextlib.nullcontext(out) if out is not None else tempfile.TemporaryDirectory() as place:
        results = run_files(
            model,
            inputs,
            Path(place),
            ".json",
            FUNCTION,
            {},
            workers=workers,
            log=log,
            run_jobs=run_jobs,
        )
        done = {*results.written, *results.skipped}
        parts = [json.loads(t.read_text()) for t in results.targets if str(t) in done]
    return _combined(model, parts, results.seconds), results


def evaluate_file(job: Mapping[str, Any]) -> None:
    """A job of `evaluate_files`: evaluate one file and write its metrics."""
    model = loaded(job["model"])
    dataset = model.application.reopen(job["source"], model)
    if not isinstance(dataset, Combinable):
        raise UserError(
            f"{model.task}: its metrics on several files cannot be combined; evaluate them one by"
            " one, or join them"
        )
    metric = dataset.metric(model.application.metric)
    part = {
        "primary": metric.name,
        "higher": metric.higher_is_better,
        "metrics": dataset.evaluate(model.model, "test"),
        "baselines": dataset.baselines("test") if dataset.stored_baselines else {},
        "weights": dict(dataset.weights("test")),
        "geometric_means": list(dataset.geometric_means),
    }
    write_atomically(Path(job["target"]), json.dumps(part) + "\n")


def _combined(model: Trained, parts: Sequence[Mapping[str, Any]], seconds: float) -> Record | None:
    """The JSON object of `memorycell evaluate`; None where there are no parts."""
    if not parts:
        return None
    geometric = parts[0]["geometric_means"]
    metrics = combined([(p["metrics"], p["weights"]) for p in parts], geometric)
    baselines = {
        name: combined([(p["baselines"][name], p["weights"]) for p in parts], geometric)
        for name in parts[0]["baselines"]
        if all(name in p["baselines"] for p in parts)
    }
    metric = model.application.metric
    primary = parts[0]["primary"]
    if primary not in metrics:
        return None
    return {
        "task": model.task,
        "file": str(model.path),
        "primary": primary,
        "higher": parts[0]["higher"],
        "metrics": metrics,
        "baselines": baselines,
        "skill": skill(metric, metrics, baselines) if metric.name == primary else None,
        "seconds": round(seconds, 2),
    }
