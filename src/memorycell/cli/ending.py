"""How a command ends: its exit status, and the one line on stderr where it failed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from memorycell.cli.console import discard_stdout, flush, report_error
from memorycell.cli.interrupt import interruptible
from memorycell.errors import UserError

STOPPED = 130
"""Status after Ctrl-C, SIGTERM and SIGHUP: 128 + SIGINT, as shells have it."""
TRACEBACK = "MEMORYCELL_TRACEBACK"
"""The environment variable that lets an unexpected exception end the program with its traceback."""


def status_of(verb: Callable[[], object]) -> int:
    """Run a verb. The exit status: 0; 2 for the user's errors; 130 after Ctrl-C, SIGTERM and
    SIGHUP; 1 for a defect. Whoever closes our output has enough: status 0.
    """
    if sys.stderr is None:  # closed by the caller; print would write to stdout
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        report_error("stdout is closed; redirect it to /dev/null instead")
        return 2
    with interruptible():
        status = _status_of(verb)
    return max(status, _flushed())


def _status_of(verb: Callable[[], object]) -> int:
    try:
        verb()
    except typer.Exit as end:
        return int(end.exit_code)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        report_error("stopped")
        return STOPPED
    except BrokenPipeError:
        discard_stdout()
        return 0
    except UserError as error:
        report_error(str(error))
        return 2
    except OSError as error:
        if error.filename is None:  # typer printing help
            discard_stdout()
        report_error(f"{error.filename or 'stdout'}: cannot be used ({error.strerror or error})")
        return 2
    except Exception as error:
        return _unexpected(error)
    return 0


def _unexpected(error: Exception) -> int:
    """Status 2 for a mistyped command line or too little memory; else 1."""
    if isinstance(error, typer.BadParameter.__mro__[1]):  # click's UsageError, wherever it is from
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
        else:
            report_error(_usage(error))
        return 2
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        report_error("not enough memory for this; use smaller settings or less data at a time")
        return 2
    if os.environ.get(TRACEBACK):
        raise error
    text = f"{type(error).__name__}: {error}"
    report_error(f"internal error ({text[:150]}); please report it: {TRACEBACK}=1 shows where")
    return 1


def _usage(error: Exception) -> str:
    """The message of an error in the command line, and where its help is."""
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    context = error.ctx  # type: ignore[attr-defined]
    end = "" if message.endswith("?") else ";"
    command = context.command_path if context is not None else "memorycell"
    return f"{message}{end} see {command} --help"


def _flushed() -> int:
    """The status of writing what stdout still buffers."""
    try:
        flush()
    except BrokenPipeError:
        discard_stdout()
    except UserError as error:
        report_error(str(error))
        return 2
    return 0
