"""Inspect the gates of a language model on a dialogue."""

from __future__ import annotations

import torch

from memorycell.application.contract import ModelFile
from memorycell.application.inspecting import MAX_STEPS, inspect_steps
from memorycell.applications.chat.dataset import reopen
from memorycell.inspection.inspect import Inspection
from memorycell.language.codec import TextCodec
from memorycell.language.model import LanguageModel


def inspect(file: ModelFile[LanguageModel, TextCodec], source: str | None) -> Inspection:
    """See `Application`; the source is the text of a dialogue."""
    text = reopen(None, file).inspection_input() if source is None else source
    tokens = file.codec.encode(text)[-MAX_STEPS:]
    return inspect_steps(
        file,
        file.model,
        torch.tensor(tokens, dtype=torch.int64),
        labels=[file.codec.surfaces[token] for token in tokens],
        where=file.data if source is None else "the input",
        unit="tokens",
    )
