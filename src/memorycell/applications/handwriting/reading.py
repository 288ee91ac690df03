"""Read labelled drawings and images of lines."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.handwriting.codec import Line
from memorycell.applications.handwriting.images import IMAGE_SUFFIXES, read_letters, read_line
from memorycell.applications.handwriting.settings import HandwritingSettings
from memorycell.errors import DataError
from memorycell.reading import Losses
from memorycell.signals.drawings import LABEL_KEYS
from memorycell.signals.examples import Example, LabelledData
from memorycell.signals.recordings import find_recordings
from memorycell.signals.stroke_files import read_strokes
from memorycell.signals.strokes import Drawing

TRANSCRIPT_SUFFIXES = (".csv", ".tsv", ".parquet")
LETTERS_SUFFIX = ".npz"


@dataclass(frozen=True)
class Source:
    """Where data are.

    settings     with those of a named dataset
    has_images   images of lines; otherwise strokes
    """

    path: Path
    name: str
    settings: HandwritingSettings
    has_images: bool


def find_source(data: str, settings: HandwritingSettings) -> Source:
    """The source of a path or dataset name. Raises `DataError`."""
    path, named = locate(data)
    settings = with_dataset_settings(settings, named)
    if path.suffix == LETTERS_SUFFIX and settings.head == "auto":
        settings = dataclasses.replace(settings, head="text")
    if path.is_dir():
        has_images = any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.rglob("*"))
    else:
        has_images = path.suffix in (LETTERS_SUFFIX, *TRANSCRIPT_SUFFIXES)
    return Source(path, named.name if named else data, settings, has_images)


def read_images(source: Source) -> LabelledData[Line]:
    """Labelled images of lines. Raises `DataError` where none can be read."""
    path, name, s = source.path, source.name, source.settings
    if path.suffix == LETTERS_SUFFIX:
        words = [Example(line, text, word) for line, text, word in read_letters(path)]
        return LabelledData(name, words, True, [])
    recordings, transcribed, notes = find_recordings(
        path, name, IMAGE_SUFFIXES, names=s.names, encoding=s.encoding, lossy=s.lossy
    )
    base = path if path.is_dir() else path.parent
    examples, errors = [], []
    for recording in recordings:
        try:
            line = read_line(recording.path)
        except DataError as error:
            errors.append(str(error))
            continue
        path = recording.path
        file = (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()
        examples.append(Example(line, recording.label, file, recording.fields))
    if not examples:
        raise DataError(
            f"{name}: none of the {len(recordings)} images can be read; the first: {errors[0]}"
        )
    losses = Losses("images")
    if errors:
        losses.skip(f"unreadable; the first: {errors[0]}", len(errors))
    losses.check(len(recordings), name, s.lossy)
    notes += losses.notes(len(recordings))
    return LabelledData(name, examples, transcribed, notes)


def read_drawings(source: Source) -> LabelledData[Drawing]:
    """Labelled drawings. Raises `DataError` where none has a label."""
    s = source.settings
    drawings, notes = read_strokes(source.path, source.name, encoding=s.encoding, lossy=s.lossy)
    examples = [Example(d.drawing, d.label, d.name, d.fields) for d in drawings if d.label]
    if not examples:
        raise DataError(f"{source.name}: no drawing has a label ({', '.join(LABEL_KEYS)})")
    losses = Losses("drawings")
    losses.skip("no label", len(drawings) - len(examples))
    losses.check(len(drawings), source.name, s.lossy)
    notes += losses.notes(len(drawings))
    transcribed = all(len(example.label) > 1 for example in examples)
    return LabelledData(source.name, examples, transcribed, notes)
