"""Read pairs of texts and their translations: tables, aligned files, message catalogues."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from memorycell.applications.translation.cleaning import Pairs, ReadOptions, clean_pairs
from memorycell.applications.translation.languages import (
    language_code,
    named_direction,
    same_language,
)
from memorycell.applications.translation.tables import (
    read_catalogue,
    read_lines_of_cells,
    read_table_pairs,
)
from memorycell.applications.translation.tmx import read_memory
from memorycell.errors import DataError, counted, quote
from memorycell.language.files import read_lines, unpacked_name
from memorycell.training.splits import SPLITS, split_of

FILE_PREFIXES = {"train": ("train",), "valid": ("val", "valid", "dev"), "test": ("test",)}
"""Split -> how the names of its files begin, in a folder."""
LINE_SUFFIXES, CATALOGUE_SUFFIXES = (".tsv", ".txt", ".tab"), (".po", ".mo")
MEMORY_SUFFIX = ".tmx"
TABLE_SUFFIXES = (
    *(".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".feather", ".arrow"),
    *(".xlsx", ".xlsm", ".xls", ".ods"),
)


def read_pairs(
    path: Path, where: str, options: ReadOptions | None = None
) -> tuple[dict[str, Pairs], list[str]]:
    """(split -> pairs, notes) of a folder with train, val and test files, or ("all" -> pairs,
    notes) of anything else.

    A .tsv or .txt file of lines with tabs; a .csv, .jsonl, .parquet, .xlsx or .ods table with a
    header (see `find_pair` for their columns); a .po or .mo catalogue; a .tmx translation memory;
    two aligned files, given by their common stem (FILE for FILE.de and FILE.en) or by that of the
    source, or a folder of such. Text may be gzipped (.gz).

    where   names the data in messages
    """
    options = options or ReadOptions()
    notes: list[str] = []
    if path.is_dir():
        return _read_folder(path, where, options, notes), notes
    return {"all": _read_file(path, options, notes)}, notes


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
    path: Path, where: str, options: ReadOptions, notes: list[str]
) -> dict[str, Pairs]:
    splits: dict[str, Pairs] = {}
    for split, prefixes in FILE_PREFIXES.items():
        files = [p for p in sorted(path.iterdir()) if p.name.startswith(prefixes)]
        if not files:
            raise DataError(
                f"{where}: a folder needs aligned files named train, val and test, such as train.de"
                " and train.en"
            )
        stems = sorted({_stem(p) for p in files})
        tables = [p for p in files if _is_table(p) and _stem(p) == stems[0]]
        splits[split] = _read_file(tables[0] if tables else path / stems[0], options, notes)
        if len(stems) > 1:
            notes.append(
                f"not read: {', '.join(quote(stem) for stem in stems[1:4])} of {path.name}"
            )
    return splits


def _read_file(path: Path, options: ReadOptions, notes: list[str]) -> Pairs:
    """The clean pairs of a table, a catalogue or two aligned files."""
    name = unpacked_name(path)
    if not path.exists():
        pairs = _read_aligned(*_aligned_files(path, options, notes), options, notes)
    elif name.endswith(LINE_SUFFIXES):
        pairs = read_lines_of_cells(path, options, notes)
    elif path.suffix.lower() in CATALOGUE_SUFFIXES:
        pairs = read_catalogue(path, options, notes)
    elif name.endswith(MEMORY_SUFFIX):
        pairs = read_memory(path, options, notes)
    elif not _is_table(path) and len(_by_suffix(path.with_name(_stem(path)))) > 1:
        pairs = _read_aligned(path, _other_side(path, options, notes), options, notes)
    else:
        pairs = read_table_pairs(path, options, notes)
    return clean_pairs(pairs, path, options, notes)


def _is_table(path: Path) -> bool:
    suffixes = (*LINE_SUFFIXES, *CATALOGUE_SUFFIXES, MEMORY_SUFFIX, *TABLE_SUFFIXES)
    return unpacked_name(path).endswith(suffixes)


def _stem(path: Path) -> str:
    """The name without .gz and the suffix before it."""
    return re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE).rsplit(".", 1)[0]


def _by_suffix(stem: Path) -> dict[str, Path]:
    """Suffix -> file, of the files with a common stem."""
    found = sorted(stem.parent.glob(f"{glob.escape(stem.name)}.*"))
    return {
        p.name.removesuffix(".gz").rsplit(".", 1)[-1]: p for p in found if _stem(p) == stem.name
    }


def _aligned_files(stem: Path, options: ReadOptions, notes: list[str]) -> tuple[Path, Path]:
    """The files of the two languages with a common stem: in the direction of the setting, of the
    stem, or of the alphabet.
    """
    files = _by_suffix(stem)
    names = list(files)
    if len(names) > 2:
        names = [name for name in names if language_code(name)]
    pair = (names[0], names[1]) if len(names) == 2 else None
    how = " (by the alphabet)"
    if options.languages is not None:
        pair, how = _wanted(files, options.languages), ""
    elif pair is not None and (named := named_direction(stem.name, names)):
        pair, how = named, " (by their names)"
    if pair is None:
        raise DataError(
            f"{stem}: expected two aligned files, such as {stem.name}.de and {stem.name}.en, found"
            f" {quote(', '.join(sorted(files)) or 'none')}; set the direction: --set"
            " languages=de,en"
        )
    source, target = pair
    notes.append(
        f"from {files[source].name} to {files[target].name}{how}"
        + (f"; the other direction: --set languages={target},{source}" if how else "")
    )
    return files[source], files[target]


def _wanted(files: dict[str, Path], languages: tuple[str, str]) -> tuple[str, str] | None:
    """The suffixes of two languages, which may be written in another way."""
    found = []
    for language in languages:
        same = [name for name in files if same_language(name, language)]
        found += [language] if language in files else same if len(same) == 1 else []
    return (found[0], found[1]) if len(set(found)) == 2 else None


def _other_side(source: Path, options: ReadOptions, notes: list[str]) -> Path:
    """The file aligned with a source file."""
    files = {k: p for k, p in _by_suffix(source.with_name(_stem(source))).items() if p != source}
    names = [name for name in files if language_code(name)] if len(files) > 1 else list(files)
    if options.languages is not None:
        names = [name for name in files if same_language(name, options.languages[1])]
    if len(names) != 1:
        raise DataError(
            f"{source}: which file is its translation? Found {quote(', '.join(files))}; set the"
            " direction: --set languages=en,de"
        )
    notes.append(f"from {source.name} to {files[names[0]].name}")
    return files[names[0]]


def _read_aligned(source: Path, target: Path, options: ReadOptions, notes: list[str]) -> Pairs:
    left, right = (read_lines(path, options.encoding, notes) for path in (source, target))
    if len(left) != len(right):
        left, right = _without_empty_end(left), _without_empty_end(right)
    if len(left) != len(right):
        raise DataError(
            f"{source.name} has {counted(len(left), 'lines')} and {target.name} {len(right):,}:"
            " they are not aligned"
        )
    return list(zip(left, right, strict=True))


def _without_empty_end(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]
