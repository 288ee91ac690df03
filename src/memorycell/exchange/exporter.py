"""Exporters: how the model files of an application are written in another format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from memorycell.errors import UserError

if TYPE_CHECKING:
    from memorycell.application.contract import AnyModelFile
    from memorycell.models.model import Model


@dataclass(frozen=True)
class Exported:
    """The files by name, and sizes in bytes by name (of C: flash_bytes of constants, state_bytes,
    stack_bytes of a step's local arrays).
    """

    files: Mapping[str, str | bytes]
    sizes: Mapping[str, int] = field(default_factory=dict)


class Exporter(Protocol):
    """Writes the models of one application in one format."""

    def check(self, file: AnyModelFile) -> None:
        """Raises `UserError` where this model cannot be exported."""

    def write(
        self, file: AnyModelFile, name: str, *, precision: str, test: np.ndarray | None
    ) -> Exported:
        """The files of a model.

        name        of the files, without suffix: an ASCII identifier
        precision   of the recurrent layers' products
        test        [T, I] float32 inputs for a test vector, where the format has one

        Raises `UserError` for a precision that the format does not have, or a missing package.
        """


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
