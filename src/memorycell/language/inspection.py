"""Inspect the gates of a language model."""

from __future__ import annotations

import torch

from memorycell.application.contract import ModelFile
from memorycell.application.inspecting import MAX_STEPS, inspect_steps
from memorycell.inspection.inspect import Inspection
from memorycell.language.codec import TextCodec
from memorycell.language.model import LanguageModel


def inspect_text(
    file: ModelFile[LanguageModel, TextCodec],
    text: str,
    *,
    where: str,
    trained_on: int | None = None,
) -> Inspection:
    """The gates on the last tokens of a text; see `inspect_steps`."""
    tokens = file.codec.encode(text)[-MAX_STEPS:]
    return inspect_steps(
        file,
        file.model,
        torch.tensor(tokens, dtype=torch.int64),
        labels=[file.codec.surfaces[token] for token in tokens],
        where=where,
        unit="tokens",
        trained_on=trained_on,
    )
