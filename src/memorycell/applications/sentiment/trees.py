"""Read the Stanford Sentiment Treebank."""

from __future__ import annotations

import re

from memorycell.applications.sentiment.examples import Entry, Example, text_key
from memorycell.errors import DataError

BINARY_LABELS = {
    "0": ("negative", 1.0),
    "1": ("negative", 0.75),
    "2": ("negative", 0.5),
    "3": ("positive", 0.75),
    "4": ("positive", 1.0),
}
"""Grade -> (label, confidence); a neutral phrase is half negative, half positive."""
FIVE_LABELS = {
    str(k): (name, 1.0)
    for k, name in enumerate(("very negative", "negative", "neutral", "positive", "very positive"))
}
MAX_TREE_CHARS = 20_000
"""Of a line."""
DETOKENISATION = (
    (re.compile(r"-LRB-\s?"), "("),
    (re.compile(r"\s?-RRB-"), ")"),
    (re.compile(r"``\s?|\s?''"), '"'),
    (re.compile(r"\s(n't|'s|'re|'ve|'ll|'d|'m)\b"), r"\1"),
    (re.compile(r"\s([.,;:!?%)])"), r"\1"),
    (re.compile(r"\\/"), "/"),
    (re.compile(r"([$(])\s"), r"\1"),
)


def is_treebank(text: str) -> bool:
    """Whether a text begins with a tree."""
    return re.match(r"\s*\(\d[ (]", text) is not None


def read_trees(text: str, where: str, *, classes: str) -> list[Entry]:
    """The sentences of trees, `(3 (2 It) (4 (2 's) (4 good)))` per line, with their distinct
    phrases for training.

    classes   "binary": neutral sentences are no examples, neutral phrases half of each class;
              "five": five classes
    where     names the file in messages

    Raises `DataError` with the line.
    """
    labels = BINARY_LABELS if classes == "binary" else FIVE_LABELS
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            phrases = _phrases(line)
        except ValueError as error:
            raise DataError(f"{where}: line {number}: not a tree; {error}") from None
        grades = dict(reversed(phrases))  # the sentence first, each phrase once
        examples = [Example(text, *labels[grade]) for text, grade in grades.items()]
        sentence = examples[0]
        is_neutral = sentence.confidence == 0.5
        entries.append(Entry(text_key(sentence.text), [] if is_neutral else [sentence], examples))
    return entries


def _phrases(line: str) -> list[tuple[str, str]]:
    """(text, grade) of every node, the sentence last. Raises ValueError."""
    if len(line) > MAX_TREE_CHARS:
        raise ValueError(f"it has {len(line):,} characters, more than {MAX_TREE_CHARS:,}")
    open_nodes: list[tuple[str, list[str]]] = []
    phrases: list[tuple[str, str]] = []
    for token in re.findall(r"\(|\)|[^\s()]+", line):
        if token == "(":
            open_nodes.append(("", []))
        elif not open_nodes:
            raise ValueError("its brackets do not match")
        elif token == ")":
            grade, words = open_nodes.pop()
            if grade not in FIVE_LABELS or not words:
                raise ValueError("every node is a grade from 0 to 4 and words or nodes")
            phrases.append((detokenise(" ".join(words)), grade))
            if open_nodes:
                open_nodes[-1][1].extend(words)
        elif open_nodes[-1][0] == "":
            open_nodes[-1] = (token, [])
        else:
            open_nodes[-1][1].append(token)
    if open_nodes or not phrases:
        raise ValueError("its brackets do not match")
    return phrases


def detokenise(text: str) -> str:
    """The tokens of a treebank as normal text."""
    for pattern, plain in DETOKENISATION:
        text = pattern.sub(plain, text)
    return text
