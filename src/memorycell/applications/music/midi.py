"""MIDI files and sound, by symusic."""

from __future__ import annotations

import io
import math
import wave
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.applications.music.pieces import MAX_FRAMES, piece_notes, trim_silence
from memorycell.applications.music.pitches import LOWEST_PITCH, NUM_KEYS
from memorycell.errors import DataError, UserError

MIDI_SUFFIXES = (".mid", ".midi", ".kar")
TICKS_PER_QUARTER = 480
"""Of the scores that are written."""
VELOCITY = 72


def read_midi(path: Path, frames: int) -> np.ndarray:
    """A MIDI file as a piece [T, 88], without drums. Raises `DataError` for a damaged file and for
    one without notes.
    """
    score = load_midi(path)
    if not any(track.notes for track in score.tracks if not track.is_drum):
        drums = any(track.notes for track in score.tracks)
        raise DataError(f"{path}: contains {'only drums' if drums else 'no notes'}")
    try:
        piece = score_to_piece(score, frames)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if not len(piece):
        raise DataError(f"{path}: contains no notes of the piano")
    return piece


def load_midi(path: Path) -> Any:
    """The `symusic.Score` of a MIDI file. Raises `DataError` for a damaged file.

    The lengths of its chunks are checked first, since the parser reads past the end of a truncated
    file.
    """
    import symusic

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if data[:4] != b"MThd":
        raise DataError(f"{path}: not a MIDI file")
    at = 0
    while at + 8 <= len(data) and data[at : at + 2] == b"MT":
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
    if at > len(data) or data[at : at + 2] == b"MT" or b"MTrk" not in data:
        raise DataError(f"{path}: a truncated MIDI file")
    try:
        return symusic.Score.from_midi(data)
    except (RuntimeError, ValueError) as error:
        reason = str(error).split(":")[0][:80]
        raise DataError(f"{path}: not a readable MIDI file ({reason})") from None


def score_to_piece(score: Any, frames: int) -> np.ndarray:
    """A `symusic.Score` as a piece [T, 88], without drums. Raises ValueError if it has more than
    `MAX_FRAMES`.
    """
    notes = [note for track in score.tracks if not track.is_drum for note in track.notes]
    step = score.tpq / frames
    count = math.ceil(max(note.time + note.duration for note in notes) / step)
    if count > MAX_FRAMES:
        raise ValueError(f"{count:,} frames are too many; at most {MAX_FRAMES:,}")
    piece = np.zeros((max(1, count), NUM_KEYS), bool)
    for note in notes:
        if LOWEST_PITCH <= note.pitch < LOWEST_PITCH + NUM_KEYS:
            begin = round(note.time / step)
            end = max(begin + 1, round((note.time + note.duration) / step))
            piece[begin:end, note.pitch - LOWEST_PITCH] = True
    return trim_silence(piece)


def piece_to_score(piece: np.ndarray, frames: int, tempo: float) -> Any:
    """A `symusic.Score` of a piece; `tempo` in quarter notes per minute."""
    import symusic

    score: Any = symusic.Score(TICKS_PER_QUARTER)
    score.tempos.append(symusic.Tempo(0, tempo))
    track: Any = symusic.Track("memorycell", 0, False)
    step = TICKS_PER_QUARTER // frames
    for begin, length, pitch in piece_notes(piece):
        track.notes.append(symusic.Note(begin * step, length * step, pitch, VELOCITY))
    score.tracks.append(track)
    return score


def to_midi(piece: np.ndarray, frames: int, tempo: float) -> bytes:
    """The MIDI file of a piece."""
    data: bytes = piece_to_score(piece, frames, tempo).dumps_midi()
    return data


def to_wav(piece: np.ndarray, frames: int, tempo: float, sample_rate_hz: int = 44100) -> bytes:
    """The WAV file of a piece, 16-bit stereo, synthesised with the SoundFont of pretty_midi. Raises
    `UserError` without it.
    """
    import symusic

    synthesizer = symusic.Synthesizer(str(_sound_font()), sample_rate_hz, 2)
    sound = synthesizer.render(piece_to_score(piece, frames, tempo), True)
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
