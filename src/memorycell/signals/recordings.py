"""Find files that are one labelled example each, such as recordings or images of lines.

The labels come from a list of transcripts, from the file names, or from the folder names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memorycell.errors import DataError, counted, quote
from memorycell.reading import Losses
from memorycell.signals.transcripts import (
    LIST_NAMES,
    Part,
    Transcripts,
    find_transcripts,
    read_transcripts,
)

MAX_PATH_CHARS = 1000
MAX_LISTED_SUFFIXES = 5


@dataclass(frozen=True)
class Recording:
    """A file and its label. `fields` are the parts of its name, where a pattern is given, or
    further values of the list. `part` is the part of the file that is meant, None for all of it.
    """

    path: Path
    label: str
    fields: Mapping[str, str] = field(default_factory=dict)
    part: Part | None = None


def find_recordings(
    path: Path,
    where: str,
    suffixes: Sequence[str],
    *,
    names: str | None = None,
    encoding: str | None = None,
    lossy: bool = False,
) -> tuple[list[Recording], bool, list[str]]:
    """(recordings in the order of their names, whether they are transcribed in a list, notes).

    path    a list of transcripts, or a folder. In a folder the labels come from `names`, else from
            a list in it (also as in LJSpeech, Common Voice, LibriSpeech and Kaldi), else from its
            subfolders
    names   a pattern of the file names without suffix, such as "{label}_{group}_{index}"
    encoding, lossy   see `ReadSettings`

    Raises `DataError` where none is found, or too many are left out.
    """
    transcripts = None
    if path.is_file():
        transcripts = read_transcripts(path, encoding)
    elif names is None:
        transcripts = find_transcripts(path, where, encoding)
    if transcripts is not None:
        folder = path if path.is_dir() else path.parent
        recordings, notes = _from_transcripts(transcripts, folder, where, suffixes, lossy)
        return recordings, True, notes
    files = _files_in(path, suffixes)
    recordings, left_out = _from_names(files, names) if names else _from_folders(files, path)
    if not recordings and names:
        raise DataError(f"{path}: no file name matches {quote(names)} ({_listed(suffixes)})")
    if not recordings:
        raise DataError(
            f"{where}: needs a list of transcripts ({LIST_NAMES[0]}.csv with the columns file and"
            f" text, or {LIST_NAMES[0]}.txt with lines name: text), one folder per class, or --set"
            " names=PATTERN such as {label}_{group}_{index}"
        )
    losses = Losses("files")
    if left_out:
        reason = f"name does not match {quote(names)}" if names else "not in a folder of a class"
        losses.skip(f"{reason} (the first: {_shown(left_out[0], path)})", len(left_out))
    losses.check(len(files), where, lossy)
    notes = losses.notes(len(files))
    if not names:
        classes = sorted({r.label for r in recordings})
        notes.insert(0, f"classes by folder: {_listed([quote(c)[1:-1] for c in classes], 12)}")
    return recordings, False, notes


def _files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files with these suffixes in a folder and its subfolders, but for hidden ones."""
    return [
        p
        for p in sorted(folder.rglob("*"))
        if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()
    ]


def _listed(values: Sequence[str], limit: int = MAX_LISTED_SUFFIXES) -> str:
    return ", ".join(values[:limit]) + (", …" if len(values) > limit else "")


