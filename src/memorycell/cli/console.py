"""What the verbs print: results on stdout, lines for people on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from memorycell.errors import UserError

if TYPE_CHECKING:
    from memorycell.face.trained import Trained

MAX_ERROR_CHARS = 299
"""Length of an error line."""
MIN_END_CHARS = 120
"""What a line that is cut keeps of its end, where the fix is."""


def log(line: str) -> None:
    """A line for people; stdout is for results. Never fails: the work matters more."""
    with contextlib.suppress(OSError):
        print(one_line(line), file=sys.stderr)


def report_error(message: str) -> None:
    """The one line about an error on stderr."""
    log(cut(one_line(f"memorycell: {message}")))


def one_line(text: str) -> str:
    """Text whose newlines, escape sequences and other characters that a terminal does not print
    are escaped as in Python.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(line: str, size: int = MAX_ERROR_CHARS) -> str:
    """A line of at most `size` characters: what is too long loses its middle."""
    if len(line) <= size:
        return line
    return f"{line[: size - MIN_END_CHARS - 3]} … {line[-MIN_END_CHARS:]}"


def put(text: str, *, flushed: bool = True) -> None:
    """Print a result. Raises `UserError` where stdout cannot be written, and BrokenPipeError."""
    with _writable_stdout():
        print(text, flush=flushed)


def put_json(value: Any, *, flushed: bool = True) -> None:
    """Print a JSON object in one line; where stdout is not UTF-8, in ASCII."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    put(json.dumps(value, ensure_ascii=not unicode), flushed=flushed)


def flush() -> None:
    """Write what stdout buffers; raises as `put`."""
    with _writable_stdout():
        sys.stdout.flush()


@contextlib.contextmanager
def _writable_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except UnicodeEncodeError as error:
        raise UserError(
            f"stdout: its encoding {error.encoding} lacks characters of the result; set"
            " PYTHONIOENCODING=utf-8"
        ) from None
    except OSError as error:
        discard_stdout()
        raise UserError(f"stdout: cannot be written ({error.strerror or error})") from None


def discard_stdout() -> None:
    """Send what stdout still buffers to nowhere, so that the end of the program does not fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """The metrics of a model and of the baselines, as a table or as JSON; printed by the first of
    several workers.
    """
    from memorycell.training.parallel import is_first

    if not is_first():
        return
    if as_json:
        put_json(result)
        return
    from memorycell.application import catalogue
    from memorycell.application.rendering import comparison_table, skill_line

    put(comparison_table(result))
    for block in catalogue.load(result["task"]).render_details(result):
        put(block)
    if result["skill"] is not None:
        put(skill_line(result))
        if result["skill"] < 0:
            put("On these data the baseline is the better method.")
    put(f"model file: {result['file']}   ({result['seconds']:.0f} s)")


def print_backtest(result: dict[str, Any], as_json: bool) -> None:
    """The result of `backtest`: the metric of every fold and method, as a table or as JSON."""
    if as_json:
        put_json(result)
        return
    from memorycell.application.rendering import backtest_text

    put(backtest_text(result))


def print_search(model: Trained, as_json: bool) -> None:
    """The result of `tune`: the best trials, and the comparison of the winner with the baselines;
    or both as JSON.
    """
    result, search = model.result or {}, model.search or {}
    if as_json:
        put_json({**result, "search": search})
        return
    from memorycell.face.tuning_report import search_text

    put(search_text(search))
    print_result(result, as_json=False)
