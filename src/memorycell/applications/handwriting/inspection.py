"""Inspect a handwriting model while it reads a drawing."""

from __future__ import annotations

from typing import Any

from memorycell.application.modelfile import ModelFile
from memorycell.applications.handwriting.dataset import reopen
from memorycell.applications.handwriting.lines import LineCodec
from memorycell.applications.handwriting.live import features_of
from memorycell.inspection.inspect import Inspection
from memorycell.signals.inspection import inspect_features
from memorycell.signals.strokes import StrokeCodec


def inspect(file: ModelFile[Any, StrokeCodec | LineCodec], source: str | None) -> Inspection:
    """See `Application.inspect`; the source is a file of strokes or a picture."""
    features = (
        reopen(None, file).inspection_input() if source is None else features_of(file, source)
    )
    return inspect_features(file, features, source or file.data, [])
