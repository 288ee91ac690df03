"""What the verbs print: the progress of training, and tables of results."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memorycell.training.events import Epoch, OnEvent, Step


def log(line: str) -> None:
    """A line for people; stdout is for results."""
    print(line, file=sys.stderr)


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """The metrics of a model and of the baselines, as a table or as JSON."""
    if as_json:
        print(json.dumps(result))
        return
    from memorycell.application import catalogue
    from memorycell.application.rendering import table_text

    primary, higher = result["primary"], result["higher"]
    arrow = "↑" if higher else "↓"
    metrics = list(result["metrics"])
    ranked = sorted(result["baselines"].items(), key=lambda b: b[1][primary], reverse=not higher)
    rows = (
        [name, *(f"{values[m]:.4g}" if m in values else "" for m in metrics)]
        for name, values in [*ranked, ("memorycell", result["metrics"])]
    )
    header = ["method", *(f"{m} {arrow}" if m == primary else m for m in metrics)]
    print(table_text(f"{result['task']}: on the held-out test split", header, rows))
    for block in catalogue.load(result["task"]).render_details(result):
        print(block)
    if result["skill"] is not None:
        print(f"{primary} {arrow}: {skill_text(result['skill'])} ({ranked[-1][0]})")
        if result["skill"] < 0:
            print("On these data the baseline is the better method.")
    print(f"model file: {result['file']}   ({result['seconds']:.0f} s)")


def print_backtest(result: dict[str, Any], as_json: bool) -> None:
    """The result of `backtest`: the metric of every fold and method, as a table or as JSON."""
    if as_json:
        print(json.dumps(result))
        return
    from memorycell.application.rendering import table_text

    primary, folds = result["primary"], result["folds"]
    ranked = sorted(
        result["baselines"],
        key=lambda name: result["baselines"][name][primary],
        reverse=not result["higher"],
    )
    rows = [
        [name, *(f"{f['baselines'][name][primary]:.4g}" for f in folds), f"{mean[primary]:.4g}"]
        for name in ranked
        for mean in [result["baselines"][name]]
    ]
    ours = [*(fold["metrics"][primary] for fold in folds), result["metrics"][primary]]
    rows.append(["memorycell", *(f"{value:.4g}" for value in ours)])
    header = ["method", *(fold["test"] for fold in folds), "mean"]
    print(table_text(f"{primary} of every fold", header, rows))
    print(f"{skill_text(result['skill'])}, mean over the folds ({result['seconds']:.0f} s)")


def skill_text(skill: float) -> str:
    """A relative improvement in words."""
    return f"{abs(skill):.1%} {'better' if skill >= 0 else 'WORSE'} than the best baseline"


@contextlib.contextmanager
def progress(metric: str) -> Iterator[OnEvent]:
    """Follows a training run on stderr: a bar on a terminal, one line per epoch elsewhere.

    metric   the validation metric to show
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from memorycell.training.events import Step

    console = Console(stderr=True, highlight=False)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    ]
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        job = bar.add_task("reading", total=None, figures="")
        shown_warnings: set[str] = set()
        valid = ""

        def on_event(event: Step | Epoch) -> None:
            nonlocal valid
            if isinstance(event, Step):
                bar.update(
                    job,
                    description=_epoch_label(event),
                    total=event.steps,
                    completed=event.step,
                    figures=_step_figures(event) + valid,
                )
                return
            baseline = event.best_baseline
            compared = "" if baseline is None else f", best baseline {baseline:.4g}"
            valid = f", {metric} {event.valid[metric]:.4g} (best {event.best:.4g}{compared})"
            if not console.is_terminal:
                log(
                    f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}{valid}"
                    f"  {event.speed:,.0f} steps/s  {event.seconds:.0f} s"
                )
            if event.warning and event.warning.split(":")[0] not in shown_warnings:
                shown_warnings.add(event.warning.split(":")[0])
                console.print(f"warning: {event.warning}")

        yield on_event


def _epoch_label(step: Step) -> str:
    return f"epoch {step.epoch + 1}" + (f"/{step.epochs}" if step.epochs else "")


def _step_figures(step: Step) -> str:
    rate = step.step / step.seconds if step.seconds else 0.0
    left = f", {(step.steps - step.step) / rate:.0f} s left" if step.steps and rate else ""
    return f"loss {step.loss:.4f}, {step.speed:,.0f} steps/s{left}"