def _shown(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    return quote(name)


# ---- lists of transcripts ------------------------------------------------------------------------


def _from_transcripts(
    found: Transcripts, folder: Path, where: str, suffixes: Sequence[str], lossy: bool
) -> tuple[list[Recording], list[str]]:
    """(recordings, notes)"""
    files = _FileNames(folder, suffixes)
    losses, total = found.losses, len(found.rows) + sum(found.losses.skipped.values())
    recordings: dict[tuple[Path, Part | None], Recording] = {}
    missing: list[str] = []
    for row in found.rows:
        file = files.find(row.name)
        if file is None:
            missing.append(row.name)
        elif (file, row.part) in recordings:
            losses.skip("its file was listed before")
        else:
            recordings[file, row.part] = Recording(file, row.label, row.fields, row.part)
    if not recordings:
        problem = f"no transcript ({', '.join(losses.skipped) or 'empty'})"
        if missing:
            first = quote(missing[0])
            listed = counted(len(missing), "files")
            problem = f"{listed} listed, none of which is there (the first: {first})"
        raise DataError(f"{where}: {found.layout}: {problem}; expected {_listed(suffixes)}")
    if missing:
        losses.skip(f"no file (the first: {quote(missing[0])})", len(missing))
    if files.other_suffix:
        losses.repair("the file has another suffix than the list says", files.other_suffix)
    losses.check(total, where, lossy)
    notes = [f"layout: {found.layout}", *losses.notes(total)]
    used = {file for file, _ in recordings}
    unlabelled = [file for file in files.paths if file not in used]
    if unlabelled:
        notes.append(
            f"not used, without a transcript: {counted(len(unlabelled), 'files')} (the first:"
            f" {_shown(unlabelled[0], folder)})"
        )
    return sorted(recordings.values(), key=lambda r: (r.path.as_posix(), r.part or ())), notes


class _FileNames:
    """The files of a folder by the names that lists give them.

    other_suffix   how often a file was found only with another suffix
    """

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        self._folder, self._suffixes = folder, suffixes
        self.paths = _files_in(folder, suffixes)
        self.other_suffix = 0
        self._by_name: dict[str, Path] = {}
        self._by_stem: dict[str, Path] = {}
        self._by_last: dict[str, set[Path]] = {}
        for path in self.paths:
            name = path.relative_to(folder).as_posix()
            self._by_name[name] = self._by_name[name.casefold()] = path
            self._by_stem.setdefault(_stem(name), path)
            for last in {path.name.casefold(), path.stem.casefold()}:
                self._by_last.setdefault(last, set()).add(path)

    def find(self, name: str) -> Path | None:
        """A path, absolute or relative to the folder, in any notation; or a name, with or without
        suffix, that only one file of the folder has. None: no such file.
        """
        if name in self._by_name:
            return self._by_name[name]
        for given in (name, name.replace("\\", "/")):
            path = self._folder / given
            if len(given) < MAX_PATH_CHARS and path.suffix.lower() in self._suffixes:
                try:
                    if path.is_file():
                        return path
                except OSError:
                    continue
        parts = name.replace("\\", "/").casefold().removeprefix("./").split("/")
        tails = ["/".join(parts[k:]) for k in range(len(parts))]
        for tail in tails:
            found = self._by_name.get(tail) or self._by_stem.get(tail)
            if found is not None:
                return found
        same = self._by_last.get(parts[-1], set())
        if len(same) == 1:
            return next(iter(same))
        for tail in tails:
            found = self._by_stem.get(_stem(tail))
            if found is not None:
                self.other_suffix += 1
                return found
        return None


def _stem(name: str) -> str:
    """A name in lower case without its suffix."""
    folder, slash, last = name.casefold().rpartition("/")
    return folder + slash + last.rsplit(".", 1)[0]


# ---- names and folders ---------------------------------------------------------------------------


def _from_folders(files: Sequence[Path], folder: Path) -> tuple[list[Recording], list[Path]]:
    """(recordings in subfolders, which name their classes; other files)"""
    inside = [p for p in files if p.parent.parent == folder]
    return [Recording(p, p.parent.name) for p in inside], [p for p in files if p not in set(inside)]


def _from_names(files: Sequence[Path], names: str) -> tuple[list[Recording], list[Path]]:
    """(recordings whose names match the pattern, other files)"""
    pattern = _name_pattern(names)
    recordings, others = [], []
    for file in files:
        match = pattern.fullmatch(file.stem)
        if match:
            recordings.append(Recording(file, match["label"], match.groupdict()))
        else:
            others.append(file)
    return recordings, others


def _name_pattern(names: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", names)
    keys = parts[1::2]
    if "label" not in keys or len(set(keys)) < len(keys) or not all(k.isidentifier() for k in keys):
        raise DataError(
            f"--set names={quote(names)}: expected a pattern that contains {{label}}, such as"
            " {label}_{group}_{index}"
        )
    return re.compile(
        "".join(f"(?P<{p}>.+?)" if k % 2 else re.escape(p) for k, p in enumerate(parts))
    )
