"""Collect labelled drawings while files are read, and count what cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memorycell.errors import DataError, quote
from memorycell.reading import Losses
from memorycell.signals.strokes import Drawing, check_strokes

LABEL_KEYS = ("label", "text", "truth", "class", "word", "transcription")
"""Keys of a JSON line, and types of an InkML annotation, that hold the label."""
MAX_NAME_CHARS = 100


@dataclass(frozen=True)
class LabelledDrawing:
    """A drawing from a file.

    label    a class name or transcript; "" where the file has none
    fields   other values of the file, such as the writer
    """

    drawing: Drawing
    label: str
    name: str
    fields: Mapping[str, str]


@dataclass
class FoundDrawings:
    """What the readers of one source have found.

    damaged   why a drawing cannot be used, one line each
    ignored   what is not a drawing -> how often
    """

    drawings: list[LabelledDrawing] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(
        self, strokes: Sequence[Any], label: str, name: str, fields: Mapping[str, str] | None = None
    ) -> None:
        """A drawing from its strokes; see `check_strokes`. An invalid one is damaged."""
        try:
            drawing = check_strokes(strokes, shown_name(name))
        except DataError as error:
            self.damaged.append(str(error))
            return
        self.drawings.append(LabelledDrawing(drawing, label.strip(), name, dict(fields or {})))

    def notes(self, where: str, lossy: bool) -> list[str]:
        """What was left out. Raises `DataError`; see `Losses.check`."""
        losses, total = Losses("drawings"), len(self.drawings) + len(self.damaged)
        if self.damaged:
            losses.skip(f"damaged (the first: {self.damaged[0]})", len(self.damaged))
        losses.check(total, where, lossy)
        ignored = [f"ignored: {count:,} {what}" for what, count in self.ignored.items()]
        return losses.notes(total) + ignored


def shown_name(name: str) -> str:
    """The name of a file or an entry of an archive, for messages."""
    return name if name.isprintable() and len(name) <= MAX_NAME_CHARS else quote(name)


def first_label(values: Mapping[str, str]) -> str:
    """The value of the first of `LABEL_KEYS` that has one; otherwise ""."""
    return next((values[key] for key in LABEL_KEYS if values.get(key)), "")
