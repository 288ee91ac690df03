"""tasks, train, backtest, evaluate."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memorycell.cli import console
from memorycell.cli.app import (
    app,
    load_model,
    load_task,
    packages_of,
)
from memorycell.cli.ending import STOPPED
from memorycell.cli.options import (
    AsJson,
    Data,
    Minutes,
    ModelPath,
    Settings,
    key_values,
    number,
    whole,
)
from memorycell.cli.outputs import MODEL, PAGE, check_file, check_folder, output_folder
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
            console.log(str(error))
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
        console.put_json(rows)
        return
    for a in found:
        kinds = (a.settings, TrainSettings)
        names = " ".join(field.name for kind in kinds for field in dataclasses.fields(kind))
        console.put(
            f"{a.name}\n  {a.summary}\n  reads      {a.reads}\n  default    {a.default_dataset}\n"
            f"  baselines  {', '.join(a.baselines)}\n  settings   {names}\n"
        )
    console.put(
        "memorycell train TASK [DATA] --set key=value …; memorycell data list for the datasets"
    )


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
    check_file("--out", out, MODEL, inputs=(data,))
    check_file("--report", report, PAGE, inputs=(data,))
    check_folder("--tensorboard", tensorboard)
    _check_package(tensorboard)
    from memorycell.training import checkpoint, loop
    from memorycell.training.progress import progress_bar

    if resume:  # before the data are read
        checkpoint.read_checkpoint(checkpoint.checkpoint_path(out))
    before = _modified(out)

    metric = application.selection_metric or application.metric.name
    try:
        with packages_of(application), progress_bar(metric, console.log) as on_event:
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
            if _modified(out) != before
            else "nothing was saved yet"
        )
        console.report_error(f"stopped; {saved}")
        raise SystemExit(STOPPED) from None
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
        int, typer.Option("--folds", help="Number of consecutive test periods.", **whole(1, 1000))
    ] = 4,
    start: Annotated[
        float,
        typer.Option(
            "--start", help="Share of the time range where the first begins.", **number(0.1, 0.99)
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
    check_folder("--out", out)
    from memorycell.training import backtest as walk
    from memorycell.training.progress import progress_bar

    metric = application.selection_metric or application.metric.name
    with (
        output_folder(out) as folder,
        packages_of(application),
        progress_bar(metric, console.log) as on_event,
    ):
        result = walk.backtest(
            application,
            data,
            own,
            train_settings,
            folder,
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
    check_file("--report", report, PAGE, inputs=(file, data))
    application, model = load_model(file)
    from memorycell.training import loop

    with packages_of(application):
        result = loop.evaluate(application, model, file, data, console.log)
        if report is not None:
            _write_report(file, data, report, result)
    console.print_result(result, as_json)


def _settings(task: str, pairs: list[str] | None) -> tuple[AnyApplication, Any, TrainSettings]:
    """The application, its settings and those of training. Raises `UserError`."""
    from memorycell.settings import parse_settings

    application = load_task(task)
    own, train_settings = parse_settings(
        (application.settings(), application.training), key_values(pairs)
    )
    return application, own, train_settings


def _check_package(tensorboard: Path | None) -> None:
    if tensorboard is not None and find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs a package: pip install 'memorycell[log]'")


def _modified(path: Path) -> int | None:
    """When a file was written; None where there is none."""
    return path.stat().st_mtime_ns if path.exists() else None


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
