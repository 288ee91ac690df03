"""Inspect a writer while it reads the moves of a drawing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memorycell.application.inspecting import inspect_steps
from memorycell.applications.drawing.dataset import reopen
from memorycell.applications.drawing.model import Writer
from memorycell.applications.drawing.predict import WriterFile, encode_drawing
from memorycell.inspection.inspect import Inspection


class _WriterOfSigns(nn.Module):
    """A writer with fixed signs [U]."""

    def __init__(self, model: Writer, signs: list[int]) -> None:
        super().__init__()
        self.model, self.signs = model, torch.tensor([signs])

    def forward(self, moves: Tensor) -> None:
        self.model(moves, self.signs)


def inspect(file: WriterFile, source: str | None) -> Inspection:
    """See `Application`; the source is a file of drawings."""
    moves, signs = (
        reopen(None, file).inspection_input() if source is None else encode_drawing(file, source)
    )
    return inspect_steps(
        file, _WriterOfSigns(file.model, signs), torch.from_numpy(moves), where=source or file.data
    )
