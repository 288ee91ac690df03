"""Inspect a model of signals on features."""

from __future__ import annotations

import numpy as np
import torch

from memorycell.application.contract import ModelFile
from memorycell.application.inspecting import Called, CalledWithLengths, inspect_steps
from memorycell.inspection.inspect import Inspection
from memorycell.models.classifier import Classifier
from memorycell.signals import ctc
from memorycell.signals.codec import SignalCodec
from memorycell.signals.recognise import SignalModel, recognise


class _Transcribing(Called):
    def forward(self, x: torch.Tensor) -> None:
        self.model.transcribe(x, torch.tensor([x.shape[1]]))  # type: ignore[operator]


def inspect_features(
    file: ModelFile[SignalModel, SignalCodec],
    features: np.ndarray,
    where: str,
    labels: list[str],
) -> Inspection:
    """The gates while a model reads features [T, F]; decoded letters label their first steps."""
    if file.codec.text is None:
        called: Called = CalledWithLengths(file.model)
    else:
        called = _Transcribing(file.model)
        labels = labels or [str(k) for k in range(len(features))]
        for letter in ctc.greedy_letters(recognise(file, features)):
            labels[letter.begin] = file.codec.text.surfaces[letter.token]
    found = inspect_steps(file, called, torch.from_numpy(features), labels=labels, where=where)
    if isinstance(file.model, Classifier) and file.model.config.members > 1:
        found.notes.append(f"the first of {file.model.config.members} members")
    return found
