"""Inspect a speech model on a recording."""

from __future__ import annotations

from memorycell.application.contract import ModelFile
from memorycell.applications.speech.codec import AudioCodec
from memorycell.applications.speech.dataset import reopen
from memorycell.applications.speech.predict import read_features
from memorycell.inspection.inspect import Inspection
from memorycell.signals.inspection import inspect_features
from memorycell.signals.recognise import SignalModel


def inspect(file: ModelFile[SignalModel, AudioCodec], source: str | None) -> Inspection:
    """See `Application.inspect`; the source is a sound file."""
    if source is None:
        features = reopen(None, file).inspection_input()
    else:
        features = read_features(file.codec, source)
    labels = [f"{k * file.codec.step_s:.2f} s" for k in range(len(features))]
    return inspect_features(file, features, source or file.data, labels)
