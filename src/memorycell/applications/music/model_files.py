"""Model files of both kinds: models of frames and models of events."""

from __future__ import annotations

from memorycell.application.contract import ModelFile
from memorycell.applications.music.codec import MusicCodec
from memorycell.applications.music.events import EventCodec
from memorycell.applications.music.model import Composer
from memorycell.errors import UserError
from memorycell.language.model import LanguageModel

FrameFile = ModelFile[Composer, MusicCodec]
EventFile = ModelFile[LanguageModel, EventCodec]
MusicFile = FrameFile | EventFile


def is_events(file: MusicFile) -> bool:
    """Whether it holds a model of events."""
    return isinstance(file.codec, EventCodec)


def frame_file(file: MusicFile) -> FrameFile:
    """A model file of frames. Raises `UserError` for another kind."""
    if not (isinstance(file.codec, MusicCodec) and isinstance(file.model, Composer)):
        raise UserError("not a music model of frames; train one with --set view=voices")
    return ModelFile(file.model, file.codec, file.info, file.arrays)


def event_file(file: MusicFile) -> EventFile:
    """A model file of events. Raises `UserError` for another kind."""
    if not (isinstance(file.codec, EventCodec) and isinstance(file.model, LanguageModel)):
        raise UserError("not a music model of events; train one with --set view=events")
    return ModelFile(file.model, file.codec, file.info, file.arrays)
