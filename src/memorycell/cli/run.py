"""predict, stream."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memorycell.cli import many, stdin
from memorycell.cli.app import (
    app,
    check_engine,
    check_precision,
    load_model,
    packages_of,
)
from memorycell.cli.console import flush, log, put, put_json, report_error
from memorycell.cli.ending import STOPPED
from memorycell.cli.interrupt import uninterrupted
from memorycell.cli.options import Address, AsJson, ModelPath, Settings, Workers, key_values
from memorycell.cli.outputs import check_file
from memorycell.errors import UserError

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication, Record, Session

MAX_PATH_CHARS = 1000
SAVE_EVERY_S = 10.0
FILE_SUFFIXES = (
    *(".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".safetensors"),
    *(".wav", ".flac", ".mp3", ".png", ".jpg", ".mid"),
)
"""A word with one of these suffixes is meant as a file, not as a text."""


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
        typer.Option(
            "--out",
            help="Also write the result; the suffix says how (.html, .csv, …); see --input.",
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="'FOLDER/*.parquet'",
            help="Many files instead of INPUT; their results go into the folder --out.",
        ),
    ] = None,
    workers: Workers = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Run a model on an input and print the result: a forecast, continuation, label, translation or
    reply; or on many files, with --input.
    """
    from memorycell.application.rendering import without_controls
    from memorycell.face.writing import figure_suffix
    from memorycell.setting_fields import parse_settings

    model = load_model(file)
    application = model.application
    (options,) = parse_settings([application.predict_options()], key_values(settings))
    if inputs is not None or workers is not None or address is not None:
        many.predict_files(model, options, source, inputs, out, workers, address, as_json)
        return
    if out is not None:
        figure_suffix(application, out, "--out ")
    check_file("--out", out, inputs=(file, source))
    with packages_of(application):
        encoding = key_values(settings).get("encoding")
        given = read_input(application.predict_reads, source, encoding)
        record = model.predict_record(given, options, out)
    if out is not None:
        log(f"written: {out}")
    if as_json:
        put_json({"task": application.name, "file": str(file), **record})
    else:
        put(without_controls(application.render(record)))


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
    from memorycell.application.live import open_session, restore_session
    from memorycell.setting_fields import parse_settings

    check_precision(precision)
    check_file("--state", state, inputs=(file,))
    model = load_model(file)
    application = model.application
    (options,) = parse_settings([application.stream_options()], key_values(settings))
    with packages_of(application):
        if precision != "float32":
            check_engine(model, precision)
            if not model.prove((precision,), (), log).ok:
                raise SystemExit(1)
        session = open_session(model, precision, options)
        if state is not None and state.exists():
            restore_session(session, state)
        try:
            _run(session, application, state)
        except KeyboardInterrupt:
            report_error("stopped" + ("" if state is None else f"; the state is saved in {state}"))
            raise SystemExit(STOPPED) from None


def _run(session: Session, application: AnyApplication, state: Path | None) -> None:
    """Feed stdin; the state is saved now and then, and whatever ends the run."""
    saved_at = time.monotonic()
    items: Iterable[str | bytes] = (
        stdin.chunks() if application.stream_reads == "bytes" else stdin.lines()
    )
    try:
        for item in items:
            with uninterrupted:  # else a state could be saved in a step, or before its answers
                _write(session.feed(item))
            flush()
            if state is not None and time.monotonic() - saved_at > SAVE_EVERY_S:
                _save(session, state)
                saved_at = time.monotonic()
        _write(session.close())
        flush()
    finally:
        if state is not None:
            _save(session, state)


def _write(answers: Iterable[Record]) -> None:
    for answer in answers:
        put_json(answer, flushed=False)


def _save(session: Session, path: Path) -> None:
    from memorycell.application.live import save_session

    with uninterrupted:
        save_session(session, path)


def read_input(
    reads: Literal["file", "text"], given: str | None, encoding: str | None = None
) -> str | None:
    """INPUT: the name of a file where the application reads files; else a text, or that of a file
    or of stdin. Raises `UserError`.
    """
    if given is None or reads == "file":
        return given
    if given == "-":
        return stdin.text()
    try:
        is_file = len(given) < MAX_PATH_CHARS and Path(given).is_file()
    except (OSError, ValueError):  # a text with a NUL or with too long a word
        is_file = False
    if is_file:
        from memorycell.reading import read_text

        return read_text(Path(given), encoding)
    if len(given.split()) == 1 and Path(given).suffix.lower() in FILE_SUFFIXES:
        raise UserError(f"{given}: no such file (a text that looks like a file: through stdin, -)")
    return given
