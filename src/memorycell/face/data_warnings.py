"""The notes of a prediction as warnings, for a caller that gets a data frame."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from memorycell.errors import DataWarning

PACKAGE = __name__.partition(".")[0]
MAX_WARNINGS = 8
"""Of one prediction."""


def warn_of_notes(record: Mapping[str, Any]) -> None:
    """Warn of the notes of a prediction and of its parts, at the line that called memorycell."""
    notes = list(_notes(record))
    if len(notes) > MAX_WARNINGS:
        more = f"and {len(notes) - MAX_WARNINGS + 1:,} more notes like this one"
        notes[MAX_WARNINGS - 1 :] = [more]
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=_caller_level())


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    """The notes of a record, then those of the parts that it lists: "text 3: …"."""
    yield from record.get("notes") or ()
    for name, parts in record.items():
        if isinstance(parts, list):
            for number, part in enumerate(parts, 1):
                if isinstance(part, Mapping) and "note" in part:
                    yield f"{name.removesuffix('s')} {number}: {part['note']}"


def _caller_level() -> int:
    """The `stacklevel` in `warn_of_notes` of the first frame outside of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _module(frame).partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    return level


def _module(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", ""))
