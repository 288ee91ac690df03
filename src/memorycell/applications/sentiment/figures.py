"""The page of a prediction: the words behind each label."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import Section, page

MAX_TEXTS = 12
MIN_FULL_COLOUR = 0.05
"""The smallest weight that is drawn in full colour."""


def words_page(file: AnyModelFile, record: dict[str, Any]) -> str:
    """The texts with their words coloured by weight, as an HTML page."""
    sections = []
    for text in record["texts"][:MAX_TEXTS]:
        words = text.get("words", [])
        scale = max([MIN_FULL_COLOUR, *(abs(w["weight"]) for w in words)])
        probabilities = ", ".join(f"{label} {p:.1%}" for label, p in text["probabilities"].items())
        coloured = [(w["word"], w["weight"] / scale) for w in words]
        sections.append(Section(f"{text['label']}, {text['p']:.1%}", probabilities, words=coloured))
    return page(
        "Words behind each label",
        "Blue words support the predicted label, orange words oppose it: by how much its"
        " probability falls without the word.",
        sections,
    )
