"""Read translation memories (TMX 1.4b, LISA 2005): units of the same text in several languages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from memorycell.applications.translation.cleaning import Pairs, ReadOptions
from memorycell.applications.translation.languages import same_language
from memorycell.errors import DataError, quote
from memorycell.language.files import read_bytes
from memorycell.language.markup import attribute, local_name, parse_xml
from memorycell.reading import Losses

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CODES = ("bpt", "ept", "it", "ph", "ut")
"""Elements of a segment whose content is markup of the original document, not text."""
MAX_DEPTH = 50
"""Of elements within elements of a segment."""
MAX_LISTED = 6

Unit = dict[str, str]
"""Language in lower case -> text."""


def read_memory(path: Path, options: ReadOptions, notes: list[str]) -> Pairs:
    """The pairs of two languages: those that are named, else the source language of the header and
    the most frequent other one. Raises `DataError`.
    """
    root = parse_xml(read_bytes(path), str(path), options.encoding)
    if local_name(root) != "tmx":
        raise DataError(
            f"{path}: XML of the kind <{quote(local_name(root))[1:-1]}>, expected <tmx>"
        )
    losses = Losses("units")
    units = [_unit(e, losses) for e in root.iter() if local_name(e) == "tu"]
    counts = Counter(language for unit in units for language in unit)
    if len(counts) < 2:
        raise DataError(f"{path}: expected units in two languages, found {_listed(counts)}")
    if options.languages is not None:
        source, target = (_wanted(counts, path, name) for name in options.languages)
        note = f"from {source} to {target}"
    else:
        source, target = _by_header(root, counts)
        note = f"from {source} to {target}; the other direction: --set languages={target},{source}"
    others = [language for language in counts if language not in (source, target)]
    if others:
        note += f"; not read: {quote(', '.join(others[:MAX_LISTED]))[1:-1]}"
    both = [unit for unit in units if source in unit and target in unit]
    losses.skip(f"without {source} or {target}", len(units) - len(both))
    losses.check(len(units), str(path), options.lossy)
    notes += [f"{path.name}: {line}" for line in (note, *losses.notes(len(units)))]
    return [(unit[source], unit[target]) for unit in both]


def _unit(unit: Element, losses: Losses) -> Unit:
    texts: Unit = {}
    for variant in unit:
        if local_name(variant) != "tuv":
            continue
        language = attribute(variant, "lang").strip().lower()
        segment = next((e for e in variant if local_name(e) == "seg"), None)
        if not language or segment is None:
            losses.repair("a variant without a language or a segment, left out")
        elif language in texts:
            losses.repair("a second variant of one language, left out")
        else:
            texts[language] = " ".join(_text(segment).split())
    return texts


def _text(element: Element, depth: int = 0) -> str:
    """The text of a segment without the codes in it."""
    parts = [element.text or ""]
    for child in element:
        if local_name(child) and local_name(child) not in CODES and depth < MAX_DEPTH:
            parts.append(_text(child, depth + 1))
        parts.append(child.tail or "")
    return "".join(parts)


def _by_header(root: Element, counts: Counter[str]) -> tuple[str, str]:
    """(source, target) languages."""
    header = next((e for e in root if local_name(e) == "header"), None)
    named = "" if header is None else (header.get("srclang") or "")
    order = [language for language, _ in counts.most_common()]
    same = [language for language in order if named and same_language(language, named)]
    source = same[0] if same else order[0]
    return source, next(language for language in order if language != source)


def _wanted(counts: Counter[str], path: Path, name: str) -> str:
    exact = [language for language in counts if language == name.strip().lower()]
    found = exact or [language for language in counts if same_language(language, name)]
    if len(found) != 1:
        raise DataError(
            f"{path}: which language is {quote(name)}? It has {_listed(counts)}: --set"
            " languages=SOURCE,TARGET"
        )
    return found[0]


def _listed(counts: Counter[str]) -> str:
    listed = ", ".join(f"{quote(k)[1:-1][:12]} ({n:,})" for k, n in counts.most_common(MAX_LISTED))
    return listed or "none"
