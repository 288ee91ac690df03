"""Model files of every kind: models of frames, of events and of scores."""

from __future__ import annotations

from memorycell.application.contract import ModelFile
from memorycell.applications.music.codec import MusicCodec
from memorycell.applications.music.events import EventCodec
from memorycell.applications.music.model import Composer
from memorycell.applications.music.score.codec import ScoreCodec
from memorycell.applications.music.score.model import ScoreModel
from memorycell.errors import UserError
from memorycell.language.model import LanguageModel

FrameFile = ModelFile[Composer, MusicCodec]
EventFile = ModelFile[LanguageModel, EventCodec]
ScoreFile = ModelFile[ScoreModel, ScoreCodec]
MusicFile = FrameFile | EventFile | ScoreFile


def is_events(file: MusicFile) -> bool:
    """Whether it holds a model of events."""
    return isinstance(file.codec, EventCodec)


def is_scores(file: MusicFile) -> bool:
    """Whether it holds a model of scores."""
    return isinstance(file.codec, ScoreCodec)


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


def score_file(file: MusicFile) -> ScoreFile:
    """A model file of scores. Raises `UserError` for another kind."""
    if not (isinstance(file.codec, ScoreCodec) and isinstance(file.model, ScoreModel)):
        raise UserError("not a music model of scores; train one with --set view=score")
    return ModelFile(file.model, file.codec, file.info, file.arrays)
