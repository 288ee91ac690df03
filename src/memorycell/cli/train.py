"""tasks, train, backtest, evaluate."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memorycell.cli import console
from memorycell.cli.app import (
    AsJson,
    Data,
    Minutes,
    ModelPath,
    Settings,
    app,
    check_writable,
    key_values,
    load_model,
    packages_of,
)
from memorycell.errors import UserError

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication, TrainSettings

Report = Annotated[Path | None, typer.Option("--report", help="Also write an HTML report.")]
Task = Annotated[str, typer.Argument(metavar="TASK", help="What to train; see `memorycell tasks`.")]


@app.command()
def tasks(as_json: AsJson = False) -> None:
    """List the tasks: what each reads, its baselines and its settings."""
    from memorycell.application import catalogue
    from memorycell.application.contract import TrainSettings

    found = []
    for name in catalogue.names():
        try:
            found.append(catalogue.load(name))
        except UserError as error:  # a package is missing
            console.log(f"{error}\n")
    if as_json:
        rows = [
            {
                "name": a.name,
                "about": a.summary,
                "reads": a.reads,
                "source": a.default_dataset,
                "primary": a.metric.name,
                "baselines": a.baselines,
            }
            for a in found
        ]
        print(json.dumps(rows))
        return
    for a in found:
        kinds = (a.settings, TrainSettings)
        names = " ".join(field.name for kind in kinds for field in dataclasses.fields(kind))
        print(f"{a.name}\n  {a.summary}\n  reads      {a.reads}\n  default    {a.default_dataset}")
        print(f"  baselines  {', '.join(a.baselines)}\n  settings   {names}\n")
    print("memorycell train TASK [DATA] --set key=value …; memorycell data list for the datasets")


@app.command()
def train(
    task: Task,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The model file to write [default: TASK.safetensors]."),
    ] = None,
    minutes: Minutes = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    report: Report = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Log to this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a dataset or a file of yours, keep the best, compare it with baselines."""
    application, own, train_settings = _settings(task, settings)
    if minutes is None and train_settings.epochs is None:
        minutes = application.minutes
    out = out or Path(f"{task}.safetensors")
    check_writable(out, report)
    from memorycell.training import loop

    metric = application.selection_metric or application.metric.name
    try:
        with packages_of(application), console.progress(metric) as on_event:
            result = loop.train(
                application,
                data,
                own,
                train_settings,
                out,
                minutes=minutes,
                resume=resume,
                tensorboard=tensorboard,
                log=console.log,
                on_event=on_event,
            )
    except KeyboardInterrupt:
        saved = (
            f"the best model so far is in {out}; --resume continues"
            if out.exists()
            else "nothing was saved yet"
        )
        print(f"memorycell: stopped; {saved}", file=sys.stderr)
        raise SystemExit(130) from None
    if report is not None:
        _write_report(out, data, report, result)
    console.print_result(result, as_json)


@app.command()
def backtest(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A task whose data have a time axis: forecast.")
    ],
    data: Data = None,
    folds: Annotated[
        int, typer.Option("--folds", min=1, help="Number of consecutive test periods.")
    ] = 4,
    start: Annotated[
        float,
        typer.Option(
            "--start", min=0.1, max=0.99, help="Share of the time range where the first begins."
        ),
    ] = 0.6,
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Train a new model for each period, or once.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep the model files here.")
    ] = None,
    minutes: Minutes = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Walk-forward evaluation: train on the past, test on the next period, move on."""
    application, own, train_settings = _settings(task, settings)
    import tempfile

    from memorycell.files import make_folder
    from memorycell.training import backtest as walk

    metric = application.selection_metric or application.metric.name
    with (
        tempfile.TemporaryDirectory() as folder,
        packages_of(application),
        console.progress(metric) as on_event,
    ):
        result = walk.backtest(
            application,
            data,
            own,
            train_settings,
            make_folder(out or Path(folder)),
            folds=folds,
            start=start,
            refit=refit,
            minutes=minutes,
            log=console.log,
            on_event=on_event,
        )
    console.print_backtest(result, as_json)


@app.command()
def evaluate(
    file: ModelPath, data: Data = None, report: Report = None, as_json: AsJson = False
) -> None:
    """Evaluate a model on its held-out test split or on other data, compared with baselines."""
    check_writable(report)
    application, model = load_model(file)
    from memorycell.training import loop

    with packages_of(application):
        result = loop.evaluate(application, model, file, data, console.log)
        if report is not None:
            _write_report(file, data, report, result)
    console.print_result(result, as_json)


def _settings(task: str, pairs: list[str] | None) -> tuple[AnyApplication, Any, TrainSettings]:
    """The application, its settings and those of training. Raises `UserError`."""
    from memorycell.application import catalogue
    from memorycell.settings import parse_settings

    application = catalogue.load(task)
    own, train_settings = parse_settings(
        (application.settings(), application.training), key_values(pairs)
    )
    return application, own, train_settings


def _write_report(file: Path, data: str | None, report: Path, result: dict[str, Any]) -> None:
    from memorycell.application.report import evaluation_page
    from memorycell.files import write_atomically

    application, model = load_model(file)
    if application.report is None:
        page = evaluation_page(model, result)
    else:
        page = application.report(model, data, result)
    write_atomically(report, page)
    console.log(f"written: {report}")
