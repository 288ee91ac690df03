"""Inspect a model of signals while it reads features."""

from __future__ import annotations

import numpy as np
import torch

from memorycell.application.inspecting import Called, CalledWithLengths, inspect_steps
from memorycell.application.modelfile import ModelFile
from memorycell.inspection.inspect import Inspection
from memorycell.models.classifier import Classifier
from memorycell.signals import ctc
from memorycell.signals.codec import SignalCodec
from memorycell.signals.recognise import recognise
from memorycell.signals.transcriber import Transcriber


class _Transcribing(Called):
    def forward(self, x: torch.Tensor) -> None:
        self.model.transcribe(x, torch.tensor([x.shape[1]]))  # type: ignore[operator]


def inspect_features(
    file: ModelFile[Classifier, SignalCodec] | ModelFile[Transcriber, SignalCodec],
    features: np.ndarray,
    where: str,
    labels: list[str],
) -> Inspection:
    """The gates while a model reads features [T, F]; a transcriber's letters label their steps."""
    if file.codec.text is None:
        called: Called = CalledWithLengths(file.model)
    else:
        called = _Transcribing(file.model)
        labels = labels or [str(k) for k in range(len(features))]
        for letter in ctc.greedy(recognise(file, features)):
            labels[letter.begin] = file.codec.text.surfaces[letter.token]
    return inspect_steps(file, called, torch.from_numpy(features), labels=labels, where=where)
