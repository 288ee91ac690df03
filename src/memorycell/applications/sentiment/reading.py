"""Read texts with labels from tables and treebanks, and split them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from memorycell.applications.sentiment.columns import Columns, find_columns
from memorycell.applications.sentiment.examples import Entry, Example, Examples, text_key
from memorycell.applications.sentiment.trees import is_treebank, read_trees
from memorycell.errors import DataError, quote
from memorycell.language.files import read_file, unpacked_name
from memorycell.reading import MAX_SKIPPED, Losses, normalise
from memorycell.tables.table import read_table
from memorycell.training.splits import SPLITS, split_of

SPLIT_OF_STEM = {
    "train": "train",
    "valid": "valid",
    "dev": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
"""File name without suffix -> split, in a folder."""
MAX_TEXT_CHARS = 2000
MIN_SENTENCE_WORDS = 3


@dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    text, label      columns; by default recognised by their names, or by their contents
    trees            see `read_trees`
    encoding, sheet  see `read_table`
    lossy            accept that more than 5% of the rows are left out
    """

    text: str | None = None
    label: str | None = None
    trees: str = "binary"
    encoding: str | None = None
    sheet: str | None = None
    lossy: bool = False


def read_examples(
    path: Path, where: str, options: ReadOptions | None = None
) -> tuple[dict[str, Examples], list[str]]:
    """(split -> examples, notes) of a file, or of a folder with a train, a dev or valid, and a test
    file. `where` names the data in messages.

    A file is split by a hash of each text, 80 / 10 / 10, so that equal texts are in the same split.
    """
    options = options or ReadOptions()
    if path.is_dir():
        return _read_folder(path, where, options)
    splits: dict[str, Examples] = {split: [] for split in SPLITS}
    entries, notes = _read_file(path, options)
    for entry in entries:
        split = split_of(entry.key, 10)
        splits[split] += entry.examples(split)
    return splits, notes


def _read_folder(
    path: Path, where: str, options: ReadOptions
) -> tuple[dict[str, Examples], list[str]]:
    """Texts of the test split are removed from valid and train, those of valid from train."""
    files: dict[str, Path] = {}
    notes: list[str] = []
    for file in sorted(path.iterdir()):
        split = SPLIT_OF_STEM.get(unpacked_name(file).split(".", 1)[0])
        if split in files:
            notes.append(f"{file.name}: not read; {files[split].name} is the {split} split")
        elif split is not None:
            files[split] = file
    if set(files) != set(SPLITS):
        raise DataError(
            f"{where}: a folder needs files named train, dev and test (.csv, .jsonl, .parquet,"
            " or trees in .txt)"
        )
    splits: dict[str, Examples] = {}
    keys: set[str] = set()
    for split in reversed(SPLITS):
        entries, file_notes = _read_file(files[split], options)
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


def _read_file(path: Path, options: ReadOptions) -> tuple[list[Entry], list[str]]:
    """(entries, notes) of a table or a treebank."""
    notes: list[str] = []
    if path.is_file() and unpacked_name(path).endswith(".txt"):
        text = read_file(path, options.encoding, notes)
        if is_treebank(text):
            return read_trees(text, str(path), classes=options.trees), notes
    examples, notes = _read_table(path, options)
    return [Entry(text_key(e.text), [e], [e]) for e in examples], notes


def _read_table(path: Path, options: ReadOptions) -> tuple[Examples, list[str]]:
    """(examples, notes) of a table. Raises `DataError` for a missing column."""
    table_notes: list[str] = []
    frame = read_table(path, encoding=options.encoding, sheet=options.sheet, notes=table_notes)
    columns = find_columns(frame, str(path), options.text, options.label)
    cells = [
        (_cell(text), _cell(label).strip())
        for text, label in zip(frame[columns.text], frame[columns.label], strict=True)
    ]
    if columns.guessed and _is_row(columns, {label for _, label in cells}):
        cells.insert(0, (columns.text, columns.label))
        table_notes.append("line 1 is not a header, but a row")
    losses = Losses("rows")
    examples: Examples = []
    for text, label in cells:
        if not text.strip():
            losses.skip("without text")
        elif not label:
            losses.skip("without a label")
        else:
            if len(text) > MAX_TEXT_CHARS:
                losses.repair(f"text cut to {MAX_TEXT_CHARS:,} characters")
            examples.append(Example(normalise(text)[:MAX_TEXT_CHARS], label))
    losses.check(len(cells), str(path), options.lossy)
    bare = sum(re.search(r"[^\W\d_]", e.text) is None for e in examples)
    if bare > MAX_SKIPPED * len(examples):
        losses.repair("text without a letter (another column: --set text=NAME)", bare)
    how = " (found by their contents; others: --set text=NAME label=NAME)" * columns.guessed
    found = f"text in {quote(columns.text)}, label in {quote(columns.label)}{how}"
    notes = [found, *table_notes, *losses.notes(len(cells))]
    return examples, [f"{path.name}: {note}" for note in notes]


def _is_row(columns: Columns, labels: set[str]) -> bool:
    """Whether the names of the columns are a text and a label: the table has no header line."""
    return columns.label in labels and len(columns.text.split()) >= MIN_SENTENCE_WORDS


def _cell(value: object) -> str:
    """A cell as text, "" if it is empty."""
    return "" if value is None else str(value)
