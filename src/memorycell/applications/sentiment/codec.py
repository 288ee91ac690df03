"""Texts with a label: tables with two columns, or the trees of the Stanford treebank; and the codec
of what is learnt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from memorycell.errors import DataError
from memorycell.language.codec import TextCodec, normalise
from memorycell.tables.table import read_table
from memorycell.training.splits import SPLITS, split_of

NAMES = {
    "train": "train",
    "valid": "valid",
    "dev": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
"""How the files of a folder may begin -> the split."""
LABEL_COLUMNS = (
    "label",
    "sentiment",
    "class",
    "category",
    "target",
    "stars",
    "rating",
    "polarity",
    "score",
    "y",
)
TEXT_COLUMNS = (
    "text",
    "sentence",
    "review",
    "comment",
    "message",
    "content",
    "body",
    "tweet",
    "title",
)
LONGEST = 2000
"""Characters of a text that are read; of longer ones the end is left out, and said."""


class Example(NamedTuple):
    """A text and its label; `sure` is the label's share where a text is of several (the others
    share the rest).
    """

    text: str
    label: str
    sure: float = 1.0


Examples = list[Example]


@dataclass(frozen=True)
class LabelledCodec:
    """Text in, one of `labels` out."""

    kind: ClassVar[str] = "labelled"
    text: TextCodec
    labels: tuple[str, ...]

    @property
    def vocabulary(self) -> int:
        """Tokens."""
        return len(self.text)

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"vocabulary": self.vocabulary, "classes": len(self.labels)}

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return {"text": self.text.to_json(), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelledCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        labels = tuple(data["labels"])
        if len(labels) < 2 or not all(isinstance(label, str) for label in labels):
            raise ValueError("not the labels of a classifier")
        return cls(TextCodec.from_json(data["text"]), labels)


def read_examples(
    path: Path,
    where: str,
    *,
    text: str | None = None,
    label: str | None = None,
    trees: str = "binary",
) -> tuple[dict[str, Examples], list[str]]:
    """Split -> examples, and notes: of a folder with files named train…, dev… or valid… and test…,
    or of one file.

    One file is split by a hash of each text, 80 / 10 / 10, so that equal texts fall into the same
    part.
    """
    parts: dict[str, Examples] = {split: [] for split in SPLITS}
    if path.is_dir():
        files = {
            NAMES[p.stem.lower()]: p for p in sorted(path.iterdir()) if p.stem.lower() in NAMES
        }
        if set(files) != set(SPLITS):
            raise DataError(
                f"{where}: a folder needs files named train, dev and test (.csv, .jsonl, .parquet,"
                " or trees in .txt)"
            )
        notes = []
        known: set[str] = set()
        for split in reversed(
            SPLITS
        ):  # what is to be tested on must not be learnt from, whatever the files hold
            entries, said = _read_file(files[split], text, label, trees)
            fresh = [entry for entry in entries if entry.key not in known]
            parts[split] = _taken(fresh, split)
            known |= {entry.key for entry in entries}
            notes += said
            if len(fresh) < len(entries):
                repeated = len(entries) - len(fresh)
                notes.append(
                    f"{files[split].name}: {repeated:,} texts that also stand in a later part"
                    " left out"
                )
        return parts, notes
    entries, notes = _read_file(path, text, label, trees)
    for entry in entries:
        split = split_of(entry.key, 10)
        parts[split] += _taken([entry], split)
    return parts, notes


class Entry(NamedTuple):
    """A row or a tree of a file.

    key     what it has in common with equal ones
    whole   the text as an example, if it is one
    learnt  what is learnt from it: the same, or all phrases of a tree
    """

    key: str
    whole: Examples
    learnt: Examples


def _taken(entries: list[Entry], split: str) -> Examples:
    return [
        example
        for entry in entries
        for example in (entry.learnt if split == "train" else entry.whole)
    ]


def _same(text: str) -> str:
    """What equal texts have in common."""
    return " ".join(normalise(text).lower().split())


def _read_file(
    path: Path, text: str | None, label: str | None, trees: str
) -> tuple[list[Entry], list[str]]:
    if path.suffix == ".txt" and _is_tree(path):
        return read_trees(path, grain=trees), []
    rows, notes = read_rows(path, text, label)
    return [Entry(_same(row.text), [row], [row]) for row in rows], notes


def read_rows(path: Path, text: str | None, label: str | None) -> tuple[Examples, list[str]]:
    """The examples of a table. Raises `DataError` with the row and the mend."""
    frame = read_table(path)
    text, label = _columns(frame, path, text, label)
    examples: Examples = []
    empty = long = 0
    for one, name in zip(frame[text], frame[label], strict=True):
        if name is None or str(name).strip() == "" or one is None or not str(one).strip():
            empty += 1
            continue
        long += len(str(one)) > LONGEST
        examples.append(Example(normalise(str(one))[:LONGEST], str(name).strip()))
    notes = [f"{path.name}: text in {text!r}, label in {label!r}"]
    if empty:
        notes.append(f"{path.name}: {empty:,} rows without text or label left out")
    if long:
        notes.append(
            f"{path.name}: of {long:,} texts only the first {LONGEST:,} characters are read"
        )
    return examples, notes


def _columns(frame: Any, path: Path, text: str | None, label: str | None) -> tuple[str, str]:
    for name in (text, label):
        if name is not None and name not in frame.columns:
            raise DataError(
                f"{path}: no column {name!r}; it has {', '.join(map(repr, frame.columns))}"
            )
    lower = {column.lower(): column for column in frame.columns}
    label = label or next((lower[n] for n in LABEL_COLUMNS if n in lower), None)
    text = text or next((lower[n] for n in TEXT_COLUMNS if n in lower), None)
    if len(frame.columns) == 2 and (text is None) != (label is None):
        other = next(c for c in frame.columns if c not in (text, label))
        text, label = text or other, label or other
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{path}: which column is the {missing}? --set {missing}=NAME; it has"
            f" {', '.join(map(repr, frame.columns))}"
        )
    return text, label


# ---- the Stanford treebank -----------------------------------------------------------------------

BINARY = {
    "0": ("negative", 1.0),
    "1": ("negative", 0.75),
    "2": ("negative", 0.5),
    "3": ("positive", 0.75),
    "4": ("positive", 1.0),
}
"""Grade -> label, and how sure: a neutral phrase speaks for both alike, which also has to be
learnt.
"""
FIVE = {
    str(k): (name, 1.0)
    for k, name in enumerate(("very negative", "negative", "neutral", "positive", "very positive"))
}
_UNTREEBANK = (
    (re.compile(r"-LRB-\s?"), "("),
    (re.compile(r"\s?-RRB-"), ")"),
    (re.compile(r"``\s?|\s?''"), '"'),
    (re.compile(r"\s(n't|'s|'re|'ve|'ll|'d|'m)\b"), r"\1"),
    (re.compile(r"\s([.,;:!?%)])"), r"\1"),
    (re.compile(r"\\/"), "/"),
    (re.compile(r"([$(])\s"), r"\1"),
)


def read_trees(path: Path, *, grain: str) -> list[Entry]:
    """The sentences of a file of trees, `(3 (2 It) (4 (2 's) (4 good)))` a line, with all their
    phrases, each once a line.

    grain   "binary": neutral sentences are no examples, neutral phrases half of both; "five": five
            classes
    """
    names = BINARY if grain == "binary" else FIVE
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = _phrases(line)
        except (IndexError, ValueError):
            raise DataError(
                f"{path}: line {number}: not a tree; its brackets do not fit each other"
            ) from None
        phrases = [
            Example(words, *names[grade]) for words, grade in dict(reversed(found)).items()
        ]  # each once
        whole = phrases[0]
        entries.append(Entry(_same(whole.text), [whole] if whole.sure != 0.5 else [], phrases))
    return entries


def _is_tree(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return re.match(r"\(\d[ (]", file.readline().lstrip()) is not None


def _phrases(line: str) -> list[tuple[str, str]]:
    """(words, label) of every node, the whole sentence last."""
    open_nodes: list[tuple[str, list[str]]] = []
    found: list[tuple[str, str]] = []
    for token in re.findall(r"\(|\)|[^\s()]+", line):
        if token == "(":
            open_nodes.append(("", []))
        elif token == ")":
            label, words = open_nodes.pop()
            found.append((as_written(" ".join(words)), label))
            if open_nodes:
                open_nodes[-1][1].extend(words)
        elif open_nodes[-1][0] == "":
            open_nodes[-1] = (token, [])
        else:
            open_nodes[-1][1].append(token)
    if open_nodes or not found:
        raise ValueError("brackets")
    return found


def as_written(text: str) -> str:
    """Words set apart as treebanks do, joined as people write them."""
    for pattern, plain in _UNTREEBANK:
        text = pattern.sub(plain, text)
    return text


def counted(examples: Sequence[Example]) -> dict[str, int]:
    """Label -> how often, the most frequent first."""
    counts: dict[str, int] = {}
    for example in examples:
        if example.sure > 0.5:
            counts[example.label] = counts.get(example.label, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
