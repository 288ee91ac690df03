"""Read the Stanford Sentiment Treebank."""

from __future__ import annotations

import re
from pathlib import Path

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
DETOKENISATION = (
    (re.compile(r"-LRB-\s?"), "("),
    (re.compile(r"\s?-RRB-"), ")"),
    (re.compile(r"``\s?|\s?''"), '"'),
    (re.compile(r"\s(n't|'s|'re|'ve|'ll|'d|'m)\b"), r"\1"),
    (re.compile(r"\s([.,;:!?%)])"), r"\1"),
    (re.compile(r"\\/"), "/"),
    (re.compile(r"([$(])\s"), r"\1"),
)


def is_treebank(path: Path) -> bool:
    """Whether the first line of a file begins with a tree."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return re.match(r"\(\d[ (]", file.readline().lstrip()) is not None


def read_trees(path: Path, *, classes: str) -> list[Entry]:
    """The sentences of a file of trees, `(3 (2 It) (4 (2 's) (4 good)))` per line, with their
    distinct phrases for training.

    classes   "binary": neutral sentences are no examples, neutral phrases half of each class;
              "five": five classes
    """
    labels = BINARY_LABELS if classes == "binary" else FIVE_LABELS
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            phrases = _phrases(line)
        except (IndexError, ValueError):
            raise DataError(
                f"{path}: line {number}: not a tree; its brackets do not match"
            ) from None
        grades = dict(reversed(phrases))  # the sentence first, each phrase once
        examples = [Example(text, *labels[grade]) for text, grade in grades.items()]
        sentence = examples[0]
        is_neutral = sentence.confidence == 0.5
        entries.append(Entry(text_key(sentence.text), [] if is_neutral else [sentence], examples))
    return entries


def _phrases(line: str) -> list[tuple[str, str]]:
    """(text, grade) of every node, the sentence last."""
    open_nodes: list[tuple[str, list[str]]] = []
    phrases: list[tuple[str, str]] = []
    for token in re.findall(r"\(|\)|[^\s()]+", line):
        if token == "(":
            open_nodes.append(("", []))
        elif token == ")":
            grade, words = open_nodes.pop()
            phrases.append((detokenise(" ".join(words)), grade))
            if open_nodes:
                open_nodes[-1][1].extend(words)
        elif open_nodes[-1][0] == "":
            open_nodes[-1] = (token, [])
        else:
            open_nodes[-1][1].append(token)
    if open_nodes or not phrases:
        raise ValueError("unmatched brackets")
    return phrases


def detokenise(text: str) -> str:
    """The tokens of a treebank as normal text."""
    for pattern, plain in DETOKENISATION:
        text = pattern.sub(plain, text)
    return text
