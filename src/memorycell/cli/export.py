"""export, and the proof that several verbs run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication, AnyDataset, AnyModelFile

FORMATS = ("onnx", "c")
TEST_STEPS = 32
"""Length of the test vector in exported C code."""


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
    from memorycell.exchange import files

    check_precision(precision)
    if to not in FORMATS:
        raise UserError(f"--to {to}: expected {' or '.join(FORMATS)}")
    check_folder("--out", out)
    application, model = load_model(file)
    check_engine(model, precision)
    if to not in application.exporters:
        raise UserError(f"--to {to}: not for a model of the task {application.name} yet")
    exporter = application.exporters[to]
    with packages_of(application):
        exporter.check(model)
        dataset = own_dataset(application, model)
        test = None if dataset is None else dataset.sample(TEST_STEPS)
        exported = exporter.write(
            model, files.identifier(file.stem), precision=precision, test=test
        )
        paths = files.write(exported.files, out)
        for path in paths:
            log(f"written: {path}")
        if exported.sizes:
            log(
                "{flash_bytes:,} bytes of constants (flash), {state_bytes:,} bytes of state,"
                " {stack_bytes:,} bytes of stack for a step's arrays (RAM)".format(**exported.sizes)
            )
        proof = proved(application, model, (precision,), (to,), dataset)
    if as_json:
        written = {"files": [str(path) for path in paths], **exported.sizes}
        put_json({"file": str(file), **written, "proof": proof.result, "costs": proof.costs})
    if not proof.ok:
        raise SystemExit(1)


@dataclass(frozen=True)
class Proved:
    """A proof, and what each lower precision costs on the model's own test split."""

    ok: bool
    result: dict[str, Any]
    costs: list[dict[str, Any]]


def own_dataset(application: AnyApplication, model: AnyModelFile) -> AnyDataset | None:
    """The model's own data, or None where they are no longer available."""
    try:
        return application.reopen(None, model)
    except UserError as error:
        log(f"proved on random inputs, not on the model's own data ({error})")
        return None


def proved(
    application: AnyApplication,
    model: AnyModelFile,
    precisions: Sequence[str],
    exports: Sequence[str],
    dataset: AnyDataset | None = None,
) -> Proved:
    """Prove a model on its own test split, if available, and measure the cost of each precision."""
    from memorycell import proof

    dataset = dataset or own_dataset(application, model)
    inputs = None if dataset is None else dataset.sample(proof.STEPS)
    try:
        found = proof.prove(model, inputs, precisions=precisions, exports=exports, log=log)
    except ValueError as error:  # a model that cannot run step by step
        raise UserError(f"prove: {str(error).removeprefix('stream: ')}") from None
    for name, why in found.skipped.items():
        log(f"not checked: {name}: {why}")
    costs, metric = [], application.metric.name
    checked = {check.precision for check in found.checks}
    for precision in precisions:
        if dataset is None or precision == "float32" or precision not in checked:
            continue
        cost = proof.precision_cost(
            partial(dataset.evaluate, model.model, "test"), metric, precision
        )
        log(
            f"{precision}: {metric} on the test split {cost['float32']:.4g} ->"
            f" {cost[precision]:.4g} ({cost['change']:+.2%})"
        )
        costs.append({"precision": precision, **cost})
    return Proved(found.ok, found.to_json(), costs)
