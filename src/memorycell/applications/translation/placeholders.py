"""Replace text that a translation must copy, such as %s, {name}, <b> or an address, by placeholder
characters, in the order of the source, and back.
"""

from __future__ import annotations

import re

from memorycell.language.codec import PLACEHOLDERS
from memorycell.reading import normalise

COPIED = re.compile(
    # formats of printf and Python's %
    r"%(?:\d+\$)?(?:\([^)\s]*\))?[-+#0]*\d*(?:\.\d+)?(?:hh?|ll?|[zjtL])?[sdifuxXcgeEopr]"
    r"|\$\{[^}\s]*\}|\$\([^)\s]*\)|\{[^{}\s]*\}"  # {name}, {0}, ${name}, $(NAME)
    r"|</?[A-Za-z][^<>]*>"  # tags
    r"|https?://\S+|\S+@\S+\.\w+"  # addresses
)


def mask(text: str) -> tuple[str, list[str]]:
    """(text with placeholders, the replaced strings)"""
    text = normalise(text)
    replaced = _copied_strings(text)
    return _replace(text, replaced, 0), replaced


def mask_pair(source: str, target: str, first: int = 0) -> tuple[str, str, list[str]]:
    """(source, target, the replaced strings): the copied strings of the source, replaced in both.

    first   index of the first placeholder; training varies it, so that all are learned
    """
    source, target = normalise(source), normalise(target)
    replaced = _copied_strings(source)
    return _replace(source, replaced, first), _replace(target, replaced, first), replaced


def unmask(text: str, replaced: list[str]) -> str:
    """The text with the strings that `mask` replaced."""
    for placeholder, string in zip(PLACEHOLDERS, replaced, strict=False):
        text = text.replace(placeholder, string)
    return text


def _copied_strings(text: str) -> list[str]:
    return list(dict.fromkeys(COPIED.findall(text)))[: len(PLACEHOLDERS)]


def _replace(text: str, strings: list[str], first: int) -> str:
    if not strings:
        return text
    placeholder_of = {
        string: PLACEHOLDERS[(k + first) % len(PLACEHOLDERS)] for k, string in enumerate(strings)
    }
    return COPIED.sub(lambda match: placeholder_of.get(match.group(), match.group()), text)
