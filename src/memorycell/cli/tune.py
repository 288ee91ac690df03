"""tune."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from memorycell.cli import console
from memorycell.cli.app import app, jobs_at, packages_of
from memorycell.cli.options import (
    MINUTES,
    Address,
    AsJson,
    Data,
    Device,
    Settings,
    Workers,
    key_values,
    whole,
)
from memorycell.cli.outputs import MODEL, PAGE, check_file
from memorycell.cli.train import Report, Task, settings_of


@app.command()
def tune(
    task: Task,
    data: Data = None,
    trials: Annotated[
        int, typer.Option("--trials", help="Settings to try.", **whole(1, 100_000))
    ] = 20,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Runs of each of the best three.", **whole(1, 100))
    ] = 3,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Limit of the search.", **MINUTES)
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="KEY=RANGE",
            help="Search a setting, as in lr=loguniform(1e-3,1e-2); or a .toml file of these.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The model file to write [default: TASK.safetensors]."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="Database URL of the trials [default: OUT.trials.db]."),
    ] = None,
    workers: Workers = None,
    address: Address = None,
    device: Device = None,
    settings: Settings = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Search the settings of a task, train a model with the best, and compare it with baselines."""
    from memorycell.face.tuning import SearchOptions, tune_model
    from memorycell.face.tuning_report import write_search_page
    from memorycell.face.tuning_space import read_spaces, search_space

    application, own, how = settings_of(task, settings)
    out = out or Path(f"{task}.safetensors")
    check_file("--out", out, MODEL, inputs=(data,))
    check_file("--report", report, PAGE, inputs=(data,))
    fixed = list(key_values(settings))
    found = search_space(application, read_spaces(space or []), own, how, fixed)
    options = SearchOptions(trials, seeds, workers or 1, minutes, storage)
    with packages_of(application):
        start = partial(tune_model, device=device, log=console.log, run_jobs=jobs_at(address))
        model = start(application, data, own, how, found, out, options)
    if report is not None:
        write_search_page(model, report)
    console.print_search(model, as_json)
