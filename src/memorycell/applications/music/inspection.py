"""Inspect a music model while it reads a piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from memorycell.application.inspecting import Called, inspect_steps
from memorycell.applications.music.dataset import reopen
from memorycell.applications.music.model_files import (
    MusicFile,
    event_file,
    frame_file,
    is_events,
    is_scores,
    score_file,
)
from memorycell.applications.music.reading import read_piece, read_score
from memorycell.applications.music.score.predict import score_inputs
from memorycell.inspection.inspect import Inspection


def inspect(file: MusicFile, source: str | None) -> Inspection:
    """See `Application`; the source is a MIDI, MusicXML or JSON file."""
    inputs = reopen(None, file).inspection_input() if source is None else _encode(file, source)
    labels = [event_file(file).codec.surfaces[event] for event in inputs] if is_events(file) else []
    return inspect_steps(
        file,
        Called(file.model),
        torch.from_numpy(inputs),
        labels=labels,
        where=source or file.data,
    )


def _encode(file: MusicFile, source: str) -> np.ndarray:
    """The frames [T, 88] float32 of a file, its events [T] int64, or its notes [T, I] float32."""
    if is_scores(file):
        return score_inputs(Path(source), score_file(file).codec)
    if is_events(file):
        codec = event_file(file).codec
        return np.array(codec.encode(read_score(Path(source), codec.frames)), np.int64)
    return read_piece(Path(source), frame_file(file).codec.frames).astype(np.float32)
