"""predict, stream."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memorycell.cli.app import (
    AsJson,
    ModelPath,
    Settings,
    app,
    check_engine,
    check_precision,
    check_writable,
    key_values,
    load_model,
    packages_of,
)
from memorycell.cli.console import log
from memorycell.errors import StateError, UserError

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication, Record, Session

MAX_PATH_CHARS = 1000
SAVE_EVERY_S = 10.0
CHUNK_BYTES = 1 << 16


@app.command()
def predict(
    file: ModelPath,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT]", help="A file, a text, a text file, or - for stdin."),
    ] = None,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Also write the result; the suffix says how (.html, .csv, …)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model on an input and print the result: a forecast, continuation, label, translation or
    reply.
    """
    from memorycell.settings import parse_settings

    check_writable(out)
    application, model = load_model(file)
    (options,) = parse_settings([application.predict_options()], key_values(settings))
    with packages_of(application):
        given = read_input(application.predict_reads, source)
        record = application.predict(model, given, options)
        if out is not None:
            from memorycell.files import write_atomically

            suffix = ".html" if out.suffix == ".htm" else out.suffix
            if suffix not in application.figures:
                suffixes = ", ".join(application.figures) or "nothing but text"
                raise UserError(f"--out {out}: {application.name} can write {suffixes}")
            write_atomically(out, application.figures[suffix](model, record))
            log(f"written: {out}")
    if as_json:
        result = {"task": application.name, "file": str(file), **record}
        print(json.dumps(result, ensure_ascii=False))
    else:
        print(application.render(record))


@app.command()
def stream(
    file: ModelPath,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="Continue from this state if it exists, and save it there."),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16 or int8.")
    ] = "float32",
    settings: Settings = None,
) -> None:
    """Run a model live: items from stdin, one JSON object per answer, the state kept. Items are
    rows (CSV with a header, or JSON lines), lines of text, or sound (a WAV file or raw samples).

    At a lower precision the model is proved first, and the cost in accuracy is printed.
    """
    from memorycell.application.live import open_session
    from memorycell.settings import parse_settings

    check_precision(precision)
    application, model = load_model(file)
    (options,) = parse_settings([application.stream_options()], key_values(settings))
    with packages_of(application):
        if precision != "float32":
            from memorycell.cli.export import proved

            check_engine(model, precision)
            if not proved(application, model, (precision,), ()).ok:
                raise SystemExit(1)
        session = open_session(model, precision, options)
        if state is not None and state.exists():
            _restore(session, state)
        _run(session, application, state)


def _run(session: Session, application: AnyApplication, state: Path | None) -> None:
    """Feed stdin; the state is saved now and then, and whatever ends the run."""
    last_save = time.monotonic()
    try:
        for answer in _answers(session, application):
            print(json.dumps(answer, ensure_ascii=False), flush=True)
            if state is not None and time.monotonic() - last_save > SAVE_EVERY_S:
                _save(session, state)
                last_save = time.monotonic()
    finally:
        if state is not None:
            _save(session, state)


def _answers(session: Session, application: AnyApplication) -> Iterator[Record]:
    if application.stream_reads == "bytes":
        while data := sys.stdin.buffer.read1(CHUNK_BYTES):  # type: ignore[union-attr]
            yield from session.feed(data)
    else:
        for line in sys.stdin:
            yield from session.feed(line.rstrip("\r\n"))
    yield from session.close()


def _save(session: Session, path: Path) -> None:
    from memorycell.files import write_atomically

    write_atomically(path, session.snapshot())


def _restore(session: Session, path: Path) -> None:
    try:
        session.restore(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except StateError as error:
        raise StateError(f"{path}: {error}") from None


def read_input(reads: Literal["file", "text"], given: str | None) -> str | None:
    """INPUT: the name of a file where the application reads files; else a text, or that of a file
    or of stdin.
    """
    if given is None or reads == "file":
        return given
    if given == "-":
        return sys.stdin.read()
    try:
        is_file = len(given) < MAX_PATH_CHARS and Path(given).is_file()
    except (OSError, ValueError):  # a text with a NUL or with too long a word
        is_file = False
    if is_file:
        from memorycell.reading import read_text

        return read_text(Path(given))
    return given
