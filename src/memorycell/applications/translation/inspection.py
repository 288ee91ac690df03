"""Inspect the gates of a translator on a text and its translation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memorycell.application.contract import ModelFile
from memorycell.application.inspecting import MAX_STEPS, inspect_steps
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.dataset import reopen
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.applications.translation.translate import translate
from memorycell.inspection.inspect import Inspection
from memorycell.language.codec import END_ID, UNKNOWN_ID


class _CalledWithTarget(nn.Module):
    """A translator behind one call on the source, with a given target [1, T]."""

    def __init__(self, model: Translator, target: Tensor) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, source: Tensor) -> None:
        lengths = torch.tensor([source.shape[1]])
        self.model.decode(self.target, *self.model.encode(source, lengths))


def inspect(file: ModelFile[Translator, PairCodec], source: str | None) -> Inspection:
    """See `Application`; the source is a text to translate."""
    text = reopen(None, file).inspection_input() if source is None else source
    codec, settings = file.codec, file.typed_settings(TranslationSettings)
    tokens = codec.encode(text).tokens[-MAX_STEPS:]
    (translation,) = translate(file.model, codec, [text], beam=settings.beam, alpha=settings.alpha)
    target = [codec.target.token_ids.get(t, UNKNOWN_ID) for t in translation.tokens]
    return inspect_steps(
        file,
        _CalledWithTarget(file.model, torch.tensor([[END_ID, *target]])),
        torch.tensor(tokens, dtype=torch.int64),
        labels=[codec.source.surfaces[token] for token in tokens],
        where=file.data if source is None else "the input",
        unit="tokens",
    )
