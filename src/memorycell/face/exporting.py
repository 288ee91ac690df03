"""Writing a trained model as ONNX or C99 files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from memorycell.application import catalogue
from memorycell.application.contract import AnyDataset, AnyModelFile, Exporter
from memorycell.errors import UserError
from memorycell.exchange import files
from memorycell.training.events import Log, ignore

TEST_STEPS = 32
"""Length of the test vector in exported C code."""


@dataclass(frozen=True)
class Exported:
    """The files of an export, and for C its sizes: `flash_bytes`, `state_bytes`, `stack_bytes`."""

    files: list[Path]
    sizes: dict[str, int] = field(default_factory=dict)


def checked_exporter(file: AnyModelFile, to: str) -> Exporter:
    """What writes a model in a format. Raises `UserError` where it cannot be written."""
    exporters = catalogue.load(file.task).exporters
    if to not in exporters:
        formats = " and ".join(exporters) or "no format"
        raise UserError(f"export to {to!r}: {file.task} can be exported to {formats}")
    exporters[to].check(file)
    return exporters[to]


def export_model(
    file: AnyModelFile,
    exporter: Exporter,
    dataset: AnyDataset | None,
    folder: Path,
    *,
    name: str,
    precision: str = "float32",
    log: Log = ignore,
) -> Exported:
    """Write a model into a folder.

    dataset   of its own data, for a test vector; None: without one
    name      of the files, made an identifier
    log       called with the paths and the sizes
    """
    test = None if dataset is None else dataset.sample(TEST_STEPS)
    exported = exporter.write(file, files.identifier(name), precision=precision, test=test)
    paths = [Path(path) for path in files.write(exported.files, folder)]
    for path in paths:
        log(f"written: {path}")
    if exported.sizes:
        log(
            "{flash_bytes:,} bytes of constants (flash), {state_bytes:,} bytes of state,"
            " {stack_bytes:,} bytes of stack for a step's arrays (RAM)".format(**exported.sizes)
        )
    return Exported(paths, dict(exported.sizes))
