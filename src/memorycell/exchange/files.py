"""A model file as the files of another world: .onnx, or C99 with its header and test."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application.modelfile import ModelFile
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster
from memorycell.errors import UserError
from memorycell.files import made_folder, write_atomically
from memorycell.state import fingerprint

KINDS = ("onnx", "c")


def check(file: ModelFile, to: str) -> None:
    """Raises `UserError` where a model cannot be written as `to`."""
    if to not in KINDS:
        raise UserError(f"--to {to}: expected {' or '.join(KINDS)}")
    if file.codec.kind not in (("series", "text") if to == "onnx" else ("series",)):
        raise UserError(f"--to {to}: not for a model of the task {file.info.get('task')} yet")
    if isinstance(file.model, Forecaster) and (not file.model.config.plain or file.codec.each):
        raise UserError(
            f"--to {to}: only for forecasts with head=quantiles, normal=no, no static and"
            " each=no yet"
        )


def write(
    file: ModelFile,
    to: str,
    folder: Path,
    name: str,
    *,
    precision: str = "float32",
    test: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write the model as `to` into a folder; test [T, F] is the test vector of the C code.

    Returns `{"files": […], "flash_bytes": …, "state_bytes": …, "stack_bytes": …}` (the sizes for C
    alone). Raises `UserError` where a library is missing or the model cannot go there.
    """
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    name = f"m_{name}" if not name.isidentifier() else name
    check(file, to)
    codec = file.codec
    contents: dict[str, str | bytes]
    result: dict[str, Any] = {}
    if to == "onnx":
        if precision != "float32":
            raise UserError(
                f"--precision {precision}: an ONNX file is in float32; quantise it with the"
                " runtime's own tools"
            )
        try:
            from memorycell.exchange import onnx_export
        except ModuleNotFoundError as error:
            raise UserError(
                f"--to onnx needs {error.name}: pip install 'memorycell[onnx]'"
            ) from None
        note = {"fingerprint": fingerprint(file.model), **_note(codec)}
        contents = {f"{name}.onnx": onnx_export.export(file.model, note=note).SerializeToString()}
    else:
        from memorycell.exchange import c_export

        if precision not in c_export.PRECISIONS:
            raise UserError(
                f"--precision {precision}: C code is in {' or '.join(c_export.PRECISIONS)}"
            )
        count, config = len(codec.targets), file.model.config
        made = c_export.export(
            file.model,
            name,
            precision=precision,
            scale=codec.std[:count],
            offset=codec.mean[:count],
            inputs=described(codec),
            test=test,
            output=(
                f"[{config.horizon}][{config.targets}][{config.quantiles}]: quantiles of"
                f" {', '.join(codec.targets)} for the next {config.horizon} steps, in the table's"
                " units"
            ),
        )
        contents = dict(made.files)
        result = {k: v for k, v in asdict(made).items() if k != "files"}
    made_folder(folder)
    for filename, content in contents.items():
        write_atomically(folder / filename, content)
    return {"files": [str(folder / filename) for filename in contents], **result}


def _note(codec: Any) -> dict[str, Any]:
    """What a reader of the ONNX file must know about its inputs and outputs."""
    if codec.kind == "text":
        return {"unit": codec.unit, "tokens": codec.surfaces}
    return {
        "inputs": described(codec),
        "targets": codec.targets,
        "mean": codec.mean,
        "std": codec.std,
    }


def described(codec: SeriesCodec) -> list[str]:
    """How every input of a step is made, in words."""
    lines = [
        f"{c}: (value - {m:.9g}) / {s:.9g}"
        for c, m, s in zip(codec.columns, codec.mean, codec.std, strict=True)
    ]
    lines += [
        f"change of {c}: (value - the value a step before, or itself at the beginning) / {s:.9g}"
        for c, s in zip(codec.columns, codec.change, strict=True)
    ]
    lines.append("observed: 1, or 0 for a step that fills a gap; it repeats the values before it")
    lines += [
        f"{c} missing: 1 where it is, else 0; the value is then the last one known"
        for c in codec.gappy
    ]
    for name, period in codec.calendar.items():
        lines += [
            f"{wave}{label} of {name}: {wave}({turns} pi t / {period:.9g}), t in seconds since"
            " 1970-01-01"
            for turns, label in ((2, ""), (4, " 2"))
            for wave in ("sin", "cos")
        ]
    assert len(lines) == len(codec.features)
    return lines
