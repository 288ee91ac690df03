"""Run an application's `predict` and check what it gives."""

from __future__ import annotations

import math
from typing import Any

from memorycell.application import catalogue
from memorycell.application.advice import training_advice
from memorycell.application.contract import JSON, AnyModelFile, Record
from memorycell.errors import ModelFileError


def predict_record(file: AnyModelFile, source: str | None, options: Any) -> Record:
    """The prediction of a model file for a path or a text; see `Application.predict`.

    Raises `ModelFileError` where it has NaN or infinity, as finite but damaged weights give.
    """
    application = catalogue.load(file.task)
    with training_advice(application, options):
        record = application.predict(file, source, options)
    if not _is_finite(record):
        raise ModelFileError(
            f"the {file.task} model gives NaN or infinity: its weights are damaged; train a new"
            " model"
        )
    return record


def _is_finite(value: JSON) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_is_finite, value))
