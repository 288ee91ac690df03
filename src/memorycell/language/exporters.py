"""Export of language models to ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.application.exporting import write_onnx
from memorycell.errors import UserError
from memorycell.exchange.files import Exported
from memorycell.language.codec import TextCodec
from memorycell.language.model import WITH_NGRAM
from memorycell.state import fingerprint

if TYPE_CHECKING:
    from memorycell.application.contract import ModelFile
    from memorycell.language.model import LanguageModel


class OnnxExporter:
    """The model from token ids to log-probabilities, with its vocabulary in the file's metadata."""

    def check(self, file: ModelFile[LanguageModel, TextCodec]) -> None:
        """See `Exporter`. Raises `UserError` for a model with an n-gram model mixed in."""
        if file.model.ngram is not None:
            raise UserError(f"export: {WITH_NGRAM}")

    def write(
        self,
        file: ModelFile[LanguageModel, TextCodec],
        name: str,
        *,
        precision: str = "float32",
        test: np.ndarray | None = None,
    ) -> Exported:
        """See `Exporter`."""
        note = {
            "fingerprint": fingerprint(file.model),
            "unit": file.codec.unit,
            "tokens": file.codec.surfaces,
        }
        return write_onnx(file.model, name, precision=precision, note=note)
