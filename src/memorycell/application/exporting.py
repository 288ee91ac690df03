"""What applications share to implement their exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memorycell.errors import UserError
from memorycell.exchange import c_export
from memorycell.exchange.files import Exported
from memorycell.models.model import Model


def write_onnx(
    model: Model[Any], name: str, *, precision: str, note: Mapping[str, Any]
) -> Exported:
    """A model as an ONNX file with `note` in its metadata. Raises as `Exporter.write`."""
    if precision != "float32":
        raise UserError(
            f"--precision {precision}: ONNX files are in float32; quantise them with the runtime's"
            " own tools"
        )
    try:
        from memorycell.exchange import onnx_export
    except ModuleNotFoundError as error:
        raise UserError(f"--to onnx needs {error.name}: pip install 'memorycell[onnx]'") from None
    return Exported({f"{name}.onnx": onnx_export.export(model, note=note).SerializeToString()})


def check_c_precision(precision: str) -> None:
    """Raises `UserError` for a precision that C code does not have."""
    if precision not in c_export.PRECISIONS:
        raise UserError(f"--precision {precision}: C code is in {' or '.join(c_export.PRECISIONS)}")
