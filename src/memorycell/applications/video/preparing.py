"""From data to a dataset, and from a model file to one."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import ModelFile
from memorycell.applications.video.baselines import Ridge, stored_ridge
from memorycell.applications.video.class_dataset import ClassDataset
from memorycell.applications.video.classifier import ClipClassifier
from memorycell.applications.video.codec import FrameCodec
from memorycell.applications.video.dataset import FramesDataset
from memorycell.applications.video.digits import NAME
from memorycell.applications.video.model import FramePredictor
from memorycell.applications.video.settings import VideoSettings
from memorycell.applications.video.source import Source, open_source
from memorycell.errors import DataError, quote

VideoFile = ModelFile[Any, FrameCodec]
"""Its model is a `FramePredictor` or a `ClipClassifier`."""
VideoDataset = FramesDataset | ClassDataset


def prepare(data: str | None, settings: VideoSettings) -> VideoDataset:
    """See `Application`."""
    source, settings = open_source(data or NAME, settings, own=True)
    height, width = source.splits["train"][0].frames.shape[1:]
    labels: tuple[str, ...] = ()
    if settings.goal == "class":
        labels = tuple(sorted({clip.label or "" for clip in source.splits["train"]}))
    codec = FrameCodec(height, width, labels)
    if settings.goal == "class":
        return ClassDataset(source, codec, settings)
    return FramesDataset(source, codec, settings)


def reopen(data: str | None, file: VideoFile) -> VideoDataset:
    """See `Application`."""
    settings = file.typed_settings(VideoSettings)
    own = data is None or data == file.data
    source, settings = open_source(data or file.data, settings, own=own)
    _check(source, file.codec)
    if not own:
        source.notes.append("evaluated: all frames of another dataset")
    if isinstance(file.model, ClipClassifier):
        return ClassDataset(source, file.codec, settings)
    dataset = FramesDataset(source, file.codec, settings)
    dataset.ridge = file_ridge(file)
    return dataset


def file_ridge(file: VideoFile) -> Ridge | None:
    """The regression that a model file holds. Raises `ModelFileError` for a damaged one."""
    return stored_ridge(file.arrays)


def predictor(file: VideoFile) -> FramePredictor | None:
    """The model of a file, if it predicts frames."""
    return file.model if isinstance(file.model, FramePredictor) else None


def _check(source: Source, codec: FrameCodec) -> None:
    for clip in source.splits["test"]:
        codec.encode(clip.frames[:1], source.name)
        if codec.labels and clip.label not in codec.labels:
            raise DataError(
                f"{source.name}: {clip.name} is of the class {quote(clip.label)}; the model knows"
                f" {quote(', '.join(codec.labels))[1:-1]}"
            )
