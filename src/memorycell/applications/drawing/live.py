"""A model that draws at work: signs in, strokes out, in one style or another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import AnyModelFile, ModelFile
from memorycell.application.datasets import locate
from memorycell.applications.drawing.codec import END, PenCodec, side_by_side, svg
from memorycell.applications.drawing.model import Writer
from memorycell.errors import DataError, UserError
from memorycell.signals.stroke_files import LabelledDrawing, read_strokes
from memorycell.signals.strokes import Drawing


@dataclass(frozen=True)
class Hand:
    """What --set can say about drawing.

    count   how many drawings; seed: the same seed draws the same
    bias    0: as varied as people draw; above, the likelier and the neater (Graves 2013, section
            5.4)
    style   a file of strokes: it is drawn as by that hand; only: of many drawings there, those
            whose name holds this
    longest moves of a sign at most
    """

    count: int = 4
    seed: int = 0
    bias: float = 0.5
    style: str | None = None
    only: str | None = None
    longest: int = 200

    def __post_init__(self) -> None:
        if self.count < 1 or self.longest < 2 or not 0 <= self.bias <= 10:
            raise ValueError("count: expected 1 or more; longest: 2 or more; bias: 0 to 10")


STYLE = 3
"""Drawings of a person that are taken for the style."""


def predict(file: ModelFile, source: str | None, how: Hand) -> dict[str, Any]:
    """`{"drawings": [{"text", "strokes", "finished"}]}`: every line of a text drawn, `count` times
    each. Strokes are lists of points [x, y], the height being about 1.
    """
    codec, model = _parts(file)
    texts = [line for line in (source or "").split("\n") if line.strip()]
    if source is None:
        texts = [codec.signs[how.seed % len(codec.signs)]]
    if not texts:
        codec.read("")
    signs = [codec.read(text) for text in texts]
    before, primed = None, []
    if how.style is not None:
        shown = _style(codec, how.style, how.only)
        primed = [number for drawn in shown for number in codec.read(drawn.label)]
        before = torch.from_numpy(
            codec.moves(side_by_side([codec.framed(d.drawing) for d in shown]))
        )
    generator = torch.Generator().manual_seed(how.seed)
    drawings = []
    for text, wanted in zip(texts, signs, strict=True):
        for _ in range(how.count):
            moves = model.draw(
                torch.tensor(primed + wanted),
                bias=how.bias,
                most=how.longest * len(wanted),
                generator=generator,
                before=before,
            ).numpy()
            strokes = [np.round(stroke, 3).tolist() for stroke in codec.drawing(moves)]
            drawings.append(
                {"text": text, "strokes": strokes, "finished": bool(moves[-1, 2] == END)}
            )
    return {"bias": how.bias, "seed": how.seed, "drawings": drawings}


def _style(codec: PenCodec, path: str, only: str | None) -> list[LabelledDrawing]:
    file, _ = locate(path)
    drawn, _ = read_strokes(file, path)
    known = [d for d in drawn if _known(codec, d.label) and (only is None or only in d.name)]
    if not known:
        raise DataError(
            f"{path}: holds no drawing of a sign that the model draws"
            + (f", with {only!r} in its name" if only else "")
        )
    return known[:STYLE]


def features_of(file: ModelFile, source: str) -> tuple[np.ndarray, list[int]]:
    """The moves [T, 3] and the signs of a file's first drawing whose signs the model knows."""
    codec, _ = _parts(file)
    drawn = _style(codec, source, None)[0]
    return codec.moves(codec.framed(drawn.drawing)), codec.read(drawn.label)


def _known(codec: PenCodec, said: str) -> bool:
    try:
        return bool(codec.read(said))
    except DataError:
        return False


def picture(file: AnyModelFile, record: dict[str, Any]) -> str:
    """The drawings as SVG, one row per text."""
    rows: dict[str, list[Drawing]] = {}
    for one in record["drawings"]:
        rows.setdefault(one["text"], []).append([np.array(stroke) for stroke in one["strokes"]])
    return svg(rows)


def show(record: dict[str, Any]) -> str:
    """The record for people: a line of JSON a drawing, as it can be read again."""
    cut = sum(not one["finished"] for one in record["drawings"])
    lines = [
        json.dumps({"label": one["text"], "strokes": one["strokes"]}) for one in record["drawings"]
    ]
    return "\n".join(
        [
            *lines,
            *([f"({cut} cut short: --set longest=…)"] if cut else []),
            "see them: --out drawing.svg",
        ]
    )


def _parts(file: ModelFile) -> tuple[PenCodec, Writer]:
    if not (isinstance(file.codec, PenCodec) and isinstance(file.model, Writer)):
        raise UserError("predict: not a model that draws")
    return file.codec, file.model
