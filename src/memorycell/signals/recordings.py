"""Find files that are one labelled example each, such as recordings or images of lines.

The labels come from a table or list of transcripts, from the file names, or from the folder names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memorycell.errors import DataError
from memorycell.reading import read_text
from memorycell.tables.table import read_table

FILE_COLUMNS = ("file", "path", "filename", "file_name", "name", "audio", "wav", "image", "id")
LABEL_COLUMNS = (
    "text",
    "transcript",
    "transcription",
    "sentence",
    "label",
    "class",
    "said",
    "word",
    "words",
)
LIST_NAMES = ("transcripts", "transcript", "transcription", "metadata", "labels", "index")
"""Names, without suffix, of a table or list of transcripts in a folder."""
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Recording:
    """A file and its label. `fields` are the parts of its name, where a pattern is given."""

    path: Path
    label: str
    fields: dict[str, str] = field(default_factory=dict)


def find_recordings(
    path: Path, where: str, suffixes: Sequence[str], *, names: str | None = None
) -> tuple[list[Recording], bool, list[str]]:
    """(recordings in the order of their names, whether they are transcribed in a list, notes).

    path    a table or list of transcripts, or a folder. In a folder the labels come from `names`,
            else from a list in it, else from its subfolders
    names   a pattern of the file names without suffix, such as "{label}_{group}_{index}"

    Raises `DataError` where none is found.
    """
    if path.is_file():
        recordings, notes = _from_list(path, path.parent, suffixes)
        return recordings, True, notes
    if names is not None:
        recordings, notes = _from_names(path, names, suffixes)
        return recordings, False, notes
    lists = [
        p
        for p in sorted(path.iterdir())
        if p.stem.lower() in LIST_NAMES and p.suffix in (*TABLE_SUFFIXES, ".txt")
    ]
    if len(lists) > 1:
        raise DataError(
            f"{where}: contains several lists of transcripts, {lists[0].name} and {lists[1].name};"
            " give the path of one"
        )
    if lists:
        recordings, notes = _from_list(lists[0], path, suffixes)
        return recordings, True, notes
    recordings = [
        Recording(p, p.parent.name)
        for p in sorted(path.glob("*/*"))
        if p.suffix.lower() in suffixes and p.is_file()
    ]
    if not recordings:
        raise DataError(
            f"{where}: needs a list of transcripts ({LIST_NAMES[0]}.csv with the columns file and"
            f" text, or {LIST_NAMES[0]}.txt with lines name: text), one folder per class, or --set"
            " names=PATTERN such as {label}_{group}_{index}"
        )
    classes = sorted({r.label for r in recordings})
    return recordings, False, [f"classes by folder: {', '.join(classes)}"]


def _from_list(
    path: Path, folder: Path, suffixes: Sequence[str]
) -> tuple[list[Recording], list[str]]:
    rows = _read_lines(path) if path.suffix == ".txt" else _read_rows(path)
    files = {
        p.relative_to(folder).as_posix(): p
        for p in sorted(folder.rglob("*"))
        if p.suffix.lower() in suffixes
    }
    without_suffix = {name.rsplit(".", 1)[0]: p for name, p in files.items()}
    recordings, missing = [], []
    for name, label in rows:
        file = files.get(name) or without_suffix.get(name)
        if file is None:
            missing.append(name)
        else:
            recordings.append(Recording(file, label))
    if not recordings:
        example = missing[0] if missing else "none"
        raise DataError(
            f"{path}: none of its {len(rows)} files is in its folder (the first is {example!r});"
            f" expected {', '.join(suffixes)}"
        )
    notes = []
    if missing:
        notes.append(
            f"{path.name}: left out {len(missing):,} transcripts without a file (the first:"
            f" {missing[0]})"
        )
    unlabelled = set(files.values()) - {r.path for r in recordings}
    if unlabelled:
        first = sorted(unlabelled)[0].relative_to(folder).as_posix()
        notes.append(
            f"left out {len(unlabelled):,} files without a transcript (the first: {first})"
        )
    return sorted(recordings, key=lambda r: r.path.as_posix()), notes


def _read_lines(path: Path) -> list[tuple[str, str]]:
    """Lines `name: text` or `name TAB text`; empty lines and comments (; or #) are skipped."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip() or line.lstrip()[0] in ";#":
            continue
        match = re.match(r"\s*(\S[^:\t]*?)\s*[:\t]\s*(.*)", line)
        if match is None:
            raise DataError(f"{path}: line {number}: expected name: text")
        rows.append((match[1], match[2]))
    return rows


def _read_rows(path: Path) -> list[tuple[str, str]]:
    frame = read_table(path)
    columns = {column.lower(): column for column in frame.columns}
    file, label = (
        next((columns[name] for name in names if name in columns), None)
        for names in (FILE_COLUMNS, LABEL_COLUMNS)
    )
    if file is None or label is None:
        raise DataError(
            f"{path}: needs a column of file names ({FILE_COLUMNS[0]}) and one of transcripts or"
            f" classes ({LABEL_COLUMNS[0]}); it has {', '.join(map(repr, frame.columns))}"
        )
    return [
        (str(name or ""), str(text or ""))
        for name, text in zip(frame[file], frame[label], strict=True)
    ]


def _from_names(
    path: Path, names: str, suffixes: Sequence[str]
) -> tuple[list[Recording], list[str]]:
    pattern = _name_pattern(names)
    recordings, others = [], []
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in suffixes and file.is_file():
            match = pattern.fullmatch(file.stem)
            if match:
                recordings.append(Recording(file, match["label"], match.groupdict()))
            else:
                others.append(file.name)
    if not recordings:
        raise DataError(f"{path}: no file name matches {names} ({', '.join(suffixes)})")
    if not others:
        return recordings, []
    return recordings, [
        f"left out {len(others):,} files whose names do not match {names} (the first: {others[0]})"
    ]


def _name_pattern(names: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", names)
    if "label" not in parts[1::2] or len(set(parts[1::2])) < len(parts[1::2]):
        raise DataError(
            f"--set names={names}: expected a pattern that contains {{label}}, such as"
            " {label}_{group}_{index}"
        )
    return re.compile(
        "".join(f"(?P<{p}>.+?)" if k % 2 else re.escape(p) for k, p in enumerate(parts))
    )
