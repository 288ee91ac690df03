"""A trained model: predict, stream, inspect, export."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from memorycell.application.contract import Item, ModelFile, NoOptions, Record
from memorycell.application.exporting import write_onnx
from memorycell.application.inspecting import Called, inspect_steps
from memorycell.errors import DataError
from memorycell.exchange.files import Exported
from memorycell.inspection.inspect import Inspection
from memorycell.streaming.stream import Stream
from tides.codec import TideCodec, read_level, read_levels
from tides.model import TideModel, predictions

TideFile = ModelFile[TideModel, TideCodec]


def predict(file: TideFile, source: str | None, options: NoOptions) -> Record:
    """The level after the last one of a file."""
    if source is None:
        raise DataError("predict: name a file of levels")
    inputs = file.codec.encode(read_levels(source))
    y = file.codec.decode(predictions(file.model, torch.from_numpy(inputs)))
    return {"next": round(float(y[-1]), 4)}


def render(record: dict[str, Any]) -> str:
    """The prediction for people."""
    return f"next level: {record['next']:.3f}"


class TideSession:
    """Levels in, the next level out."""

    def __init__(
        self, file: TideFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        self.codec = file.codec
        self._stream = Stream(file.model, precision, history=0)

    def feed(self, item: Item) -> list[Record]:
        """See `Session`; an item is a line with a level."""
        level = read_level(str(item), "stdin")
        y = self._stream.step(self.codec.encode(np.array([level])))
        return [{"next": round(float(self.codec.decode(y)[0]), 4)}]

    def close(self) -> list[Record]:
        """See `Session`."""
        return []

    def snapshot(self) -> bytes:
        """See `Session`."""
        return self._stream.snapshot()

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        self._stream.restore(data)


def inspect(file: TideFile, source: str | None) -> Inspection:
    """See `Application.inspect`."""
    where = source or file.data
    inputs = torch.from_numpy(file.codec.encode(read_levels(where)))
    return inspect_steps(file, Called(file.model), inputs, where=where)


class OnnxExporter:
    """See `Exporter`."""

    def check(self, file: TideFile) -> None:
        """Every model can be exported."""

    def write(
        self, file: TideFile, name: str, *, precision: str, test: np.ndarray | None
    ) -> Exported:
        """See `Exporter`."""
        return write_onnx(file.model, name, precision=precision, note=file.codec.to_json())


EXPORTERS = {"onnx": OnnxExporter()}
