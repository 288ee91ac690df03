"""Pieces from files and folders, by split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from memorycell.application.datasets import locate
from memorycell.applications.music.events import event_names
from memorycell.applications.music.midi import MIDI_SUFFIXES, load_midi, piece_to_score, read_midi
from memorycell.applications.music.musicxml import MUSICXML_SUFFIXES, read_musicxml
from memorycell.applications.music.pieces import piece_from_pitches
from memorycell.errors import DataError
from memorycell.training.splits import SPLITS, split_of

SUFFIXES = (*MIDI_SUFFIXES, *MUSICXML_SUFFIXES, ".json")
SPLIT_ONE_IN = 10
MIN_PIECES = 2
"""Per split."""
SCORE_TEMPO = 100
"""Of scores made from frames; events have no tempo."""

T = TypeVar("T")
Pieces = dict[str, list[np.ndarray]]
"""Split -> pieces [T, 88] bool."""
Scores = dict[str, list[Any]]
"""Split -> `symusic.Score`."""


class Source(NamedTuple):
    """Data by split, their name, and notes on what was left out."""

    splits: dict[str, list[Any]]
    where: str
    notes: list[str]


def read_piece(path: Path, frames: int) -> np.ndarray:
    """The piece [T, 88] in a file: MIDI, MusicXML, or JSON with a list of MIDI pitches per frame.
    Raises `DataError`, and `UserError` for MusicXML without music21.
    """
    suffix = path.suffix.lower()
    if suffix in MIDI_SUFFIXES:
        return read_midi(path, frames)
    if suffix in MUSICXML_SUFFIXES:
        return read_musicxml(path, frames)
    if suffix == ".json":
        try:
            return piece_from_pitches(json.loads(path.read_text(encoding="utf-8")), str(path))
        except (ValueError, TypeError):
            raise DataError(
                f"{path}: expected a list of frames, each a list of MIDI pitches"
            ) from None
    raise DataError(f"{path}: {suffix} is not one of {', '.join(SUFFIXES)}")


def read_score(path: Path, frames: int) -> Any:
    """The `symusic.Score` of a file; of other files than MIDI, from their frames. Raises as
    `read_piece`.
    """
    piece = read_piece(path, frames)
    if path.suffix.lower() in MIDI_SUFFIXES:
        return load_midi(path)
    return piece_to_score(piece, frames, SCORE_TEMPO)


def read_pieces(data: str, frames: int) -> Source:
    """The pieces of a file, a folder or a named dataset, by split."""
    path, dataset = locate(data)
    where = dataset.name if dataset else data
    notes: list[str] = []
    splits = _read_json_splits(path, where)
    if splits is None:
        pieces, notes = _read_files(path, lambda file: read_piece(file, frames))
        splits = _split(pieces, lambda piece: np.packbits(piece).tobytes().hex())
    silent = sum(not piece.any() for pieces in splits.values() for piece in pieces)
    if silent:
        notes.append(f"left out: {silent:,} pieces without a note")
    return Source({s: [p for p in part if p.any()] for s, part in splits.items()}, where, notes)


def read_scores(data: str, frames: int) -> Source:
    """The scores of a file, a folder or a named dataset, by split."""
    path, dataset = locate(data)
    where = dataset.name if dataset else data
    pieces = _read_json_splits(path, where)
    if pieces is not None:
        splits = {
            s: [piece_to_score(p, frames, SCORE_TEMPO) for p in part if p.any()]
            for s, part in pieces.items()
        }
        return Source(splits, where, [])
    scores, notes = _read_files(path, lambda file: read_score(file, frames))
    splits = _split(scores, lambda score: " ".join(event_names(score, frames)))
    return Source(splits, where, notes)


def check_sizes(splits: dict[str, list[Any]], where: str) -> None:
    """Raises `DataError` for a split with too few pieces."""
    for split, pieces in splits.items():
        if len(pieces) < MIN_PIECES:
            raise DataError(
                f"{where}: too few pieces: {len(pieces)} in the {split} split; add more"
            )


def _read_json_splits(path: Path, where: str) -> Pieces | None:
    """The pieces of a JSON file with train, valid and test; None for another file."""
    if path.suffix != ".json":
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path}: not JSON") from None
    if not isinstance(data, dict) or not set(SPLITS) <= set(data):
        return None
    return {
        split: [
            piece_from_pitches(piece, f"{where}: {split} {k + 1}")
            for k, piece in enumerate(data[split])
        ]
        for split in SPLITS
    }


def _read_files(path: Path, read: Callable[[Path], T]) -> tuple[list[T], list[str]]:
    """(what was read from a file or from all files of a folder, notes on unreadable files). Raises
    `DataError` where none is readable.
    """
    files = (
        sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if path.is_dir()
        else [path]
    )
    results, errors = [], []
    for file in files:
        try:
            results.append(read(file))
        except DataError as error:
            errors.append(str(error))
    if not results:
        raise DataError(
            errors[0] if errors else f"{path}: no music in this folder ({', '.join(SUFFIXES)})"
        )
    notes = [f"left out: {len(errors):,} files; the first: {errors[0]}"] if errors else []
    return results, notes


def _split(items: list[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Split -> items, by a hash of their content."""
    splits: dict[str, list[T]] = {split: [] for split in SPLITS}
    for item in items:
        splits[split_of(key(item), SPLIT_ONE_IN)].append(item)
    return splits
