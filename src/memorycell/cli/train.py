"""tasks, train, backtest, evaluate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memorycell.cli import console, many
from memorycell.cli.app import (
    app,
    load_model,
    load_task,
    packages_of,
    training_at,
)
from memorycell.cli.ending import STOPPED
from memorycell.cli.options import (
    Address,
    AsJson,
    Data,
    Device,
    Minutes,
    ModelPath,
    Settings,
    Workers,
    key_values,
    number,
    whole,
)
from memorycell.cli.outputs import MODEL, PAGE, check_file, check_folder

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication
    from memorycell.application.train_settings import TrainSettings
    from memorycell.face.trained import Trained

Report = Annotated[Path | None, typer.Option("--report", help="Also write an HTML report.")]
Storage = Annotated[
    str | None,
    typer.Option("--storage", help="Folder or URL of the checkpoint [default: that of --out]."),
]
Task = Annotated[str, typer.Argument(metavar="TASK", help="What to train; see `memorycell tasks`.")]


@app.command()
def tasks(as_json: AsJson = False) -> None:
    """List the tasks: what each reads, its baselines and its settings."""
    from memorycell.face.tasks import task_list

    found = task_list(console.log)
    if as_json:
        console.put_json([task.to_json() for task in found])
        return
    for task in found:
        console.put(f"{task}\n")
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
    device: Device = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    storage: Storage = None,
    workers: Workers = None,
    address: Address = None,
    report: Report = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Log to this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a dataset or a file of yours, keep the best, compare it with baselines."""
    application, own, train_settings = settings_of(task, settings)
    out = out or Path(f"{task}.safetensors")
    check_file("--out", out, MODEL, inputs=(data,))
    check_file("--report", report, PAGE, inputs=(data,))
    check_folder("--tensorboard", tensorboard)
    from memorycell.face.train import train_model

    with packages_of(application), _stopped(out):
        model = train_model(
            application,
            data,
            own,
            train_settings,
            out,
            minutes=minutes,
            device=device,
            resume=resume,
            storage=storage,
            tensorboard=tensorboard,
            workers=workers,
            launch=training_at(address),
            log=console.log,
        )
    _write_report(model, data, report)
    console.print_result(model.result or {}, as_json)


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
    device: Device = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Walk-forward evaluation: train on the past, test on the next period, move on."""
    application, own, train_settings = settings_of(task, settings)
    check_folder("--out", out)
    from memorycell.face.backtesting import backtest_model

    with packages_of(application):
        result = backtest_model(
            application,
            data,
            own,
            train_settings,
            folds=folds,
            start=start,
            refit=refit,
            out=out,
            minutes=minutes,
            device=device,
            log=console.log,
        )
    console.print_backtest(result, as_json)


@app.command()
def evaluate(
    file: ModelPath,
    data: Data = None,
    report: Report = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="'FOLDER/*.parquet'", help="Many files together instead of DATA."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Keep the metrics of each file of --input here."),
    ] = None,
    workers: Workers = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on its held-out test split or on other data, compared with baselines."""
    from memorycell.face.evaluating import evaluate_model

    check_file("--report", report, PAGE, inputs=(file, data))
    model = load_model(file)
    if (inputs, out, workers, address) != (None, None, None, None):
        many.evaluate_files(model, inputs, out, workers, address, data or report, as_json)
        return
    with packages_of(model.application):
        model.result = evaluate_model(model, data, console.log)
        _write_report(model, data, report)
    console.print_result(model.result, as_json)


def settings_of(task: str, pairs: list[str] | None) -> tuple[AnyApplication, Any, TrainSettings]:
    """The application, its settings and those of training. Raises `UserError`."""
    from memorycell.setting_fields import parse_settings

    application = load_task(task)
    own, train_settings = parse_settings(
        (application.settings(), application.training), key_values(pairs)
    )
    return application, own, train_settings


@contextlib.contextmanager
def _stopped(out: Path) -> Iterator[None]:
    """Ctrl-C ends the command with a line about the model file."""
    before = _modified(out)
    try:
        yield
    except KeyboardInterrupt:
        saved = (
            f"the best model so far is in {out}; --resume continues"
            if _modified(out) != before
            else "nothing was saved yet"
        )
        console.report_error(f"stopped; {saved}")
        raise SystemExit(STOPPED) from None


def _modified(path: Path) -> int | None:
    """When a file was written; None where there is none."""
    return path.stat().st_mtime_ns if path.exists() else None


def _write_report(model: Trained, data: str | None, report: Path | None) -> None:
    if report is None:
        return
    from memorycell.face.figures import report_page
    from memorycell.files import write_atomically

    write_atomically(report, report_page(model, data, model.result))
    console.log(f"written: {report}")
