"""Masks for what identifies people: names that they give, addresses, telephone numbers, links.

The model learns the masks in place of what they stand for, reads a user's messages in the same
form, and never writes one. Names are found where people give them ("my name is …"), and then
masked in their whole dialogue; a name that only a list of names would find is not.
"""

from __future__ import annotations

import re

from memorycell.language.codec import TextCodec

OPEN, CLOSE = "‹", "›"
LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
PHONE = re.compile(
    r"(?<![\w.])(?<!\d[ .\-/])(?:\+?\(?\d{2,4}\)?(?:[ .\-/]\(?\d{2,4}\)?){2,4}"
    r"|\(\d{3}\) ?\d{3}-?\d{4}|\d{3}-\d{4}|\+?\d{9,15})(?!\w)"
)
MIN_PHONE_DIGITS = 7
STREET = re.compile(
    r"\b\d{1,5}\s+(?:[A-Z][\w.]*\s+){1,3}?"
    r"(?i:street|st|avenue|ave|road|rd|drive|dr|lane|ln|boulevard|blvd)\b\.?"
)
NAME_GIVEN = re.compile(
    r"\b(?i:my (?:full |first |last |real )?name(?: is|['’]s)|i am called|i['’]m called|call me"
    r"|people call me|my friends call me)\s+(?P<name>[^\W\d_]+(?:[ \-][A-Z][^\W\d_]+)*)"
)
NOT_NAMES = frozenset(
    (
        *("a", "an", "the", "my", "your", "his", "her", "its", "not", "so", "too", "very", "it"),
        *("what", "when", "if", "by", "old", "crazy", "lazy", "weird", "later", "back", "out"),
        *("that", "this", "just", "also", "hard", "long", "short", "pretty", "spelled", "on", "in"),
        *("pronounced", "no", "yes", "for", "whatever", "maybe", "sometimes", "all", "and"),
        *("really", "but"),
    )
)


def mask_dialogue(turns: list[str]) -> tuple[list[str], int]:
    """(turns with masks, the number of strings that were masked)."""
    names = {
        word
        for turn in turns
        for match in NAME_GIVEN.finditer(turn)
        for word in re.split(r"[ \-]", match["name"])
        if word.lower() not in NOT_NAMES
    }
    pattern = re.compile(
        rf"\b(?:{'|'.join(sorted(map(re.escape, names), key=len, reverse=True))})\b", re.IGNORECASE
    )
    masked, total = [], 0
    for turn in turns:
        turn, count = _mask_numbers(turn)
        if names:
            turn, more = pattern.subn(f"{OPEN}name{CLOSE}", turn)
            count += more
        masked.append(turn)
        total += count
    return masked, total


def mask(text: str) -> str:
    """One message with masks."""
    return mask_dialogue([text])[0][0]


def _mask_numbers(text: str) -> tuple[str, int]:
    if not any(c.isdigit() or c in "@:." for c in text):
        return text, 0
    text, links = LINK.subn(f"{OPEN}link{CLOSE}", text)
    text, emails = EMAIL.subn(f"{OPEN}email{CLOSE}", text)
    text, streets = STREET.subn(f"{OPEN}address{CLOSE}", text)
    phones = 0

    def phone(match: re.Match[str]) -> str:
        nonlocal phones
        digits = sum(c.isdigit() for c in match.group())
        if digits < MIN_PHONE_DIGITS:
            return match.group()
        phones += 1
        return f"{OPEN}phone{CLOSE}"

    text = PHONE.sub(phone, text)
    return text, links + emails + streets + phones


def mask_tokens(codec: TextCodec) -> list[int]:
    """The token ids that a reply never has: the beginnings of masks."""
    return [k for k, surface in enumerate(codec.surfaces) if OPEN in surface]
