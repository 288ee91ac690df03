"""The labels of rows: which are anomalies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.tables.cells import is_missing

if TYPE_CHECKING:
    import polars as pl

NORMAL_WORDS = ("0", "false", "no", "normal", "ok", "good", "healthy", "benign", "nominal", "n")
ANOMALY_WORDS = (
    "1",
    "true",
    "yes",
    "anomaly",
    "anomalous",
    "anomalie",
    "abnormal",
    "fault",
    "faulty",
    "failure",
    "outlier",
    "attack",
    "fraud",
    "y",
)
LABELS = dict.fromkeys(NORMAL_WORDS, False) | dict.fromkeys(ANOMALY_WORDS, True)
"""Text in lower case -> whether the row is an anomaly."""


def read_labels(column: pl.Series, where: str) -> np.ndarray:
    """The labels [N] bool of rows, True for anomalies. Raises `DataError` for other values."""
    values = column.to_list()
    known: dict[object, bool | None] = {}
    for row, value in enumerate(values):
        if value not in known:
            known[value] = _label(value)
        if known[value] is None:
            raise DataError(
                f"{where}: row {row + 1}, column {quote(column.name)}: {quote(value)} is not a"
                " label; write 0 for normal and 1 for an anomaly"
            )
    return np.array([known[value] for value in values], bool)


def _label(value: object) -> bool | None:
    """Whether a cell says anomaly; None for other values."""
    if is_missing(value):
        return None
    if isinstance(value, (bool, int, float)):
        return {0.0: False, 1.0: True}.get(float(value))
    text = str(value).strip().lower()
    if text in LABELS:
        return LABELS[text]
    try:
        return {0.0: False, 1.0: True}.get(float(text))
    except ValueError:
        return None
