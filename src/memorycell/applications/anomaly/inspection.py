"""Inspect a detector while it reads rows."""

from __future__ import annotations

import torch

from memorycell.application.inspecting import Called, inspect_steps
from memorycell.applications.anomaly.predict import DetectorFile, read_recordings
from memorycell.applications.anomaly.prepare import reopen
from memorycell.inspection.inspect import Inspection


class _First(Called):
    def forward(self, x: torch.Tensor) -> None:
        self.model.first(x)  # type: ignore[operator]


def inspect(file: DetectorFile, source: str | None) -> Inspection:
    """See `Application`; the longest recording of the source is inspected."""
    if source is None:
        inputs = reopen(None, file).inspection_input()
    else:
        recordings = read_recordings(file.codec, source)[0]
        inputs = file.codec.encode(max(recordings, key=len)).x
    found = inspect_steps(
        file, _First(file.model), torch.from_numpy(inputs), where=source or file.data
    )
    if file.model.config.members > 1:
        found.notes.append(f"the first of {file.model.config.members} members")
    return found
