"""prove, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memorycell.cli.app import (
    app,
    check_precision,
    load_model,
    packages_of,
)
from memorycell.cli.console import log, put_json
from memorycell.cli.options import AsJson, ModelPath
from memorycell.cli.outputs import PAGE, check_file


@app.command()
def prove(
    file: ModelPath,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="float32, bfloat16, int8 [default: all three]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model in every way it can run and print the largest difference: full sequence, chunks,
    single steps, in a pool, saved and loaded, rewound and forked, exported. Status 1 when a
    difference exceeds its bound.
    """
    precisions = precision or ["float32", "bfloat16", "int8"]
    check_precision(*precisions)
    model = load_model(file)
    with packages_of(model.application):
        proof = model.prove(precisions, ("onnx", "c"), log)
    if as_json:
        put_json({"file": str(file), **proof.to_json(), "costs": proof.costs})
    if not proof.ok:
        raise SystemExit(1)


@app.command()
def inspect(
    file: ModelPath,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT]", help="A file or a text to read; else the model's data."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """Look inside the gates: their activity over time, saturation, and how far back the model
    remembers.
    """
    from memorycell.cli.run import read_input
    from memorycell.files import write_atomically

    check_file("--out", out, PAGE, inputs=(file, source))
    model = load_model(file)
    with packages_of(model.application):
        given = read_input(model.inspect_reads, source)
        found = model.inspect_source(given)
        write_atomically(out, found.page())
    log(found.summary)
    for line in found.advice:
        log(f"suggestion: {line}")
    log(f"written: {out}")
    if as_json:
        put_json({"file": str(file), "report": str(out), **found.to_json()})
