"""export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memorycell.cli.app import (
    app,
    check_engine,
    check_precision,
    load_model,
    packages_of,
)
from memorycell.cli.console import log, put_json
from memorycell.cli.options import AsJson, ModelPath
from memorycell.cli.outputs import check_folder
from memorycell.errors import UserError

FORMATS = ("onnx", "c")


@app.command()
def export(
    file: ModelPath,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="onnx|c", help="An ONNX file, or C99 source with its header and test."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write into.")
    ] = Path(),
    precision: Annotated[
        str, typer.Option("--precision", help="float32, or int8 for C.")
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Export a model to ONNX or C99 and verify that its outputs are unchanged."""
    from memorycell.face.exporting import checked_exporter, export_model
    from memorycell.face.proving import prove_model

    check_precision(precision)
    if to not in FORMATS:
        raise UserError(f"--to {to}: expected {' or '.join(FORMATS)}")
    check_folder("--out", out)
    model = load_model(file)
    check_engine(model, precision)
    if to not in model.application.exporters:
        raise UserError(f"--to {to}: not for a model of the task {model.task} yet")
    with packages_of(model.application):
        exporter, dataset = checked_exporter(model, to), model.own_dataset(log)
        exported = export_model(
            model, exporter, dataset, out, name=file.stem, precision=precision, log=log
        )
        proof = prove_model(model, dataset, (precision,), (to,), log)
    if as_json:
        written = {"files": [str(path) for path in exported.files], **exported.sizes}
        put_json({"file": str(file), **written, "proof": proof.to_json(), "costs": proof.costs})
    if not proof.ok:
        raise SystemExit(1)
