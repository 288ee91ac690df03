"""Inspect a speech model while it listens to a recording."""

from __future__ import annotations

from typing import Any

from memorycell.application.modelfile import ModelFile
from memorycell.applications.speech.audio import AudioCodec
from memorycell.applications.speech.dataset import reopen
from memorycell.applications.speech.live import features_of
from memorycell.inspection.inspect import Inspection
from memorycell.signals.inspection import inspect_features


def inspect(file: ModelFile[Any, AudioCodec], source: str | None) -> Inspection:
    """See `Application.inspect`; the source is a sound file."""
    features = (
        reopen(None, file).inspection_input() if source is None else features_of(file, source)
    )
    labels = [f"{k * file.codec.step_s:.2f} s" for k in range(len(features))]
    return inspect_features(file, features, source or file.data, labels)
