"""Predict the class or the transcript of drawings and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.application.datasets import locate
from memorycell.applications.handwriting.codec import Line, LineCodec
from memorycell.applications.handwriting.images import IMAGE_SUFFIXES, read_line
from memorycell.errors import DataError, quote
from memorycell.signals import ctc
from memorycell.signals.lexicon import LexiconSearch, selected_search
from memorycell.signals.recognise import SignalModel, answer_text, label_record, recognise
from memorycell.signals.stroke_files import read_strokes
from memorycell.signals.strokes import Drawing, StrokeCodec
from memorycell.signals.transcriber import Transcriber

MAX_INPUTS = 1000
"""Drawings or images per call."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    search   for text: also search the most probable words of the lexicon: yes or no
    only     read only the drawings whose names contain this
    encoding   of the file's text; by default UTF-8
    lossy    accept that more than 5% of the drawings are damaged: yes or no
    """

    search: bool = True
    only: str | None = None
    encoding: str | None = None
    lossy: bool = False


@dataclass(frozen=True)
class NamedInput:
    """A drawing or an image, and its features [T, F]."""

    name: str
    raw: Drawing | Line
    features: np.ndarray


def read_inputs(
    codec: StrokeCodec | LineCodec,
    source: str | None,
    only: str | None = None,
    encoding: str | None = None,
) -> list[NamedInput]:
    """The drawings or images that `predict` reads. Raises `DataError`."""
    return _read_inputs(codec, source, PredictOptions(only=only, encoding=encoding, lossy=True))[0]


def _read_inputs(
    codec: StrokeCodec | LineCodec, source: str | None, options: PredictOptions
) -> tuple[list[NamedInput], list[str]]:
    """(drawings or images of a file, a folder or a named dataset, notes). Raises `DataError`."""
    only = options.only
    if source is None:
        raise DataError(
            "predict: no input given; expected a file of strokes (.jsonl, .inkml) or an image"
        )
    path, _ = locate(source)
    notes: list[str] = []
    if isinstance(codec, LineCodec):
        paths = [path]
        if path.is_dir():
            paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        chosen = [p for p in paths if only is None or only in str(p)]
        lines = [(str(p), read_line(p)) for p in chosen[:MAX_INPUTS]]
        inputs = [NamedInput(name, line, codec.encode(line)) for name, line in lines]
        count = len(chosen)
    else:
        drawings, notes = read_strokes(path, source, encoding=options.encoding, lossy=options.lossy)
        drawings = [d for d in drawings if only is None or only in d.name]
        inputs = [
            NamedInput(d.name, d.drawing, codec.encode(d.drawing)) for d in drawings[:MAX_INPUTS]
        ]
        count = len(drawings)
    if not inputs:
        named = "" if only is None else f" with {quote(only)} in its name"
        raise DataError(f"{source}: contains no drawing or image{named}")
    if count > len(inputs):
        notes = [*notes, f"only the first {len(inputs):,} of {count:,} were read; choose: only=…"]
    return inputs, notes


def predict(
    file: ModelFile[SignalModel, StrokeCodec | LineCodec],
    source: str | None,
    options: PredictOptions,
) -> Record:
    """`{"drawings": [...]}`: each with its label and probabilities, or its text and the result of
    the search. Raises `DataError`.
    """
    search = None
    if isinstance(file.model, Transcriber) and options.search:
        search = selected_search(file.model, file.codec)
    inputs, notes = _read_inputs(file.codec, source, options)
    records = [{"name": one.name, **answer(file, one.features, search)} for one in inputs]
    record: Record = {"source": source, "only": options.only, "drawings": records}
    if options.encoding is not None:
        record["encoding"] = options.encoding
    if notes:
        record["notes"] = notes
    return record


def answer(
    file: ModelFile[SignalModel, StrokeCodec | LineCodec],
    features: np.ndarray,
    search: LexiconSearch | None = None,
) -> dict[str, Any]:
    """The label or the text of features [T, F]."""
    codec = file.codec
    log_p = recognise(file, features)
    if codec.text is None:
        return label_record(codec.labels, np.exp(log_p), codec.unknown_below)
    letters = ctc.greedy_letters(log_p)
    p = float(np.mean([letter.p for letter in letters] or [0.0]))
    record = {"text": ctc.letters_to_text(codec, letters), "p": round(p, 4)}
    return record if search is None else {**record, "searched": search.decode(log_p)}


def render(record: dict[str, Any]) -> str:
    """See `Application.render`: one line per drawing."""
    lines = []
    for one in record["drawings"]:
        if "label" in one:
            lines.append(answer_text(one, one["name"]))
        else:
            searched = f"   (with lexicon: {one['searched']})" if one.get("searched") else ""
            lines.append(f"{one['text']} ({one['p']:.1%} per letter)  {one['name']}{searched}")
    return "\n".join([*lines, *record.get("notes", [])])
