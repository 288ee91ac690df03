"""Inspect a translator while it translates a text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memorycell.application.inspecting import MAX_STEPS, inspect_steps
from memorycell.application.modelfile import ModelFile
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.dataset import reopen
from memorycell.applications.translation.live import translate
from memorycell.applications.translation.model import Translator
from memorycell.inspection.inspect import Inspection


class _Translating(nn.Module):
    """A translator that reads a source and is given its translation [1, T]."""

    def __init__(self, model: Translator, target: Tensor) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, tokens: Tensor) -> None:
        lengths = torch.tensor([tokens.shape[1]])
        self.model.write(self.target, *self.model.read(tokens, lengths))


def inspect(file: ModelFile[Translator, PairCodec], source: str | None) -> Inspection:
    """See `Application.inspect`; the source is a text to translate."""
    text = reopen(None, file).inspection_input() if source is None else source
    codec = file.codec
    tokens = codec.encode(text)[0][-MAX_STEPS:]
    target = [codec.target.token_ids.get(t, 0) for t in translate(file, [text])[0].tokens]
    return inspect_steps(
        file,
        _Translating(file.model, torch.tensor([[1, *target]])),
        torch.tensor(tokens, dtype=torch.int64),
        labels=[codec.source.surfaces[token] for token in tokens],
        where=file.data if source is None else "the input",
        unit="tokens",
    )
