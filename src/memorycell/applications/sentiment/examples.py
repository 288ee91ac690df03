"""Texts with labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from memorycell.reading import normalise


class Example(NamedTuple):
    """A text and its label; `confidence` is the probability of the label (the other labels share
    the rest).
    """

    text: str
    label: str
    confidence: float = 1.0

    @property
    def is_certain(self) -> bool:
        """Whether the label is more likely than the others together."""
        return self.confidence > 0.5


Examples = list[Example]


class Entry(NamedTuple):
    """A row of a table or a tree of a treebank.

    key       equal for equal texts
    evaluate  its examples in a validation or test split
    train     its examples in the training split; for a tree, all phrases
    """

    key: str
    evaluate: Examples
    train: Examples

    def examples(self, split: str) -> Examples:
        """Its examples in a split."""
        return self.train if split == "train" else self.evaluate


def text_key(text: str) -> str:
    """Equal for texts that differ only in case and whitespace."""
    return " ".join(normalise(text).lower().split())


def label_counts(examples: Iterable[Example]) -> dict[str, int]:
    """Label -> number of certain examples, the most frequent first."""
    counts: dict[str, int] = {}
    for example in examples:
        if example.is_certain:
            counts[example.label] = counts.get(example.label, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
