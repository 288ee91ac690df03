"""Inspect a detector while it reads rows."""

from __future__ import annotations

import torch

from memorycell.application.inspecting import Called, inspect_steps
from memorycell.application.modelfile import ModelFile
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.dataset import reopen
from memorycell.applications.anomaly.live import read
from memorycell.applications.anomaly.model import Detector
from memorycell.inspection.inspect import Inspection


def inspect(file: ModelFile[Detector, ReadingsCodec], source: str | None) -> Inspection:
    """See `Application.inspect`; the longest recording of the source is inspected."""
    if source is None:
        inputs = reopen(None, file).inspection_input()
    else:
        inputs = file.codec.encode(max(read(file.codec, source)[0], key=len))[0]
    return inspect_steps(
        file, Called(file.model), torch.from_numpy(inputs), where=source or file.data
    )
