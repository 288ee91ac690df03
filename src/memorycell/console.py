"""What the verbs show: the progress of training, tables of metrics and forecasts. rich is imported when it is needed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memorycell.training import Epoch, Step


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """The metrics of `train` and `evaluate` beside the simple methods', as a table or as one JSON line."""
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['task']}: on the test part, which it never saw", title_justify="left")
    primary = result["primary"]
    table.add_column("method")
    for metric in result["metrics"]:
        table.add_column(metric + (" ↓" if metric == primary else ""), justify="right")
    rows = sorted(result["baselines"].items(), key=lambda item: item[1][primary], reverse=True)
    for name, values in [*rows, ("memorycell", result["metrics"])]:
        table.add_row(name, *(f"{v:.4g}" for v in values.values()), style="bold" if name == "memorycell" else "")
    console = Console()
    console.print(table)
    best = min(result["baselines"], key=lambda name: result["baselines"][name][primary])
    better = "better" if result["skill"] >= 0 else "WORSE"
    console.print(
        f"{primary}: {abs(result['skill']):.1%} {better} than the best simple method ({best})", highlight=False
    )
    if result["skill"] < 0:
        console.print(f"On these data {best} is the better tool.", highlight=False)
    console.print(f"model file: {result['file']}   ({result['seconds']:.0f} s)", highlight=False, soft_wrap=True)


def print_forecasts(records: list[dict[str, Any]], group: str | None) -> None:
    """A table a series."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for record in records:
        of = f" of {record[group]}" if group else ""
        table = Table(title=f"forecast{of} from {record['time']}", title_justify="left")
        table.add_column("time")
        for target in record["forecast"]:
            table.add_column(f"{target}, median", justify="right")
            table.add_column("80% interval", justify="right")
        for k, moment in enumerate(record["ahead"]):
            cells = []
            for values in record["forecast"].values():
                cells += [f"{values['median'][k]:.5g}", f"{values['low80'][k]:.5g} … {values['high80'][k]:.5g}"]
            table.add_row(str(moment), *cells)
        console.print(table)


def forecast_csv(records: list[dict[str, Any]], group: str | None) -> str:
    """The same as CSV, a line a time and target."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*([group] if group else []), "time", "target", "median", "low80", "high80"])
    for record in records:
        for target, values in record["forecast"].items():
            for k, moment in enumerate(record["ahead"]):
                own = [record[group]] if group else []
                writer.writerow([*own, moment, target, *(values[q][k] for q in ("median", "low80", "high80"))])
    return text.getvalue()


@contextlib.contextmanager
def progress(primary: str) -> Iterator[Any]:
    """A watcher for `training.train`: a bar on a terminal, a line an epoch elsewhere; both on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from memorycell.training import Step

    console = Console(stderr=True, highlight=False)
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task("reading", total=None, figures="")
        seen: set[str] = set()
        valid = ""

        def watch(event: Step | Epoch) -> None:
            nonlocal valid
            if isinstance(event, Step):
                speed = event.step / event.seconds if event.seconds else 0.0
                left = f", {(event.steps - event.step) / speed:.0f} s left" if event.steps and speed else ""
                label = f"epoch {event.epoch + 1}" + (f"/{event.epochs}" if event.epochs else "")
                figures = f"loss {event.loss:.4f}, {speed:.1f} steps/s{left}{valid}"
                bar.update(job, description=label, total=event.steps, completed=event.step, figures=figures)
                return
            score = event.valid[primary]
            valid = f", {primary} {score:.4g} (best {event.best:.4g}, to beat {event.to_beat:.4g})"
            if not console.is_terminal:
                print(
                    f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}{valid}  {event.seconds:.0f} s",
                    file=sys.stderr,
                )
            if event.warning and event.warning.split(":")[0] not in seen:
                seen.add(event.warning.split(":")[0])
                console.print(f"warning: {event.warning}")

        yield watch
