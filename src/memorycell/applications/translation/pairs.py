"""Read pairs of texts and their translations: tables, aligned files, message catalogues."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from memorycell.errors import DataError
from memorycell.reading import normalise, read_text
from memorycell.tables.table import read_table
from memorycell.training.splits import SPLITS, split_of

MAX_PAIR_CHARS = 400
"""Pairs with a longer text are left out."""
MAX_BAD_LINES = 0.01
"""Fraction of the lines of a .tsv file that may have no tab."""
FILE_PREFIXES = {"train": ("train",), "valid": ("val", "valid", "dev"), "test": ("test",)}
"""Split -> how the names of its files begin, in a folder."""

Pairs = list[tuple[str, str]]
"""(source, target)"""


def read_pairs(
    path: Path, where: str, languages: tuple[str, str] | None
) -> tuple[dict[str, Pairs], list[str]]:
    """(split -> pairs, notes) of a folder with train, val and test files, or ("all" -> pairs,
    notes) of anything else.

    A .tsv or .txt file of two columns, also gzipped; a .csv, .jsonl or .parquet table, its columns
    named after the languages or the first two; a .po or .mo catalogue; two aligned files, given by
    their common stem (FILE for FILE.de and FILE.en), or a folder of such.

    where   names the data in messages
    """
    if path.is_dir():
        return _read_folder(path, where, languages)
    name = path.name.lower().removesuffix(".gz")
    notes: list[str] = []
    if not path.exists():
        files = _aligned_files(path.parent, path.name, languages)
        return {"all": _read_aligned(*files, notes)}, notes
    if name.endswith((".tsv", ".txt")):
        return {"all": _read_tsv(path, notes)}, notes
    if name.endswith((".po", ".mo")):
        return {"all": _read_catalogue(path, notes)}, notes
    return {"all": _read_table(path, languages, notes)}, notes


def split_pairs(pairs: Pairs) -> dict[str, Pairs]:
    """90 / 5 / 5 by a hash of the source's letters, so that similar sources are in the same
    split.
    """
    splits: dict[str, Pairs] = {split: [] for split in SPLITS}
    for pair in pairs:
        splits[split_of(source_key(pair[0]), 20)].append(pair)
    return splits


def source_key(source: str) -> str:
    """Equal for sources that differ only in case, digits, punctuation and whitespace."""
    return " ".join(re.sub(r"[\W\d_]+", " ", source.lower()).split()) or source


def _read_folder(
    path: Path, where: str, languages: tuple[str, str] | None
) -> tuple[dict[str, Pairs], list[str]]:
    notes: list[str] = []
    splits: dict[str, Pairs] = {}
    for split, prefixes in FILE_PREFIXES.items():
        stems = sorted(
            p.name.removesuffix(".gz").rsplit(".", 1)[0]
            for p in path.iterdir()
            if p.name.startswith(prefixes)
        )
        if not stems:
            raise DataError(
                f"{where}: a folder needs aligned files named train, val and test, such as train.de"
                " and train.en"
            )
        splits[split] = _read_aligned(*_aligned_files(path, stems[0], languages), notes)
    return splits, notes


def _aligned_files(folder: Path, stem: str, languages: tuple[str, str] | None) -> tuple[Path, Path]:
    """The files of the two languages with a common stem."""
    paths = sorted(folder.glob(f"{stem}.*"))
    by_language = {p.name.removesuffix(".gz").rsplit(".", 1)[-1]: p for p in paths}
    wanted = languages or tuple(by_language)
    if len(wanted) != 2 or not set(wanted) <= set(by_language):
        raise DataError(
            f"{folder / stem}: expected two aligned files, such as {stem}.de and {stem}.en, found"
            f" {', '.join(sorted(by_language)) or 'none'}; set the direction with --set"
            " languages=de-en"
        )
    return by_language[wanted[0]], by_language[wanted[1]]


def _read_aligned(source: Path, target: Path, notes: list[str]) -> Pairs:
    left, right = _lines(source), _lines(target)
    if len(left) != len(right):
        raise DataError(
            f"{source.name} has {len(left):,} lines and {target.name} {len(right):,}: they are not"
            " aligned"
        )
    return _clean(list(zip(left, right, strict=True)), source, notes)


def _read_tsv(path: Path, notes: list[str]) -> Pairs:
    rows = [line.split("\t") for line in _lines(path)]
    bad = [k for k, row in enumerate(rows, 1) if len(row) < 2 and row != [""]]
    if len(bad) > MAX_BAD_LINES * len(rows) or len(bad) == len(rows):
        raise DataError(f"{path}: line {bad[0]}: no tab; expected SOURCE TAB TARGET")
    if bad:
        notes.append(
            f"{path.name}: left out: {len(bad):,} lines without a tab (the first: line {bad[0]})"
        )
    return _clean([(row[0], row[1]) for row in rows if len(row) >= 2], path, notes)


def _read_catalogue(path: Path, notes: list[str]) -> Pairs:
    """The translated messages of a gettext catalogue, without fuzzy and obsolete ones."""
    import polib

    try:
        catalogue = polib.mofile(str(path)) if path.suffix == ".mo" else polib.pofile(str(path))
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable message catalogue ({error})") from None
    entries = [
        e
        for e in catalogue
        if not getattr(e, "obsolete", False) and "fuzzy" not in getattr(e, "flags", [])
    ]
    pairs = [
        (normalise(e.msgid), normalise(e.msgstr or next(iter(e.msgstr_plural.values()), "")))
        for e in entries
    ]
    if not pairs:
        raise DataError(f"{path}: not a readable message catalogue, or without translated messages")
    return _clean(pairs, path, notes)


def _read_table(path: Path, languages: tuple[str, str] | None, notes: list[str]) -> Pairs:
    frame = read_table(path)
    columns = list(frame.columns[:2])
    if languages and set(languages) <= set(frame.columns):
        columns = list(languages)
    if len(columns) < 2:
        raise DataError(f"{path}: expected two columns, the source and its translation")
    notes.append(f"{path.name}: from {columns[0]!r} to {columns[1]!r}")
    rows = zip(frame[columns[0]], frame[columns[1]], strict=True)
    return _clean([(str(a or ""), str(b or "")) for a, b in rows], path, notes)


def _lines(path: Path) -> list[str]:
    """The lines of a text file, also a gzipped one."""
    if path.suffix == ".gz":
        try:
            text = normalise(gzip.decompress(path.read_bytes()).decode("utf-8"))
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a gzipped text in UTF-8 ({error})") from None
    else:
        text = read_text(path)
    return text.rstrip("\n").split("\n")


def _clean(pairs: Pairs, path: Path, notes: list[str]) -> Pairs:
    """The distinct pairs with both sides, neither longer than `MAX_PAIR_CHARS`."""
    stripped = [(normalise(a).strip(), normalise(b).strip()) for a, b in pairs]
    complete = [(a, b) for a, b in stripped if a and b]
    short = [(a, b) for a, b in complete if max(len(a), len(b)) <= MAX_PAIR_CHARS]
    if len(complete) < len(stripped):
        count = len(stripped) - len(complete)
        notes.append(f"{path.name}: left out: {count:,} pairs with an empty side")
    if len(short) < len(complete):
        count = len(complete) - len(short)
        notes.append(
            f"{path.name}: left out: {count:,} pairs longer than {MAX_PAIR_CHARS} characters"
        )
    return list(dict.fromkeys(short))
