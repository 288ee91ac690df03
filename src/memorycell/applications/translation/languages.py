"""Names of languages in file suffixes and column names."""

from __future__ import annotations

import re

NAMES = """
ar arabic, bg bulgarian, bn bengali, ca catalan, cs czech, da danish, de german deutsch, el greek,
en english eng, es spanish, et estonian, eu basque, fa persian, fi finnish, fr french, ga irish,
gu gujarati, he hebrew, hi hindi, hr croatian, hu hungarian, id indonesian, is icelandic,
it italian, ja japanese, kn kannada, ko korean, lt lithuanian, lv latvian, mk macedonian,
ml malayalam, mr marathi, ms malay, mt maltese, ne nepali, nl dutch, no norwegian, pa punjabi,
pl polish, pt portuguese, ro romanian, ru russian, sk slovak, sl slovenian, sq albanian,
sr serbian, sv swedish, sw swahili, ta tamil, te telugu, th thai, tl tagalog, tr turkish,
uk ukrainian, ur urdu, vi vietnamese, zh chinese
"""
CODE_OF = {name: names.split()[0] for names in NAMES.split(",") for name in names.split()}
"""Two-letter code (ISO 639-1) or English name -> code."""
SOURCE_NAMES = ("source", "src", "input", "original")
TARGET_NAMES = ("target", "tgt", "trg", "translation", "output")
HEADER_NAMES = {*CODE_OF, *SOURCE_NAMES, *TARGET_NAMES, "id", "text", "sentence", "lang"}
"""What a cell of a header line may be."""


def language_code(name: str) -> str | None:
    """The code of a language in a name such as de, German, de_DE, text_de or translation.de."""
    words = re.split(r"[^a-z]+", name.strip().lower())
    codes = [CODE_OF[word] for word in words if word in CODE_OF]
    return codes[0] if len(set(codes)) == 1 else None


def same_language(name: str, wanted: str) -> bool:
    """Whether a column or a suffix has the name that a user wants, or is of that language."""
    if name.strip().lower() == wanted.strip().lower():
        return True
    code = language_code(wanted)
    return code is not None and language_code(name) == code


def named_direction(stem: str, names: list[str]) -> tuple[str, str] | None:
    """The direction in the stem of aligned files: de, en for Books.de-en."""
    match = re.search(r"(?:^|[._-])([A-Za-z]{2,3})[-_]([A-Za-z]{2,3})$", stem)
    if match and match[1] != match[2] and {match[1], match[2]} == set(names):
        return match[1], match[2]
    return None
