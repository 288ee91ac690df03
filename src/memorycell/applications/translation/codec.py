"""Pairs of texts, one the translation of the other: tables, aligned files, message catalogues; and
the codec for them.

What must come through a translation untouched, such as %s, {name}, <b> or an address, is replaced
by one character that stands for it (from Unicode's private use area, numbered by its place in the
source), in the source and in the target.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from memorycell.errors import DataError
from memorycell.language.codec import PLACEHOLDERS, TextCodec, fit_text_codec, normalise, read_text
from memorycell.tables.table import read_table

_KEPT = re.compile(
    r"%(?:\d+\$)?(?:\([^)\s]*\))?[-+#0]*\d*(?:\.\d+)?(?:hh?|ll?|[zjtL])?[sdifuxXcgeEopr]"  # printf and Python's %
    r"|\$\{[^}\s]*\}|\$\([^)\s]*\)|\{[^{}\s]*\}"  # {name}, {0}, ${name}, $(NAME)
    r"|</?[A-Za-z][^<>]*>"  # tags
    r"|https?://\S+|\S+@\S+\.\w+"  # addresses
)
PAIR_LIMIT = 400
"""Characters of a text in a pair; longer ones are left out of training, and said."""

Pairs = list[tuple[str, str]]
"""(source, target)"""


@dataclass(frozen=True)
class PairCodec:
    """How both languages are read. One codec for both where they share a vocabulary."""

    kind: ClassVar[str] = "pairs"
    source: TextCodec
    target: TextCodec

    @cached_property
    def shared(self) -> bool:
        """Whether both are read alike."""
        return self.source is self.target

    def encode(self, text: str) -> tuple[list[int], list[str], list[str]]:
        """A source text: (tokens, what each token's span reads as the person wrote it, what is held
        as it is).
        """
        masked, held = hold(text)
        tokens: list[int] = []
        written: list[str] = []
        for span in self.source.spans(masked):
            numbers = self.source.encode_span(span)
            tokens += numbers
            written += [span.strip()] * len(numbers)
        return tokens, written, held

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {
            "vocabulary": len(self.target),
            "source_vocabulary": 0 if self.shared else len(self.source),
        }

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return {
            "source": None if self.shared else self.source.to_json(),
            "target": self.target.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PairCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        target = TextCodec.from_json(data["target"])
        return cls(
            target if data["source"] is None else TextCodec.from_json(data["source"]), target
        )


def fit_pairs(pairs: Pairs, unit: str, *, vocabulary: int, joint: bool) -> PairCodec:
    """A codec from training pairs; one vocabulary for both languages, or one each."""
    masked = [hold_both(source, target)[:2] for source, target in pairs]
    sources, targets = [s for s, _ in masked], [t for _, t in masked]
    if joint:
        both = fit_text_codec(
            [*sources, *targets], unit, vocabulary=vocabulary, separate=PLACEHOLDERS
        )
        return PairCodec(both, both)
    return PairCodec(
        *(
            fit_text_codec(texts, unit, vocabulary=vocabulary, separate=PLACEHOLDERS)
            for texts in (sources, targets)
        )
    )


def hold(text: str) -> tuple[str, list[str]]:
    """A text with what must not be changed replaced by characters of `PLACEHOLDERS`, and what they stand
    for, in order.
    """
    text = normalise(text)
    held = list(dict.fromkeys(_KEPT.findall(text)))[: len(PLACEHOLDERS)]
    return _replaced(text, held, 0), held


def hold_both(source: str, target: str, first: int = 0) -> tuple[str, str, list[str]]:
    """A pair with the same held in both: (source, target, what they stand for). What is not in the
    source is text.

    first   the number in `PLACEHOLDERS` of the first: in training another each time, so that all of them
            are learnt
    """
    source, target = normalise(source), normalise(target)
    held = list(dict.fromkeys(_KEPT.findall(source)))[: len(PLACEHOLDERS)]
    return _replaced(source, held, first), _replaced(target, held, first), held


def _replaced(text: str, held: list[str], first: int) -> str:
    numbers = {kept: PLACEHOLDERS[(k + first) % len(PLACEHOLDERS)] for k, kept in enumerate(held)}
    return (
        _KEPT.sub(lambda match: numbers.get(match.group(), match.group()), text) if held else text
    )


def release(text: str, held: list[str]) -> str:
    """What was held, back in its places."""
    for character, kept in zip(PLACEHOLDERS, held, strict=False):
        text = text.replace(character, kept)
    return text


# ---- reading -------------------------------------------------------------------------------------


def read_pairs(
    path: Path, where: str, languages: tuple[str, str] | None
) -> tuple[dict[str, Pairs], list[str]]:
    """Pairs by split where a folder has files for each, else all under "all"; and notes.

    A .tsv (also .txt, .gz) of two columns; a .csv, .jsonl or .parquet table with columns named
    after the languages or the first two; a .po or .mo catalogue; two aligned files given as the
    part of the name they share (FILE for FILE.de and FILE.en), or a folder with train, val and test
    of such.
    """
    if path.is_dir():
        return _read_folder(path, where, languages)
    name = path.name.lower().removesuffix(".gz")
    notes: list[str] = []
    if not path.exists():
        sides = _aligned(path.parent, path.name, languages)
        return {"all": _read_aligned(*sides, notes)}, notes
    if name.endswith((".tsv", ".txt")):
        return {"all": _read_tsv(path, notes)}, notes
    if name.endswith((".po", ".mo")):
        return {"all": _read_catalogue(path, notes)}, notes
    frame = read_table(path)
    columns = (
        languages
        if languages and set(languages) <= set(frame.columns)
        else tuple(frame.columns[:2])
    )
    if len(columns) < 2:
        raise DataError(f"{path}: two columns are needed, the source and its translation")
    notes.append(f"{path.name}: from {columns[0]!r} to {columns[1]!r}")
    rows = zip(frame[columns[0]], frame[columns[1]], strict=True)
    return {"all": _kept([(str(a or ""), str(b or "")) for a, b in rows], path, notes)}, notes


def _read_folder(
    path: Path, where: str, languages: tuple[str, str] | None
) -> tuple[dict[str, Pairs], list[str]]:
    notes: list[str] = []
    found: dict[str, Pairs] = {}
    for split, names in {
        "train": ("train",),
        "valid": ("val", "valid", "dev"),
        "test": ("test",),
    }.items():
        stems = sorted(
            {
                p.name.removesuffix(".gz").rsplit(".", 1)[0]
                for p in path.iterdir()
                if p.name.startswith(names)
            }
        )
        if not stems:
            raise DataError(
                f"{where}: a folder needs aligned files named train, val and test, as in train.de"
                " and train.en"
            )
        found[split] = _read_aligned(*_aligned(path, stems[0], languages), notes)
    return found, notes


def _aligned(folder: Path, stem: str, languages: tuple[str, str] | None) -> tuple[Path, Path]:
    files = {
        p.name.removesuffix(".gz").rsplit(".", 1)[-1]: p for p in sorted(folder.glob(f"{stem}.*"))
    }
    wanted = languages or tuple(files)
    if len(wanted) != 2 or not set(wanted) <= set(files):
        raise DataError(
            f"{folder / stem}: two aligned files are needed, such as {stem}.de and {stem}.en (there"
            f" is {', '.join(sorted(files)) or 'none'}); say which way with --set languages=de-en"
        )
    return files[wanted[0]], files[wanted[1]]


def _read_aligned(source: Path, target: Path, notes: list[str]) -> Pairs:
    left, right = _lines(source), _lines(target)
    if len(left) != len(right):
        raise DataError(
            f"{source.name} has {len(left):,} lines and {target.name} {len(right):,}: they are not"
            " aligned"
        )
    return _kept(list(zip(left, right, strict=True)), source, notes)


def _read_tsv(path: Path, notes: list[str]) -> Pairs:
    rows = [line.split("\t") for line in _lines(path)]
    bad = [k for k, row in enumerate(rows, 1) if len(row) < 2 and row != [""]]
    if len(bad) > 0.01 * len(rows) or len(bad) == len(rows):
        raise DataError(f"{path}: line {bad[0]}: no tab; source TAB target was expected")
    if bad:
        notes.append(
            f"{path.name}: {len(bad):,} lines without a tab left out (the first is line {bad[0]})"
        )
    return _kept([(row[0], row[1]) for row in rows if len(row) >= 2], path, notes)


def _read_catalogue(path: Path, notes: list[str]) -> Pairs:
    """The translated messages of a gettext catalogue, fuzzy and obsolete ones left out."""
    import polib

    try:
        catalogue = polib.mofile(str(path)) if path.suffix == ".mo" else polib.pofile(str(path))
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable message catalogue ({error})") from None
    kept = [
        e
        for e in catalogue
        if not getattr(e, "obsolete", False) and "fuzzy" not in getattr(e, "flags", [])
    ]
    pairs = [
        (normalise(e.msgid), normalise(e.msgstr or next(iter(e.msgstr_plural.values()), "")))
        for e in kept
    ]
    if not pairs:
        raise DataError(f"{path}: not a readable message catalogue, or without translated messages")
    return _kept(pairs, path, notes)


def _lines(path: Path) -> list[str]:
    if path.suffix == ".gz":
        try:
            text = normalise(gzip.decompress(path.read_bytes()).decode("utf-8"))
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a gzipped text in UTF-8 ({error})") from None
    else:
        text = read_text(path)
    return text.rstrip("\n").split("\n")


def _kept(pairs: Pairs, path: Path, notes: list[str]) -> Pairs:
    """The pairs with both sides, neither longer than `PAIR_LIMIT`, each once."""
    clean = [(normalise(a).strip(), normalise(b).strip()) for a, b in pairs]
    full = [(a, b) for a, b in clean if a and b]
    short = [(a, b) for a, b in full if max(len(a), len(b)) <= PAIR_LIMIT]
    if len(full) < len(clean):
        notes.append(f"{path.name}: {len(clean) - len(full):,} pairs with an empty side left out")
    if len(short) < len(full):
        notes.append(
            f"{path.name}: {len(full) - len(short):,} pairs longer than {PAIR_LIMIT} characters"
            " left out"
        )
    return list(dict.fromkeys(short))
