"""Pieces from files and folders, by split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from memorycell.application.datasets import locate
from memorycell.applications.music.events import MAX_BEATS, event_names
from memorycell.applications.music.midi import (
    MIDI_SUFFIXES,
    RIFF_SUFFIX,
    piece_to_score,
    read_midi,
)
from memorycell.applications.music.musicxml import MUSICXML_SUFFIXES, read_musicxml
from memorycell.applications.music.pieces import piece_from_pitches
from memorycell.applications.music.reading_log import ReadingLog
from memorycell.errors import DataError, quote
from memorycell.reading import read_text
from memorycell.setting_fields import parse_json
from memorycell.training.splits import SPLITS, split_of

SUFFIXES = (*MIDI_SUFFIXES, RIFF_SUFFIX, *MUSICXML_SUFFIXES, ".json")
SPLIT_ONE_IN = 10
MIN_PIECES = 2
"""Per split."""
MAX_ERROR_CHARS = 140
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


def read_piece(path: Path, frames: int, log: ReadingLog | None = None) -> np.ndarray:
    """The piece [T, 88] in a file, the first one of several; see `_read_file_pieces`. What was left
    out is added to `log`.
    """
    pieces, own = _read_file_pieces(path, frames)
    _add_single(log, own, len(pieces))
    return pieces[0]


def read_score(path: Path, frames: int, log: ReadingLog | None = None) -> Any:
    """The `symusic.Score` of a file, the first one of several; of other files than MIDI, from their
    frames. See `read_piece`.
    """
    scores, own = _read_file_scores(path, frames)
    _add_single(log, own, len(scores))
    return scores[0]


def _add_single(log: ReadingLog | None, own: ReadingLog, pieces: int) -> None:
    if log is not None:
        own.files.repair("only the first piece is read", int(pieces > 1))
        log.add(own)


def _read_file_pieces(path: Path, frames: int) -> tuple[list[np.ndarray], ReadingLog]:
    """(the pieces [T, 88] in a file, what was left out). It is MIDI, MusicXML, or JSON with a list
    of MIDI pitches per frame.

    Raises `DataError`, and `UserError` for MusicXML without music21.
    """
    suffix = path.suffix.lower()
    if suffix in (*MIDI_SUFFIXES, RIFF_SUFFIX):
        notes, log = read_midi(path, frames)
        return [piece.piece(frames) for piece in notes], log
    log = ReadingLog(num_files=1)
    if suffix in MUSICXML_SUFFIXES:
        return [read_musicxml(path, frames)], log
    if suffix == ".json":
        return [piece_from_pitches(_read_json(path), str(path))], log
    raise DataError(f"{path}: {quote(suffix)} is not one of {', '.join(SUFFIXES)}")


def _read_file_scores(path: Path, frames: int) -> tuple[list[Any], ReadingLog]:
    """(the `symusic.Score`s in a file, what was left out); see `_read_file_pieces`."""
    if path.suffix.lower() not in (*MIDI_SUFFIXES, RIFF_SUFFIX):
        pieces, log = _read_file_pieces(path, frames)
        return [piece_to_score(piece, frames, SCORE_TEMPO) for piece in pieces], log
    notes, log = read_midi(path, frames)
    long = sum(int((n.end - n.begin > MAX_BEATS * n.ticks).sum()) for n in notes)
    log.notes.repair(f"longer than {MAX_BEATS} quarter notes, shortened", long)
    return [piece.score() for piece in notes], log


def read_pieces(data: str, frames: int, lossy: bool = False) -> Source:
    """The pieces of a file, a folder or a named dataset, by split. Raises `DataError`, also where
    more than a twentieth of the files or notes would be left out, unless `lossy`.
    """
    path, dataset = locate(data)
    where = dataset.name if dataset else data
    log = ReadingLog()
    splits = _read_json_splits(path, where)
    if splits is None:
        pieces, log = _read_files(path, lambda file: _read_file_pieces(file, frames))
        splits = _split(pieces, lambda piece: np.packbits(piece).tobytes().hex())
    log.check(where, lossy)
    notes = log.lines(frames)
    silent = sum(not piece.any() for pieces in splits.values() for piece in pieces)
    if silent:
        notes.append(f"left out: {silent:,} pieces without a note")
    return Source({s: [p for p in part if p.any()] for s, part in splits.items()}, where, notes)


def read_scores(data: str, frames: int, lossy: bool = False) -> Source:
    """The scores of a file, a folder or a named dataset, by split; see `read_pieces`."""
    path, dataset = locate(data)
    where = dataset.name if dataset else data
    pieces = _read_json_splits(path, where)
    if pieces is not None:
        splits = {
            s: [piece_to_score(p, frames, SCORE_TEMPO) for p in part if p.any()]
            for s, part in pieces.items()
        }
        return Source(splits, where, [])
    scores, log = _read_files(path, lambda file: _read_file_scores(file, frames))
    log.check(where, lossy)
    splits = _split(scores, lambda score: " ".join(event_names(score, frames)))
    return Source(splits, where, log.lines(frames))


def check_sizes(splits: dict[str, list[Any]], where: str) -> None:
    """Raises `DataError` for a split with too few pieces."""
    for split, pieces in splits.items():
        if len(pieces) < MIN_PIECES:
            raise DataError(
                f"{where}: too few pieces: {len(pieces)} in the {split} split; add more"
            )


def _read_json(path: Path) -> Any:
    """The values in a JSON file. Raises `DataError`."""
    try:
        return parse_json(read_text(path))
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({quote(str(error))})") from None


def _read_json_splits(path: Path, where: str) -> Pieces | None:
    """The pieces of a JSON file with train, valid and test; None for another file."""
    if path.suffix.lower() != ".json" or path.is_dir():
        return None
    data = _read_json(path)
    if not isinstance(data, dict):
        return None
    for split in SPLITS:
        if not isinstance(data.get(split), list):
            raise DataError(f"{path}: expected train, valid and test, each a list of pieces")
    return {
        split: [
            piece_from_pitches(piece, f"{where}: {split} {k + 1}")
            for k, piece in enumerate(data[split])
        ]
        for split in SPLITS
    }


def _read_files(
    path: Path, read: Callable[[Path], tuple[list[T], ReadingLog]]
) -> tuple[list[T], ReadingLog]:
    """(what was read from a file or from all files of a folder, what was left out). Raises
    `DataError` where nothing is readable.
    """
    files = (
        sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if path.is_dir()
        else [path]
    )
    results: list[T] = []
    errors: list[str] = []
    log = ReadingLog()
    for file in files:
        try:
            found, own = read(file)
        except DataError as error:
            errors.append(str(error))
        else:
            results += found
            log.add(own)
    if not results:
        raise DataError(
            errors[0] if errors else f"{path}: no music in this folder ({', '.join(SUFFIXES)})"
        )
    log.num_files = len(files)
    if errors:
        log.files.skip(f"the first: {errors[0][:MAX_ERROR_CHARS]}", len(errors))
    return results, log


def _split(items: list[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Split -> items, by a hash of their content."""
    splits: dict[str, list[T]] = {split: [] for split in SPLITS}
    for item in items:
        splits[split_of(key(item), SPLIT_ONE_IN)].append(item)
    return splits
