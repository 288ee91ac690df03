"""The progress of a training run: a bar on a terminal or in a notebook, lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from memorycell.training.events import Epoch, Log, OnEvent, Step
from memorycell.training.notebook_progress import NotebookLine


@contextlib.contextmanager
def progress_bar(metric: str, log: Log) -> Iterator[OnEvent]:
    """Follows a training run: a bar on a terminal or in a notebook, one line per epoch elsewhere.

    metric   the validation metric to show
    log      called with the lines
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    ]
    notebook = NotebookLine() if console.is_jupyter else None
    live = console.is_terminal or notebook is not None
    disable = not live or notebook is not None  # rich's own needs ipywidgets there
    with (
        contextlib.closing(notebook) if notebook is not None else contextlib.nullcontext(),
        Progress(*columns, console=console, transient=True, disable=disable) as bar,
    ):
        job = bar.add_task("reading", total=None, figures="")
        shown_warnings: set[str] = set()
        valid = ""

        def on_event(event: Step | Epoch) -> None:
            nonlocal valid
            if isinstance(event, Step):
                if notebook is not None:
                    share = event.step / event.steps if event.steps else None
                    figures = _step_figures(event) + valid
                    notebook.show(f"{_epoch_label(event)} {figures}", share)
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
            if not live:
                line = f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}{valid}"
                line += f"  {event.speed:,.0f} steps/s  {event.seconds:.0f} s"
                log(line)
            if event.warning and event.warning.split(":")[0] not in shown_warnings:
                shown_warnings.add(event.warning.split(":")[0])
                log(f"warning: {event.warning}")

        yield on_event


def _epoch_label(step: Step) -> str:
    return f"epoch {step.epoch + 1}" + (f"/{step.epochs}" if step.epochs else "")


def _step_figures(step: Step) -> str:
    rate = step.step / step.seconds if step.seconds else 0.0
    left = f", {(step.steps - step.step) / rate:.0f} s left" if step.steps and rate else ""
    return f"loss {step.loss:.4f}, {step.speed:,.0f} steps/s{left}"
