"""JSON values in files: one per line, or an array."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memorycell.applications.chat.layouts import MESSAGE_FIELDS
from memorycell.errors import DataError
from memorycell.language.files import read_file, unpacked_name
from memorycell.setting_fields import parse_json

WRAPPERS = ("conversations", "data", "dialogues", "examples", "messages")
"""The names of an array of dialogues in an object that is a whole file."""


def read_records(path: Path, encoding: str | None, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """(place such as "line 3", JSON value) of every dialogue in a file: one per line, the elements
    of an array, those of an array in an object, or the values of an object. Raises `DataError` with
    the line.
    """
    text = read_file(path, encoding, notes)
    is_document = unpacked_name(path).endswith(".json")
    try:
        value = parse_json(re.sub(r",\s*\]\s*\Z", "]", text))
    except ValueError as error:
        if is_document and not _first_line_is_json(text):
            raise DataError(f"{path}: {_line_of(str(error), text)}is not JSON ({error})") from None
        yield from _by_line(path, text)
        return
    entries = _entries(value)
    for k, entry in enumerate(entries, 1):
        yield f"entry {k}" if len(entries) > 1 else "line 1", entry


def _by_line(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Also of an array that has each element in a line."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip().removesuffix(",")
        if line in ("", "[", "]"):
            continue
        try:
            yield f"line {number}", parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: is not JSON ({error})") from None


def _entries(value: Any) -> list[Any]:
    """The dialogues of a JSON document."""
    if isinstance(value, Mapping):
        for name in WRAPPERS:
            wrapped = value.get(name)
            if isinstance(wrapped, list) and wrapped and not _is_dialogue(wrapped):
                return wrapped
        if value and all(isinstance(v, Mapping) and _has_turns(v) for v in value.values()):
            return list(value.values())
    if isinstance(value, list) and not _is_dialogue(value):
        return value
    return [value]


def _is_dialogue(value: list[Any]) -> bool:
    """Whether an array is the turns of one dialogue: texts, or messages of a role."""
    first = value[0] if value else None
    if isinstance(first, Mapping):
        return not {"role", "from"}.isdisjoint(first)
    if isinstance(first, list):  # the messages of a turn
        return bool(first) and isinstance(first[0], Mapping) and "sender" in first[0]
    return True


def _has_turns(value: Mapping[str, Any]) -> bool:
    return any(name in value for name in MESSAGE_FIELDS)


def _first_line_is_json(text: str) -> bool:
    try:
        parse_json(text.strip().split("\n", 1)[0].removesuffix(","))
    except ValueError:
        return False
    return True


def _line_of(reason: str, text: str) -> str:
    """The line of the byte in a message of the JSON parser."""
    found = re.search(r"byte (\d+)", reason)
    if found is None:
        return ""
    before = text.encode(errors="replace")[: int(found.group(1))]
    line = before.count(b"\n") + 1
    return f"line {line}: "
