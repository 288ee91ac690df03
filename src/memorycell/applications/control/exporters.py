"""Export of policies to ONNX and C99, with their state as inputs and outputs."""

from __future__ import annotations

import numpy as np

from memorycell.application.contract import Exporter, ModelFile
from memorycell.application.exporting import check_c_precision, write_onnx
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.model import RecurrentPolicy
from memorycell.errors import UserError
from memorycell.exchange import c_export
from memorycell.exchange.files import Exported
from memorycell.state import fingerprint

PolicyFile = ModelFile[RecurrentPolicy, ControlCodec]


class OnnxExporter:
    """The policy from observations to scores or actions, with their names in the metadata."""

    def check(self, file: PolicyFile) -> None:
        """See `Exporter`."""
        _check(file.model.onnx_head(), "onnx")

    def write(
        self,
        file: PolicyFile,
        name: str,
        *,
        precision: str = "float32",
        test: np.ndarray | None = None,
    ) -> Exported:
        """See `Exporter`."""
        codec = file.codec
        note = {
            "fingerprint": fingerprint(file.model),
            "environment": codec.environment,
            "inputs": codec.input_names,
            "actions": codec.actions,
            "choices": codec.choices,
            "words": codec.words,
            "low": codec.low,
            "high": codec.high,
        }
        return write_onnx(file.model, name, precision=precision, note=note)


class CExporter:
    """The policy for a microcontroller: an observation in, the action or the scores out."""

    def check(self, file: PolicyFile) -> None:
        """See `Exporter`."""
        _check(file.model.c_head(), "c")

    def write(
        self,
        file: PolicyFile,
        name: str,
        *,
        precision: str = "float32",
        test: np.ndarray | None = None,
    ) -> Exported:
        """See `Exporter`."""
        check_c_precision(precision)
        codec = file.codec
        return c_export.export(
            file.model,
            name,
            precision=precision,
            inputs=codec.input_names,
            output=_output(codec),
            test=test,
        )


EXPORTERS: dict[str, Exporter] = {"onnx": OnnxExporter(), "c": CExporter()}


def _check(head: object, to: str) -> None:
    if isinstance(head, str):
        raise UserError(f"--to {to}: {head}")


def _output(codec: ControlCodec) -> str:
    if codec.choices:
        parts = [f"{n} of {name}" for n, name in zip(codec.choices, codec.actions, strict=True)]
        return f"the scores of the choices, {', '.join(parts)}: the largest is the action"
    names = [
        f"{name} ({low:.6g} to {high:.6g})"
        for name, low, high in zip(codec.actions, codec.low, codec.high, strict=True)
    ]
    return f"the action: {', '.join(names)}"
