"""Files of which each is one example (a recording, a picture of a line), and what each of them
says.

Found in a table or a list of transcripts beside the files, in the files' names, or in the names of
their folders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memorycell.errors import DataError
from memorycell.language.codec import read_text
from memorycell.tables.table import read_table

FILE_COLUMNS = ("file", "path", "filename", "file_name", "name", "audio", "wav", "image", "id")
TEXT_COLUMNS = (
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
TRANSCRIPTS = ("transcripts", "transcript", "transcription", "metadata", "labels", "index")
"""How a table or list of transcripts in a folder may be called."""
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Recording:
    """A file and what it says. `fields` are the parts of its name, where a pattern was given."""

    path: Path
    said: str
    fields: dict[str, str] = field(default_factory=dict)


def find_recordings(
    path: Path, where: str, endings: Sequence[str], *, names: str | None = None
) -> tuple[list[Recording], bool, list[str]]:
    """(the recordings in order of their names, whether what they say was written in a table,
    notes).

    path    a table or list of transcripts, or a folder: with such a list in it, else read by its
            files' names, else by the names of its subfolders
    names   a pattern of the names without their ending, such as "{label}_{group}_{index}"
    """
    if path.is_file():
        found, notes = _from_list(path, path.parent, endings)
        return found, True, notes
    if names is not None:
        found, notes = _from_names(path, names, endings)
        return found, False, notes
    lists = [
        p
        for p in sorted(path.iterdir())
        if p.stem.lower() in TRANSCRIPTS and p.suffix in (*TABLES, ".txt")
    ]
    if len(lists) > 1:
        raise DataError(
            f"{where}: which one is the list of transcripts, {lists[0].name} or {lists[1].name}?"
            " Name it"
        )
    if lists:
        found, notes = _from_list(lists[0], path, endings)
        return found, True, notes
    inside = [
        Recording(p, p.parent.name)
        for p in sorted(path.glob("*/*"))
        if p.suffix.lower() in endings and p.is_file()
    ]
    if not inside:
        raise DataError(
            f"{where}: needs a list of transcripts ({TRANSCRIPTS[0]}.csv with the columns file and"
            f" text, or {TRANSCRIPTS[0]}.txt with lines name: text), a folder for every class, or"
            " --set names=PATTERN such as {label}_{group}_{index}"
        )
    return inside, False, [f"classes by folder: {', '.join(sorted({r.said for r in inside}))}"]


def _from_list(
    path: Path, folder: Path, endings: Sequence[str]
) -> tuple[list[Recording], list[str]]:
    rows = _lines(path) if path.suffix == ".txt" else _rows(path)
    files = {
        p.relative_to(folder).as_posix(): p
        for p in sorted(folder.rglob("*"))
        if p.suffix.lower() in endings
    }
    bare = {name.rsplit(".", 1)[0]: p for name, p in files.items()}
    found, missing = [], []
    for name, said in rows:
        file = files.get(name) or bare.get(name)
        if file is None:
            missing.append(name)
        else:
            found.append(Recording(file, said))
    if not found:
        example = missing[0] if missing else "none"
        raise DataError(
            f"{path}: none of its {len(rows)} files is beside it (the first is {example!r});"
            f" expected {', '.join(endings)}"
        )
    notes = []
    if missing:
        notes.append(
            f"{path.name}: {len(missing):,} transcripts without their file left out (the first:"
            f" {missing[0]})"
        )
    silent = set(files.values()) - {r.path for r in found}
    if silent:
        first = sorted(silent)[0].relative_to(folder).as_posix()
        notes.append(f"{len(silent):,} files without a transcript left out (the first: {first})")
    return sorted(found, key=lambda r: r.path.as_posix()), notes


def _lines(path: Path) -> list[tuple[str, str]]:
    """Lines `name: text` or `name TAB text`; empty ones and comments (; or #) are left out."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip() or line.lstrip()[0] in ";#":
            continue
        match = re.match(r"\s*(\S[^:\t]*?)\s*[:\t]\s*(.*)", line)
        if match is None:
            raise DataError(f"{path}: line {number}: expected name: text")
        rows.append((match[1], match[2]))
    return rows


def _rows(path: Path) -> list[tuple[str, str]]:
    frame = read_table(path)
    lower = {column.lower(): column for column in frame.columns}
    file, said = (
        next((lower[n] for n in names if n in lower), None)
        for names in (FILE_COLUMNS, TEXT_COLUMNS)
    )
    if file is None or said is None:
        raise DataError(
            f"{path}: needs a column of file names ({FILE_COLUMNS[0]}) and one of what they say"
            f" ({TEXT_COLUMNS[0]}); it has {', '.join(map(repr, frame.columns))}"
        )
    return [
        (str(name or ""), str(text or ""))
        for name, text in zip(frame[file], frame[said], strict=True)
    ]


def _from_names(
    path: Path, names: str, endings: Sequence[str]
) -> tuple[list[Recording], list[str]]:
    pattern = _pattern(names)
    found, other = [], []
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in endings and file.is_file():
            match = pattern.fullmatch(file.stem)
            if match:
                found.append(Recording(file, match["label"], match.groupdict()))
            else:
                other.append(file.name)
    if not found:
        raise DataError(f"{path}: no file's name is like {names} ({', '.join(endings)})")
    return found, (
        [f"{len(other):,} files left out whose names are not like {names} (the first: {other[0]})"]
        if other
        else []
    )


def _pattern(names: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", names)
    if "label" not in parts[1::2] or len(set(parts[1::2])) < len(parts[1::2]):
        raise DataError(
            f"--set names={names}: expected a pattern with {{label}} in it, such as"
            " {label}_{group}_{index}"
        )
    return re.compile(
        "".join(f"(?P<{p}>.+?)" if k % 2 else re.escape(p) for k, p in enumerate(parts))
    )
