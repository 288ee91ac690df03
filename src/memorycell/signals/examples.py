"""Labelled examples: recordings, drawings and images with a class name or a transcript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from memorycell.errors import quote

MAX_CLASSES = 200
"""With more distinct labels, labels are transcripts."""
MIN_EXAMPLES_PER_CLASS = 3
"""On average; with fewer, labels are transcripts."""

MAX_SHOWN_CLASSES = 5

R = TypeVar("R")


@dataclass(frozen=True)
class Example(Generic[R]):
    """One labelled example.

    raw      what the codec encodes
    label    a class name or a transcript
    fields   where it comes from: writer, speaker, …
    """

    raw: R
    label: str
    name: str
    fields: Mapping[str, str] = field(default_factory=dict)


Splits: TypeAlias = dict[str, list[Example[R]]]
"""Split name -> examples."""


@dataclass(frozen=True)
class LabelledData(Generic[R]):
    """The examples of a file, a folder or a named dataset.

    transcribed   the labels come from a list of transcripts, not from file or folder names
    notes         for people: what was left out, and why
    """

    name: str
    examples: list[Example[R]]
    transcribed: bool
    notes: list[str]


def choose_head(head: str, data: LabelledData[R]) -> str:
    """The head, "classes" or "text", for a setting that is one of these or "auto"."""
    if head != "auto":
        return head
    labels = {example.label for example in data.examples}
    several_words = any(" " in label for label in labels)
    frequent = len(data.examples) >= MIN_EXAMPLES_PER_CLASS * len(labels)
    if not data.transcribed or (len(labels) <= MAX_CLASSES and frequent and not several_words):
        return "classes"
    return "text"


def drop_unknown_classes(splits: Splits[R], labels: Sequence[str]) -> tuple[Splits[R], list[str]]:
    """(the examples whose class is among `labels`, notes)"""
    known = set(labels)
    unknown = sorted({e.label for members in splits.values() for e in members} - known)
    kept = {split: [e for e in members if e.label in known] for split, members in splits.items()}
    if not unknown:
        return kept, []
    count = sum(map(len, splits.values())) - sum(map(len, kept.values()))
    shown = ", ".join(map(quote, unknown[:MAX_SHOWN_CLASSES]))
    more = ", …" if len(unknown) > MAX_SHOWN_CLASSES else ""
    return kept, [
        f"left out: {count:,} examples of classes that are not in the training split: {shown}{more}"
    ]
