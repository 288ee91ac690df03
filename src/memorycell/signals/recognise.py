"""What speech and handwriting share when they are at work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from memorycell.application.modelfile import ModelFile
from memorycell.errors import UserError

TOLD = 5
"""The likeliest classes that are told."""


@torch.inference_mode()
def recognise(file: ModelFile, features: np.ndarray) -> np.ndarray:
    """Log-probabilities of features [T, F]: [classes], or [T, V] letters at every step."""
    x, lengths = torch.from_numpy(features)[None], torch.tensor([len(features)])
    model = file.model.eval()
    found: np.ndarray = (model.classify if file.codec.text is None else model.transcribe)(
        x, lengths
    )[0].numpy()
    return found


def label_record(labels: Sequence[str], p: np.ndarray) -> dict[str, Any]:
    """The answer, how sure it is, and the likeliest classes with theirs, of probabilities
    [classes].
    """
    best = np.argsort(-p, kind="stable")[:TOLD]
    shares = {labels[k]: round(float(p[k]), 4) for k in best}
    return {"label": labels[best[0]], "p": round(float(p[best[0]]), 4), "probabilities": shares}


def check_forward(model: Any) -> None:
    """Raises `UserError` for a model that reads both ways."""
    if model.config.bidirectional:
        raise UserError(
            "stream: this model reads both ways and needs the whole; train with --set"
            " direction=forward"
        )


@torch.inference_mode()
def probabilities_over_time(file: ModelFile, features: np.ndarray) -> np.ndarray:
    """[T, classes]: the probabilities after every step."""
    log_p, _ = file.model(torch.from_numpy(features)[None])
    return log_p[0].exp().numpy()
