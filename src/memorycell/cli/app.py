"""The command, and what its verbs share. Heavy imports are inside the verbs, so that
`memorycell --help` is fast.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from memorycell.cli.console import put
from memorycell.cli.ending import status_of
from memorycell.errors import UserError, quote

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication, AnyModelFile
    from memorycell.face.parallel_training import Launch
    from memorycell.face.trained import Trained
    from memorycell.face.workers import Work


class Verbs(TyperGroup):
    """Every error ends with one line on stderr and a status: see `ending.status_of`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *others: Any,
        **options: Any,
    ) -> Any:
        """Run the command line. Raises SystemExit."""

        def verb() -> None:
            words = list(sys.argv[1:] if args is None else args)
            with self.make_context(prog_name or "memorycell", words) as context:
                self.invoke(context)

        raise SystemExit(status_of(verb))


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Train an LSTM on your sequences, look inside its gates, and run it live, one step at a"
        " time."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        put(f"memorycell {version('memorycell')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """The options of the command itself."""


def load_model(path: Path) -> Trained:
    """The model in a file. Raises `UserError`."""
    from memorycell.face.trained import load

    return load(path)


def jobs_at(address: str | None) -> Work | None:
    """What runs jobs on the Ray cluster at an address; None: processes of this machine."""
    if address is None:
        return None
    from memorycell.cluster.jobs import work_at

    return work_at(address)


def training_at(address: str | None) -> Launch | None:
    """What trains on the Ray cluster at an address; None: processes of this machine."""
    if address is None:
        return None
    from memorycell.cluster.training import training_at

    return training_at(address)


def load_task(name: str) -> AnyApplication:
    """The application of a task. Raises `UserError`, for an unknown one with the nearest name."""
    from memorycell.application import catalogue
    from memorycell.setting_fields import suggestion

    if name not in catalogue.names():
        raise UserError(
            f"{quote(name)}: no such task; {suggestion(name, catalogue.names())}there are"
            f" {', '.join(catalogue.names())} (memorycell tasks)"
        )
    return catalogue.load(name)


@contextlib.contextmanager
def packages_of(application: AnyApplication) -> Iterator[None]:
    """Raises `UserError` with the extra to install where a package of an application is missing."""
    from memorycell.application import catalogue

    try:
        yield
    except ModuleNotFoundError as error:
        raise catalogue.missing_package(application.name, error) from None


def check_precision(*names: str) -> None:
    """Raises `UserError` for an unknown precision."""
    from memorycell.ops import binding

    for name in names:
        if name not in binding.PRECISIONS:
            raise UserError(f"--precision {name}: expected {', '.join(binding.PRECISIONS)}")


def check_engine(file: AnyModelFile, precision: str) -> None:
    """Raises `UserError` where the native engine does not support a model in a precision."""
    reason = None if precision == "float32" else file.model.unsupported_reason()
    if reason:
        raise UserError(f"--precision {precision}: {reason}")
