"""MIDI files and sound."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.applications.music.notes import Notes
from memorycell.applications.music.pieces import piece_notes
from memorycell.applications.music.reading_log import ReadingLog
from memorycell.applications.music.smf import (
    DRUM_CHANNEL,
    INDEPENDENT_TRACKS,
    MidiFile,
    Note,
    parse_midi,
)
from memorycell.errors import DataError, UserError

MIDI_SUFFIXES = (".mid", ".midi", ".kar")
RIFF_SUFFIX = ".rmi"
"""MIDI in a RIFF container, which is only read."""
TICKS_PER_QUARTER = 480
"""Of the scores that are written; a multiple of all `FRAMES_PER_QUARTER`."""


def read_midi(path: Path, frames: int) -> tuple[list[Notes], ReadingLog]:
    """(the pieces in a MIDI file, without drums; what was left out). The tracks of a file are one
    piece, but in format 2 each track is a piece of its own.

    Raises `DataError` for a file that is damaged, one without notes, and one that is too long for
    `frames` frames per quarter note.
    """
    try:
        file = parse_midi(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    independent = file.format == INDEPENDENT_TRACKS and len(file.tracks) > 1
    parts = file.tracks if independent else [[note for track in file.tracks for note in track]]
    log = _log(file, independent)
    pieces = [_melodic(file.ticks, part) for part in parts]
    log.num_notes = sum(map(len, pieces))
    if not log.num_notes:
        drums = any(file.tracks)
        raise DataError(f"{path}: contains {'only drums' if drums else 'no notes'}")
    played = [piece.on_piano for piece in pieces if len(piece.on_piano)]
    if not played:
        raise DataError(f"{path}: contains no notes of the piano")
    log.notes.skip("outside the piano, A0 to C8", log.num_notes - sum(map(len, played)))
    for piece in played:
        log.moved.update(piece.moved())
        try:
            piece.check_length(frames)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    return played, log


def _melodic(ticks: int, notes: Sequence[Note]) -> Notes:
    """Those that are not drums."""
    return Notes.of(ticks, [(n.begin, n.end, n.pitch) for n in notes if n.channel != DRUM_CHANNEL])


def _log(file: MidiFile, independent: bool) -> ReadingLog:
    log = ReadingLog(num_files=1)
    log.notes.repaired.update(file.repaired)
    drums = sum(note.channel == DRUM_CHANNEL for track in file.tracks for note in track)
    log.notes.repair("drums, which are not read", drums)
    for irregularity in file.irregularities:
        log.files.repair(irregularity)
    if len(file.tempos) > 1:
        log.files.repair("tempo changes are not read; positions are in quarter notes")
    if independent:
        log.files.repair("independent tracks (MIDI format 2), each of them a piece")
    return log


def piece_to_score(piece: np.ndarray, frames: int, tempo: float) -> Any:
    """A `symusic.Score` of a piece; `tempo` in quarter notes per minute."""
    import symusic

    step = TICKS_PER_QUARTER // frames
    notes = [(begin * step, (begin + n) * step, pitch) for begin, n, pitch in piece_notes(piece)]
    score = Notes.of(TICKS_PER_QUARTER, notes).score()
    score.tempos.append(symusic.Tempo(0, tempo))
    return score


def to_midi(piece: np.ndarray, frames: int, tempo: float) -> bytes:
    """The MIDI file of a piece."""
    data: bytes = piece_to_score(piece, frames, tempo).dumps_midi()
    return data


def to_wav(piece: np.ndarray, frames: int, tempo: float) -> bytes:
    """The WAV file of a piece; see `score_to_wav`."""
    return score_to_wav(piece_to_score(piece, frames, tempo))


def score_to_wav(score: Any, sample_rate_hz: int = 44100) -> bytes:
    """The WAV file of a `symusic.Score`, 16-bit stereo, synthesised with the SoundFont of
    pretty_midi. Raises `UserError` without it.
    """
    import symusic

    synthesizer = symusic.Synthesizer(str(_sound_font()), sample_rate_hz, 2)
    sound = synthesizer.render(score, True)
    samples = np.clip(np.asarray(sound).T, -1, 1)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _sound_font() -> Path:
    spec = find_spec("pretty_midi")
    for root in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(root, "TimGM6mb.sf2")).exists():
            return path
    raise UserError("sound needs the SoundFont of pretty_midi: pip install pretty_midi")
