"""The words behind a label, as a page."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import Section, page

MAX_TEXTS = 12


def words_page(file: AnyModelFile, record: dict[str, Any]) -> str:
    """Every text with the words that changed its label's probability."""
    found = record["texts"]
    sections = []
    for one in found[:MAX_TEXTS]:
        weights = [w["weight"] for w in one.get("words", [])]
        most = max([0.05, *map(abs, weights)])
        shares = ", ".join(f"{label} {p:.1%}" for label, p in one["probabilities"].items())
        words = [(w["word"], w["weight"] / most) for w in one.get("words", [])]
        sections.append(Section(f"{one['label']}, {one['p']:.1%} sure", shares, words=words))
    return page(
        "Which words mattered",
        "Blue words spoke for the answer, orange ones against it: by how much its probability falls"
        " when the word is left out.",
        sections,
    )
