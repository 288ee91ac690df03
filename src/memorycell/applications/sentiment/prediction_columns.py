"""The labels of texts as the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memorycell.application.contract import AnyModelFile


def label_columns(file: AnyModelFile, record: dict[str, Any]) -> dict[str, Sequence[object]]:
    """See `Application.columns`: the text, its label, the label's probability, and "p LABEL" for
    every label.
    """
    texts = record["texts"]
    columns: dict[str, Sequence[object]] = {
        name: [text[name] for text in texts] for name in ("text", "label", "p")
    }
    for label in file.codec.labels:
        columns[f"p {label}"] = [text["probabilities"][label] for text in texts]
    return columns
