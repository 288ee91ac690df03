"""All that is fuzzed, by name; a case is a name and a number."""

import functools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

import input_subjects
import stored_subjects
import tiny_models
from oracle import verdict


class Subject(Protocol):
    """Something that is read."""

    def mutated(self, draw: Random) -> bytes:
        """A damaged input."""

    def check(self, data: bytes, draw: Random) -> None:
        """Read an input. Raises `UserError` where it is refused."""


LIVE = tuple(
    kind
    for kind in tiny_models.KINDS
    if kind not in ("sentiment", "translation", "handwriting lines", "drawing", "music events")
)
"""The kinds of models that have sessions."""
GROUPS: dict[str, tuple[Callable[[str, Path], Subject], tuple[str, ...]]] = {
    "model": (stored_subjects.ModelSubject, tuple(tiny_models.KINDS)),
    "session": (stored_subjects.SessionSubject, LIVE),
    "state": (stored_subjects.StateSubject, ("lstm", "gru")),
    "spill": (stored_subjects.SpillSubject, ("lstm",)),
    "predict": (input_subjects.PredictSubject, input_subjects.PREDICT),
    "prepare": (input_subjects.PrepareSubject, tuple(tiny_models.KINDS)),
    "items": (input_subjects.ItemSubject, LIVE),
}
NAMES = tuple(f"{group}: {kind}" for group, (_, kinds) in GROUPS.items() for kind in kinds)


@functools.cache
def subject(name: str) -> Subject:
    """A subject, built once a process."""
    group, kind = name.split(": ")
    make, _ = GROUPS[group]
    return make(kind, tiny_models.temporary_folder())


def case(name: str, number: int) -> tuple[bytes, str | None]:
    """(the input of a case, what is wrong or None)"""
    draw = Random(f"{name}#{number}")
    try:
        tested = subject(name)
    except Exception as error:
        return b"", f"cannot be built: {type(error).__name__}: {str(error)[:200]!r}"
    data = tested.mutated(draw)
    return data, verdict(lambda: tested.check(data, draw))
