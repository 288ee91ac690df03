"""Inspect a writer while it draws given moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memorycell.application.contract import ModelFile
from memorycell.application.inspecting import inspect_steps
from memorycell.applications.drawing.codec import PenCodec
from memorycell.applications.drawing.dataset import reopen
from memorycell.applications.drawing.live import features_of
from memorycell.applications.drawing.model import Writer
from memorycell.inspection.inspect import Inspection


class _Drawing(nn.Module):
    """A writer that draws given signs [1, U]."""

    def __init__(self, model: Writer, signs: list[int]) -> None:
        super().__init__()
        self.model, self.signs = model, torch.tensor([signs])

    def forward(self, moves: Tensor) -> None:
        self.model(moves, self.signs)


def inspect(file: ModelFile[Writer, PenCodec], source: str | None) -> Inspection:
    """See `Application.inspect`; the source is a file of drawings."""
    moves, signs = (
        reopen(None, file).inspection_input() if source is None else features_of(file, source)
    )
    return inspect_steps(
        file, _Drawing(file.model, signs), torch.from_numpy(moves), where=source or file.data
    )
