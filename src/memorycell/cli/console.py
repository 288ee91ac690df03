"""What the verbs show: the progress of training, tables of metrics and forecasts. rich is imported
when it is needed.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memorycell.training.loop import Epoch, Step


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """The metrics of `train` and `evaluate` beside the simple methods', as a table or as one JSON
    line.
    """
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    from memorycell.tasks import TASKS

    table = Table(
        title=f"{result['task']}: on the test part, which it never saw", title_justify="left"
    )
    primary = result["primary"]
    task = replace(TASKS[result["task"]], primary=primary, higher=result["higher"])
    arrow = "↑" if task.higher else "↓"
    table.add_column("method")
    for metric in result["metrics"]:
        table.add_column(f"{metric} {arrow}" if metric == primary else metric, justify="right")
    simple = sorted(
        result["baselines"].items(), key=lambda item: item[1][primary], reverse=not task.higher
    )
    for name, values in [*simple, ("memorycell", result["metrics"])]:  # the best last
        cells = (f"{values[m]:.4g}" if m in values else "" for m in result["metrics"])
        table.add_row(name, *cells, style="bold" if name == "memorycell" else "")
    console = Console()
    console.print(table)
    if "confusion" in result:
        console.print(_confusion(result["confusion"]))
    if len(result.get("by_lead", ())) > 1:
        console.print(_by_lead(result["by_lead"]))
    if "classic" in result:
        console.print(_classic(result["classic"], primary))
    if "direction" in result:
        console.print(direction(result["direction"]), highlight=False)
    if result["skill"] is not None:
        better = "better" if result["skill"] >= 0 else "WORSE"
        best = task.best(result["baselines"])
        console.print(
            f"{primary} {arrow}: {abs(result['skill']):.1%} {better} than the best simple method"
            f" ({best})",
            highlight=False,
        )
        if result["skill"] < 0:
            console.print("On these data the simple method is the better tool.", highlight=False)
    console.print(
        f"model file: {result['file']}   ({result['seconds']:.0f} s)",
        highlight=False,
        soft_wrap=True,
    )


def print_backtest(result: dict[str, Any], as_json: bool) -> None:
    """The primary metric of every fold, the model's beside the simple methods', as a table or as
    one JSON line.
    """
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    primary = result["primary"]
    table = Table(
        title=f"{primary} of every fold, each forecast from what came before it",
        title_justify="left",
    )
    for name in ("method", *(fold["test"] for fold in result["folds"]), "mean"):
        table.add_column(name, justify="left" if name == "method" else "right")
    simple = sorted(
        result["baselines"],
        key=lambda name: result["baselines"][name][primary],
        reverse=not result["higher"],
    )
    for name in simple:
        cells = [fold["baselines"][name][primary] for fold in result["folds"]] + [
            result["baselines"][name][primary]
        ]
        table.add_row(name, *(f"{c:.4g}" for c in cells))
    cells = [fold["metrics"][primary] for fold in result["folds"]] + [result["metrics"][primary]]
    table.add_row("memorycell", *(f"{c:.4g}" for c in cells), style="bold")
    console = Console()
    console.print(table)
    better = "better" if result["skill"] >= 0 else "WORSE"
    console.print(
        f"{abs(result['skill']):.1%} {better} than the best simple method in the mean"
        f" ({result['seconds']:.0f} s)",
        highlight=False,
    )


def _by_lead(scores: dict[str, dict[str, float]]) -> Any:
    """CRPS by how many steps ahead, the model's beside the best simple method's."""
    from rich.table import Table

    table = Table(title="CRPS by steps ahead", title_justify="left")
    table.add_column("method")
    for lead in scores:
        table.add_column(lead, justify="right")
    for name in sorted(next(iter(scores.values())), key=lambda name: name == "memorycell"):
        table.add_row(name, *(f"{by[name]:.3g}" for by in scores.values()))
    return table


def _classic(scores: dict[str, Any], primary: str) -> Any:
    """The classic methods beside the model, at the steps at which they were fitted."""
    from rich.table import Table

    methods = {name: values for name, values in scores.items() if name != "origins"}
    table = Table(
        title=f"at {scores['origins']} steps, the classic methods fitted anew at each",
        title_justify="left",
    )
    table.add_column("method")
    for metric in methods["memorycell"]:
        table.add_column(metric, justify="right")
    for name in sorted(methods, key=lambda name: -methods[name][primary]):
        table.add_row(name, *(f"{value:.4g}" for value in methods[name].values()))
    return table


def direction(found: dict[str, float]) -> str:
    """What a forecast of up or down is worth, in words."""
    between = (
        f"right {found['accuracy']:.1%} of {found['count']:,} times, 95% interval"
        f" {found['low']:.1%} to {found['high']:.1%}"
    )
    if found["low"] <= 0.5 <= found["high"]:
        return (
            f"up or down: {between}: no skill in the mean; what is forecast is how far, not"
            " which way"
        )
    return (
        f"up or down: {between}: {'more' if found['low'] > 0.5 else 'less'} often right than a coin"
    )


def _confusion(counts: dict[str, dict[str, int]]) -> Any:
    """Rows are what it was, columns what was answered."""
    from rich.table import Table

    table = Table(title="what it was (rows), what was answered (columns)", title_justify="left")
    table.add_column("")
    for name in counts:
        table.add_column(name, justify="right")
    for name, row in counts.items():
        table.add_row(name, *(str(n) for n in row.values()))
    return table


@contextlib.contextmanager
def progress(watched: str) -> Iterator[Any]:
    """A watcher for `training.train`: a bar on a terminal, a line an epoch elsewhere; both on
    stderr.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from memorycell.training.loop import Step

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
        seen: set[str] = set()
        valid = ""

        def watch(event: Step | Epoch) -> None:
            nonlocal valid
            if isinstance(event, Step):
                rate = event.step / event.seconds if event.seconds else 0.0
                left = (
                    f", {(event.steps - event.step) / rate:.0f} s left"
                    if event.steps and rate
                    else ""
                )
                label = f"epoch {event.epoch + 1}" + (f"/{event.epochs}" if event.epochs else "")
                figures = f"loss {event.loss:.4f}, {event.speed:,.0f} steps/s{left}{valid}"
                bar.update(
                    job, description=label, total=event.steps, completed=event.step, figures=figures
                )
                return
            score = event.valid[watched]
            beat = "" if event.to_beat is None else f", to beat {event.to_beat:.4g}"
            valid = f", {watched} {score:.4g} (best {event.best:.4g}{beat})"
            if not console.is_terminal:
                print(
                    f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}{valid} "
                    f" {event.speed:,.0f} steps/s  {event.seconds:.0f} s",
                    file=sys.stderr,
                )
            if event.warning and event.warning.split(":")[0] not in seen:
                seen.add(event.warning.split(":")[0])
                console.print(f"warning: {event.warning}")

        yield watch
