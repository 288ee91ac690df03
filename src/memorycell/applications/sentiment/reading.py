"""Read texts with labels from tables and treebanks, and split them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memorycell.applications.sentiment.examples import Entry, Example, Examples, text_key
from memorycell.applications.sentiment.trees import is_treebank, read_trees
from memorycell.errors import DataError
from memorycell.reading import normalise
from memorycell.tables.table import read_table
from memorycell.training.splits import SPLITS, split_of

if TYPE_CHECKING:
    import polars as pl

SPLIT_OF_STEM = {
    "train": "train",
    "valid": "valid",
    "dev": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
"""File name without suffix -> split, in a folder."""
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
MAX_TEXT_CHARS = 2000


def read_examples(
    path: Path,
    where: str,
    *,
    text: str | None = None,
    label: str | None = None,
    trees: str = "binary",
) -> tuple[dict[str, Examples], list[str]]:
    """(split -> examples, notes) of a file, or of a folder with a train, a dev or valid, and a test
    file.

    text, label   columns; by default recognised by name
    trees         see `read_trees`
    where         names the data in messages

    A file is split by a hash of each text, 80 / 10 / 10, so that equal texts are in the same split.
    """
    if path.is_dir():
        return _read_folder(path, where, text, label, trees)
    splits: dict[str, Examples] = {split: [] for split in SPLITS}
    entries, notes = _read_file(path, text, label, trees)
    for entry in entries:
        split = split_of(entry.key, 10)
        splits[split] += entry.examples(split)
    return splits, notes


def _read_folder(
    path: Path, where: str, text: str | None, label: str | None, trees: str
) -> tuple[dict[str, Examples], list[str]]:
    """Texts of the test split are removed from valid and train, those of valid from train."""
    stems = {p: p.stem.lower() for p in sorted(path.iterdir())}
    files = {SPLIT_OF_STEM[stem]: p for p, stem in stems.items() if stem in SPLIT_OF_STEM}
    if set(files) != set(SPLITS):
        raise DataError(
            f"{where}: a folder needs files named train, dev and test (.csv, .jsonl, .parquet,"
            " or trees in .txt)"
        )
    splits: dict[str, Examples] = {}
    notes: list[str] = []
    keys: set[str] = set()
    for split in reversed(SPLITS):
        entries, file_notes = _read_file(files[split], text, label, trees)
        new = [entry for entry in entries if entry.key not in keys]
        splits[split] = [example for entry in new for example in entry.examples(split)]
        keys |= {entry.key for entry in entries}
        notes += file_notes
        if len(new) < len(entries):
            notes.append(
                f"{files[split].name}: left out: {len(entries) - len(new):,} texts that are also"
                " in a later split"
            )
    return {split: splits[split] for split in SPLITS}, notes


def _read_file(
    path: Path, text: str | None, label: str | None, trees: str
) -> tuple[list[Entry], list[str]]:
    if path.suffix == ".txt" and is_treebank(path):
        return read_trees(path, classes=trees), []
    examples, notes = read_table_examples(path, text, label)
    return [Entry(text_key(e.text), [e], [e]) for e in examples], notes


def read_table_examples(
    path: Path, text: str | None, label: str | None
) -> tuple[Examples, list[str]]:
    """(examples, notes) of a table. Raises `DataError` for a missing column."""
    frame = read_table(path)
    text, label = _columns(frame, path, text, label)
    examples: Examples = []
    empty = truncated = 0
    for raw_text, raw_label in zip(frame[text], frame[label], strict=True):
        content = "" if raw_text is None else str(raw_text)
        name = "" if raw_label is None else str(raw_label).strip()
        if not content.strip() or not name:
            empty += 1
            continue
        truncated += len(content) > MAX_TEXT_CHARS
        examples.append(Example(normalise(content)[:MAX_TEXT_CHARS], name))
    notes = [f"{path.name}: text in {text!r}, label in {label!r}"]
    if empty:
        notes.append(f"{path.name}: left out: {empty:,} rows without text or label")
    if truncated:
        notes.append(f"{path.name}: {truncated:,} texts truncated to {MAX_TEXT_CHARS:,} characters")
    return examples, notes


def _columns(
    frame: pl.DataFrame, path: Path, text: str | None, label: str | None
) -> tuple[str, str]:
    """The columns of texts and labels."""
    columns = ", ".join(map(repr, frame.columns))
    for name in (text, label):
        if name is not None and name not in frame.columns:
            raise DataError(f"{path}: no column {name!r}; it has {columns}")
    by_lower = {column.lower(): column for column in frame.columns}
    label = label or next((by_lower[n] for n in LABEL_COLUMNS if n in by_lower), None)
    text = text or next((by_lower[n] for n in TEXT_COLUMNS if n in by_lower), None)
    if len(frame.columns) == 2 and (text is None) != (label is None):
        other = next(c for c in frame.columns if c not in (text, label))
        text, label = text or other, label or other
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{path}: which column is the {missing}? --set {missing}=NAME; it has {columns}"
        )
    return text, label
