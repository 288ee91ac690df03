"""Inspect a sequence model while it reads its longest sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memorycell.application.inspecting import Called, inspect_steps
from memorycell.applications.sequences.codec import static_rows
from memorycell.applications.sequences.figures import LEAD, occlusion_figure
from memorycell.applications.sequences.model import SequenceModel
from memorycell.applications.sequences.occlusion import occlude
from memorycell.applications.sequences.predict import PredictOptions, read_sequences_for
from memorycell.applications.sequences.prepare import SequencesFile, reopen
from memorycell.inspection.inspect import Inspection
from memorycell.inspection.page import Section


class CalledFirst(Called):
    """The first member of a model behind one call."""

    def forward(self, x: Tensor) -> None:
        """See `Called`."""
        model = self.model
        assert isinstance(model, SequenceModel)
        model.networks[0](x, torch.tensor([x.shape[1]]))


def inspect(file: SequencesFile, source: str | None) -> Inspection:
    """See `Application`; of several members the first is shown. The report begins with the parts of
    the sequence that mattered.
    """
    if source is None:
        data = reopen(None, file).part("test")
    else:
        data = read_sequences_for(file, source, PredictOptions())
    k = int(data.lengths.argmax())
    codec, values, static = file.codec, data.values[k], static_rows(data)[k]
    inputs = codec.steps(codec.rows(values), codec.static_inputs(static))
    called: nn.Module = CalledFirst(file.model)
    found = inspect_steps(
        file, called, torch.from_numpy(inputs), where=f"{data.where}, {data.names[k]}"
    )
    if file.model.config.members > 1:
        found.notes.append(f"the first of {file.model.config.members} members")
    occluded = occlude(file.model, codec, values, static)
    found.sections.append(
        Section("The steps that mattered", LEAD, occlusion_figure(codec, values, occluded))
    )
    return found
