"""Run a classifier or a transcriber on features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from memorycell.application.contract import ModelFile
from memorycell.errors import ModelFileError, UserError
from memorycell.models.classifier import Classifier
from memorycell.signals.codec import SignalCodec
from memorycell.signals.transcriber import Transcriber
from memorycell.signals.unknown import UNKNOWN_LABEL

SignalModel: TypeAlias = Classifier | Transcriber
MAX_LISTED_CLASSES = 5
"""The most probable classes in a record."""


@torch.inference_mode()
def recognise(file: ModelFile[SignalModel, SignalCodec], features: np.ndarray) -> np.ndarray:
    """Features [T, F] -> log-probabilities: of the classes [classes], or per step [T, V]. Raises
    `ModelFileError` where the model gives NaN.
    """
    x, lengths = torch.from_numpy(features)[None], torch.tensor([len(features)])
    model = file.model.eval()
    run = model.classify if isinstance(model, Classifier) else model.transcribe
    log_p: np.ndarray = run(x, lengths)[0].numpy()
    if np.isnan(log_p).any():
        raise ModelFileError(
            f"the {file.task} model gives NaN: its weights are damaged; train a new model"
        )
    return log_p


def mean_of_views(log_p: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean probabilities, from the log-probabilities of each view of one
    input; of one view, its own.
    """
    if len(log_p) == 1:
        return log_p[0]
    mean: np.ndarray = np.log(np.exp(np.stack(log_p).astype(np.float64)).mean(0) + 1e-30)
    return mean.astype(np.float32)


@torch.inference_mode()
def probabilities_over_time(
    file: ModelFile[SignalModel, SignalCodec], features: np.ndarray
) -> np.ndarray:
    """[T, classes]: the probabilities after every step. Unidirectional models only."""
    log_p, _ = file.model(torch.from_numpy(features)[None])
    probabilities: np.ndarray = log_p[0].exp().numpy()
    return probabilities


def label_record(
    labels: Sequence[str], p: np.ndarray, unknown_below: float = 0.0
) -> dict[str, Any]:
    """The label, its probability and those of the most probable classes, from p [classes]. Below
    `unknown_below` the label is "unknown", and `nearest` the most probable class.
    """
    best = np.argsort(-p, kind="stable")[:MAX_LISTED_CLASSES]
    rounded = {labels[k]: round(float(p[k]), 4) for k in best}
    label, highest = labels[best[0]], float(p[best[0]])
    record = {"label": label, "p": round(highest, 4), "probabilities": rounded}
    if highest < unknown_below:
        record |= {"label": UNKNOWN_LABEL, "nearest": label}
    return record


def answer_text(record: dict[str, Any], name: str) -> str:
    """A `label_record` for people: the label, the name of the input, the next probable classes."""
    unknown = "nearest" in record
    label = record["label"] if unknown else f"{record['label']} ({record['p']:.1%})"
    probable = list(record["probabilities"].items())[0 if unknown else 1 : 4]
    others = ", ".join(f"{other} {p:.1%}" for other, p in probable if p >= 0.001)
    return f"{label}  {name}" + (
        f"   ({'nearest' if unknown else 'else'} {others})" if others else ""
    )


def check_unidirectional(model: SignalModel) -> None:
    """Raises `UserError` for a bidirectional model."""
    if model.config.bidirectional:
        raise UserError(
            "stream: a bidirectional model needs the complete input; train with --set"
            " direction=forward"
        )
