"""predict and evaluate on many files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorycell.cli.app import jobs_at, packages_of
from memorycell.cli.console import log, print_result, put, put_json
from memorycell.cli.outputs import check_folder
from memorycell.errors import UserError

if TYPE_CHECKING:
    from memorycell.face.trained import Trained


def predict_files(
    model: Trained,
    options: Any,
    source: str | None,
    inputs: str | None,
    out: Path | None,
    workers: int | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Status 1 where a file failed."""
    from memorycell.face import shards

    if inputs is None:
        raise UserError("--workers, --address: share many files; name them with --input")
    if source is not None:
        raise UserError(f"{source}: expected either INPUT or --input")
    if out is None:
        raise UserError("--input: needs --out, the folder of the results")
    check_folder("--out", out)
    with packages_of(model.application):
        results = shards.predict_files(
            model, inputs, out, options, workers=workers or 1, log=log, run_jobs=jobs_at(address)
        )
    if as_json:
        put_json({"task": model.task, "file": str(model.path), **results.to_json()})
    else:
        put(str(results))
    if results.failed:
        raise SystemExit(1)


def evaluate_files(
    model: Trained,
    inputs: str | None,
    out: Path | None,
    workers: int | None,
    address: str | None,
    other: object,
    as_json: bool,
) -> None:
    """Status 1 where a file failed. `other`: what does not go with --input."""
    from memorycell.face import evaluated_shards

    if inputs is None:
        raise UserError("--out, --workers, --address: for many files; name them with --input")
    if other is not None:
        raise UserError(f"{other}: --input is not combined with DATA or --report")
    check_folder("--out", out)
    with packages_of(model.application):
        result, files = evaluated_shards.evaluate_files(
            model, inputs, out, workers=workers or 1, log=log, run_jobs=jobs_at(address)
        )
    if as_json:
        put_json({"task": model.task, "file": str(model.path), **(result or {}), **files.to_json()})
    else:
        if result is not None:
            print_result(result, False)
        put(str(files))
    if files.failed:
        raise SystemExit(1)
