"""Translations as the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memorycell.application.contract import AnyModelFile


def translation_columns(file: AnyModelFile, record: dict[str, Any]) -> dict[str, Sequence[object]]:
    """See `Application.columns`: the source, the translation, and its probability per token."""
    names = ("source", "text", "p")
    return {name: [one[name] for one in record["translations"]] for name in names}
