"""A model of handwriting at work: the character that was drawn, or the text that was written; live,
while it is drawn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application.contract import NoOptions
from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.applications.handwriting.lines import ENDINGS, LineCodec, read_line
from memorycell.errors import DataError, StateError, UserError
from memorycell.signals import ctc
from memorycell.signals.recognise import label_record, recognise
from memorycell.signals.strokes import MOST_POINTS, Drawing, StrokeCodec, checked, read_strokes

MOST = 1000
"""Drawings that are read of one call."""


@dataclass(frozen=True)
class Reading:
    """What --set can say about reading.

    search   of a model that writes text: also look for the likeliest words of its lexicon: yes or
             no
    only     of many drawings, those whose name holds this
    """

    search: str = "yes"
    only: str | None = None

    def __post_init__(self) -> None:
        if self.search not in ("yes", "no"):
            raise ValueError(f"search={self.search}: expected yes or no")


def given(
    file: ModelFile, source: str | None, only: str | None = None
) -> list[tuple[str, Any, np.ndarray]]:
    """(name, what was drawn, its features) of a file or a folder of drawings or pictures. Raises
    `DataError`.
    """
    codec = _codec(file)
    if source is None:
        raise DataError(
            "predict: no drawing given; name a file of strokes (.jsonl, .inkml) or a picture"
        )
    path, _ = locate(source)
    found: list[tuple[str, Any]]
    if isinstance(codec, LineCodec):
        files = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
            if path.is_dir()
            else [path]
        )
        found = [(str(p), read_line(p)) for p in files if only is None or only in str(p)]
    else:
        drawn, _ = read_strokes(path, source)
        found = [(d.name, d.drawing) for d in drawn if only is None or only in d.name]
    if not found:
        raise DataError(
            f"{source}: holds nothing to read" + (f" with {only!r} in its name" if only else "")
        )
    return [(name, raw, codec.encode(raw)) for name, raw in found[:MOST]]


def features_of(file: ModelFile, source: str) -> np.ndarray:
    """The features [T, F] of the first drawing of a file, as the model reads them."""
    return given(file, source)[0][2]


def predict(file: ModelFile, source: str | None, how: Reading) -> dict[str, Any]:
    """`{"drawings": [...]}`: each with its label and how sure it is, or with its text, and that
    which the search found.
    """
    codec = _codec(file)
    search = None
    if codec.text is not None and how.search == "yes":
        search = ctc.search_with(file.model.search, codec)
    records = []
    for name, _, features in given(file, source, how.only):
        records.append({"name": name, **answer(file, features, search)})
    return {"source": source, "only": how.only, "drawings": records}


def answer(
    file: ModelFile, features: np.ndarray, search: ctc.LexiconSearch | None = None
) -> dict[str, Any]:
    """The label or the text of features [T, F]."""
    codec = _codec(file)
    log_p = recognise(file, features)
    if codec.text is None:
        return label_record(codec.labels, np.exp(log_p))
    letters = ctc.greedy(log_p)
    told = {
        "text": ctc.text(codec, letters),
        "p": round(float(np.mean([x.p for x in letters] or [0.0])), 4),
    }
    return told if search is None else {**told, "searched": search.find(log_p)}


def show(record: dict[str, Any]) -> str:
    """The record for people."""
    lines = []
    for one in record["drawings"]:
        if "label" in one:
            others = ", ".join(
                f"{k} {p:.1%}" for k, p in list(one["probabilities"].items())[1:4] if p >= 0.001
            )
            lines.append(
                f"{one['label']} ({one['p']:.1%})  {one['name']}"
                + (f"   (else {others})" if others else "")
            )
        else:
            beside = f"   (in its lexicon: {one['searched']})" if one.get("searched") else ""
            lines.append(f"{one['text']} ({one['p']:.1%} a letter)  {one['name']}{beside}")
    return "\n".join(lines)


class LiveHandwriting:
    """Points go in as the pen moves, what was drawn so far comes out.

    A line is a point, [x, y] or {"x": …, "y": …}, or "up" where the pen is lifted; an empty line
    begins a new drawing. The drawing is read anew at every point, in its frame as it is then, so
    that the answer at its end is that of the whole.
    """

    def __init__(
        self, file: ModelFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        if not isinstance(_codec(file), StrokeCodec):
            raise UserError("stream: this model reads pictures; use memorycell predict")
        if precision != "float32":
            raise UserError(f"stream: handwriting is read in float32, not {precision}")
        self.file = file
        self.strokes: list[list[tuple[float, float]]] = [[]]

    def line(self, text: str, number: int) -> dict[str, Any] | None:
        """See `Live`."""
        if not text.strip():
            self.strokes = [[]]
            return None
        if text.strip().strip('"') == "up":
            if self.strokes[-1]:
                self.strokes.append([])
            return None
        self._add(text, f"stdin, line {number}")
        drawing = self.drawing
        points = sum(map(len, self.strokes))
        return {
            **answer(self.file, self.file.codec.encode(drawing)),
            "strokes": len(drawing),
            "points": points,
        }

    def _add(self, text: str, where: str) -> None:
        try:
            point = json.loads(text)
            x, y = (point["x"], point["y"]) if isinstance(point, dict) else (point[0], point[1])
            checked([[(x, y)]], where)
        except (ValueError, TypeError, KeyError, IndexError):
            raise DataError(
                f'{where}: expected a point [x, y], "up", or an empty line for a new drawing'
            ) from None
        if sum(map(len, self.strokes)) >= MOST_POINTS:
            raise DataError(
                f"{where}: {MOST_POINTS:,} points are the most of a drawing; an empty line begins a"
                " new one"
            )
        self.strokes[-1].append((float(x), float(y)))

    @property
    def drawing(self) -> Drawing:
        """What was drawn so far."""
        return checked([stroke for stroke in self.strokes if stroke], "stdin")

    def save(self, path: str | Path) -> None:
        """See `Live`."""
        from memorycell.files import write_atomically

        write_atomically(
            Path(path), json.dumps({"format": "memorycell-drawing-1", "strokes": self.strokes})
        )

    def load(self, path: str | Path) -> None:
        """See `Live`."""
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            if held["format"] != "memorycell-drawing-1":
                raise ValueError("another format")
            strokes = [[(float(x), float(y)) for x, y in stroke] for stroke in held["strokes"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise StateError(f"{path}: not a drawing that was begun; start without it") from None
        self.strokes = strokes or [[]]


def _codec(file: ModelFile) -> StrokeCodec | LineCodec:
    if not isinstance(file.codec, (StrokeCodec, LineCodec)):
        raise UserError("predict: not a model of handwriting")
    return file.codec
