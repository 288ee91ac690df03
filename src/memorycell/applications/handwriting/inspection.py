"""Inspect a handwriting model on a drawing or an image."""

from __future__ import annotations

from memorycell.application.contract import ModelFile
from memorycell.applications.handwriting.codec import LineCodec
from memorycell.applications.handwriting.dataset import reopen
from memorycell.applications.handwriting.predict import read_inputs
from memorycell.inspection.inspect import Inspection
from memorycell.signals.inspection import inspect_features
from memorycell.signals.recognise import SignalModel
from memorycell.signals.strokes import StrokeCodec


def inspect(
    file: ModelFile[SignalModel, StrokeCodec | LineCodec], source: str | None
) -> Inspection:
    """See `Application.inspect`; the first drawing of a file of strokes, or an image."""
    if source is None:
        features = reopen(None, file).inspection_input()
    else:
        features = read_inputs(file.codec, source)[0].features
    return inspect_features(file, features, source or file.data, [])
