"""Evaluation of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memorycell.application.advice import training_advice
from memorycell.application.contract import NoOptions, Record
from memorycell.face.own_data import ModelWithData
from memorycell.training.events import Log, ignore


def evaluate_model(model: ModelWithData, data: Any = None, log: Log = ignore) -> Record:
    """See `Trained.evaluate`."""
    from memorycell.training import loop

    path = Path(model.path or model.data)
    with model.source(data) as source, training_advice(model.application, NoOptions()):
        return loop.evaluate(model.application, model, path, source, log)
