"""Inspect a music model while it reads a piece."""

from __future__ import annotations

import torch

from memorycell.application.inspecting import Called, inspect_steps
from memorycell.application.modelfile import ModelFile
from memorycell.applications.music.codec import MusicCodec
from memorycell.applications.music.dataset import reopen
from memorycell.applications.music.events import EventCodec
from memorycell.applications.music.live import features_of
from memorycell.applications.music.model import Composer
from memorycell.inspection.inspect import Inspection
from memorycell.language.model import LanguageModel

MusicFile = ModelFile[Composer, MusicCodec] | ModelFile[LanguageModel, EventCodec]


def inspect(file: MusicFile, source: str | None) -> Inspection:
    """See `Application.inspect`; the source is a MIDI or MusicXML file."""
    inputs = reopen(None, file).inspection_input() if source is None else features_of(file, source)
    codec = file.codec
    return inspect_steps(
        file,
        Called(file.model),
        torch.from_numpy(inputs),
        labels=[codec.surfaces[event] for event in inputs] if isinstance(codec, EventCodec) else [],
        where=source or file.data,
    )
