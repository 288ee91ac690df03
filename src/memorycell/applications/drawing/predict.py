"""Draw texts, one per line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import ModelFile, Record
from memorycell.application.datasets import locate
from memorycell.applications.drawing.choosing import best_candidate
from memorycell.applications.drawing.codec import PEN_END, PenCodec, join_in_row
from memorycell.applications.drawing.model import Writer
from memorycell.errors import DataError, quote
from memorycell.signals.drawings import LabelledDrawing
from memorycell.signals.stroke_files import read_strokes

MAX_STYLE_DRAWINGS = 3
"""Drawings of a person that are the prompt for their style."""
MAX_BIAS = 10
MAX_CANDIDATES = 1000
MAX_COUNT, MAX_LONGEST, MAX_SEED = 10_000, 10_000, 2**63 - 1

WriterFile = ModelFile[Writer, PenCodec]


@dataclass(frozen=True)
class PredictOptions:
    """Settings for --set.

    count    drawings per text
    seed     of the random numbers
    bias     0: as varied as the training data; higher: neater and more alike (Graves 2013, section
             5.4)
    candidates   drawings of which one is chosen: the one that the model itself reads most surely as
                 what was asked; 1: the first
    style    a file of strokes whose style is imitated
    only     use only the drawings in it whose name contains this
    longest  maximum number of moves per sign
    encoding   of the text of the file of strokes; by default UTF-8
    lossy    accept that more than 5% of its drawings are damaged: yes or no
    """

    count: int = 4
    seed: int = 0
    bias: float = 1.5
    candidates: int = 8
    style: str | None = None
    only: str | None = None
    longest: int = 200
    encoding: str | None = None
    lossy: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"count={self.count}: expected 1 to {MAX_COUNT:,}")
        if not 2 <= self.longest <= MAX_LONGEST:
            raise ValueError(f"longest={self.longest}: expected 2 to {MAX_LONGEST:,}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed={self.seed}: expected 0 to {MAX_SEED}")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise ValueError(f"candidates={self.candidates}: expected 1 to {MAX_CANDIDATES:,}")
        if not 0 <= self.bias <= MAX_BIAS:
            raise ValueError(f"bias={self.bias}: expected 0 to {MAX_BIAS}")


def predict(file: WriterFile, source: str | None, options: PredictOptions) -> Record:
    """`{"drawings": [{"text", "strokes", "finished"}]}`: each line of a text, `count` times.

    Strokes are lists of points [x, y] in units of the height.
    """
    codec = file.codec
    texts = _texts(codec, source, options.seed)
    sign_ids = [codec.sign_ids(text) for text in texts]
    prompt_ids: list[int] = []
    prompt = None
    notes: list[str] = []
    if options.style is not None:
        known, notes = _known_drawings(codec, options.style, options)
        examples = known[:MAX_STYLE_DRAWINGS]
        prompt_ids = [i for example in examples for i in codec.sign_ids(example.label)]
        row = join_in_row([codec.normalise(example.drawing) for example in examples])
        prompt = torch.from_numpy(codec.to_moves(row))
    generator = torch.Generator().manual_seed(options.seed)
    drawings: list[Record] = []
    for text, ids in zip(texts, sign_ids, strict=True):
        for _ in range(options.count):
            u = torch.rand(options.candidates, options.longest * len(ids), 4, generator=generator)
            candidates = file.model.draw(
                torch.tensor(prompt_ids + ids), u, bias=options.bias, prompt=prompt
            )
            ended = [one for one in candidates if one[-1, 2] == PEN_END] or candidates
            moves = best_candidate(file.model, ended, ids).numpy()
            strokes = [np.round(stroke, 3).tolist() for stroke in codec.to_strokes(moves)]
            finished = bool(moves[-1, 2] == PEN_END)
            drawings.append({"text": text, "strokes": strokes, "finished": finished})
    record: Record = {"bias": options.bias, "seed": options.seed, "drawings": drawings}
    return {**record, "notes": notes} if notes else record


def _texts(codec: PenCodec, source: str | None, seed: int) -> list[str]:
    """The lines of a text; without one, a sign."""
    if source is None:
        return [codec.signs[seed % len(codec.signs)]]
    texts = [line for line in source.split("\n") if line.strip()]
    if not texts:
        codec.sign_ids("")  # raises DataError
    return texts


def _known_drawings(
    codec: PenCodec, path: str, options: PredictOptions
) -> tuple[Sequence[LabelledDrawing], list[str]]:
    """(the drawings of a file whose signs the model draws, notes)"""
    drawings, notes = read_strokes(
        locate(path)[0], path, encoding=options.encoding, lossy=options.lossy
    )
    only = options.only
    known = [d for d in drawings if _is_known(codec, d.label) and (only is None or only in d.name)]
    if not known:
        named = f", with {quote(only)} in its name" if only else ""
        raise DataError(f"{path}: contains no drawing of a sign that the model draws{named}")
    return known, notes


def _is_known(codec: PenCodec, label: str) -> bool:
    try:
        codec.sign_ids(label)
    except DataError:
        return False
    return True


def encode_drawing(file: WriterFile, source: str) -> tuple[np.ndarray, list[int]]:
    """(moves [T, 3], sign ids) of the first drawing of a file whose signs the model draws."""
    codec = file.codec
    first = _known_drawings(codec, source, PredictOptions())[0][0]
    return codec.to_moves(codec.normalise(first.drawing)), codec.sign_ids(first.label)


def render(record: Record) -> str:
    """The drawings as JSON lines, which can be read again, and comments."""
    drawings: Any = record["drawings"]
    lines = [json.dumps({"label": one["text"], "strokes": one["strokes"]}) for one in drawings]
    unfinished = sum(not one["finished"] for one in drawings)
    if unfinished:
        lines.append(f"# {unfinished} cut off: --set longest=…")
    notes: Any = record.get("notes", [])
    return "\n".join([*lines, *(f"# {note}" for note in notes), "# to view: --out drawing.svg"])
