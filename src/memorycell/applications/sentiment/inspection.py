"""Inspect the gates of a classifier on a text."""

from __future__ import annotations

import torch

from memorycell.application.contract import ModelFile
from memorycell.application.inspecting import MAX_STEPS, CalledWithLengths, inspect_steps
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.dataset import reopen
from memorycell.inspection.inspect import Inspection
from memorycell.models.classifier import Classifier


def inspect(file: ModelFile[Classifier, LabelledCodec], source: str | None) -> Inspection:
    """See `Application`; the source is a text."""
    text = reopen(None, file).inspection_input() if source is None else source
    codec = file.codec.text
    tokens = codec.encode(text)[-MAX_STEPS:]
    found = inspect_steps(
        file,
        CalledWithLengths(file.model),
        torch.tensor(tokens, dtype=torch.int64),
        labels=[codec.surfaces[token] for token in tokens],
        where=file.data if source is None else "the input",
        unit="tokens",
    )
    if file.model.config.members > 1:
        found.notes.append(f"the first of {file.model.config.members} members")
    return found
