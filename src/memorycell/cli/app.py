"""The command, and what its verbs share. Heavy imports are inside the verbs, so that
`memorycell --help` is fast.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from memorycell.errors import UserError

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication, AnyModelFile


class Verbs(TyperGroup):
    """A user's error is one line on stderr and status 2; Ctrl-C and SIGTERM end with 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(f"memorycell: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("memorycell: stopped", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # whoever read our output has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None


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

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
]
ModelPath = Annotated[Path, typer.Argument(metavar="FILE", help="A model file (.safetensors).")]
Data = Annotated[
    str | None, typer.Argument(metavar="[DATA]", help="A file, or the name of a dataset.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0.01, help="Approximate training time in minutes.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"memorycell {version('memorycell')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """The options of the command itself."""


def load_model(path: Path) -> tuple[AnyApplication, AnyModelFile]:
    """A model file and its application. Raises `UserError`."""
    from memorycell.application import catalogue, modelfile

    file = modelfile.load(path)
    return catalogue.load(file.task), file


@contextlib.contextmanager
def packages_of(application: AnyApplication) -> Iterator[None]:
    """Raises `UserError` with the extra to install where a package of an application is missing."""
    from memorycell.application import catalogue

    try:
        yield
    except ModuleNotFoundError as error:
        raise catalogue.missing_package(application.name, error) from None


def key_values(settings: list[str] | None) -> dict[str, str]:
    """The pairs of --set. Raises `UserError`."""
    pairs = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: expected key=value")
        pairs[key.strip()] = value.strip()
    return pairs


def check_writable(*paths: Path | None) -> None:
    """Before long work. Raises `UserError` where a folder to write into is missing."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise UserError(
                f"{path}: there is no folder {path.parent}; make it, or name another file"
            )


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


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
