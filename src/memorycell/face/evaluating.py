"""Evaluation of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memorycell.application.advice import training_advice
from memorycell.application.contract import NoOptions, Record
from memorycell.face.memory import without_paths
from memorycell.face.own_data import ModelWithData
from memorycell.training.events import Log, ignore


def evaluate_model(model: ModelWithData, data: Any = None, log: Log = ignore) -> Record:
    """See `Trained.evaluate`."""
    from memorycell.training import loop

    path = Path(model.path or model.data)
    application = model.application
    if data is None:  # the file names its own data, so that the test split is evaluated
        with model.own_file() as file, training_advice(application, NoOptions()):
            return loop.evaluate(
                application, file, path, None, lambda line: log(without_paths(line))
            )
    with model.source(data) as source, training_advice(application, NoOptions()):
        return loop.evaluate(application, model, path, source, log)
