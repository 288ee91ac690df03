"""MIDI files as scores, and scores as MIDI files, with their time and key signatures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.applications.music.midi import TICKS_PER_QUARTER
from memorycell.applications.music.notes import MAX_SHIFT, VELOCITY
from memorycell.applications.music.pitches import LOWEST_PITCH, NUM_KEYS
from memorycell.applications.music.score.notation import (
    METRE_UNITS,
    TICKS,
    Metre,
    Score,
    TimedNote,
    score_of_parts,
)
from memorycell.applications.music.score.spelling import MODES, key_of_signature, signature
from memorycell.applications.music.score.tonality import key_near_signature
from memorycell.applications.music.smf import (
    DRUM_CHANNEL,
    INDEPENDENT_TRACKS,
    MidiFile,
    Note,
    parse_midi,
)
from memorycell.errors import DataError
from memorycell.reading import MAX_SKIPPED, Losses

GRIDS = (4, 12, 24)
"""Places per quarter note that notes are moved to: the first one that is near enough."""
DEFAULT_METRE = Metre(4, 4)
MAX_QUARTERS = 20_000
NO_METRE = f"without a time signature; read as {DEFAULT_METRE}"
NO_KEY = "without a key signature; the key is estimated"


def read_midi_scores(path: Path, losses: Losses) -> list[Score]:
    """The scores in a MIDI file, without drums: one, or with independent tracks (format 2) one for
    each. A channel of a track is a part. Raises `DataError`.
    """
    try:
        file = parse_midi(path.read_bytes())
        independent = file.format == INDEPENDENT_TRACKS and len(file.tracks) > 1
        pieces = [[track] for track in file.tracks] if independent else [file.tracks]
        return [_score(file, tracks, losses) for tracks in pieces if any(tracks)] or _empty()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _empty() -> list[Score]:
    raise ValueError("contains no notes")


def _score(file: MidiFile, tracks: Sequence[Sequence[Note]], losses: Losses) -> Score:
    metres = {Metre(beats, unit) for _, beats, unit in file.metres}
    if len(metres) > 1:
        raise ValueError("the metre changes")
    if not metres:
        losses.repair(NO_METRE)
    metre = metres.pop() if metres else DEFAULT_METRE
    if metre.beats < 1 or metre.unit not in METRE_UNITS:
        raise ValueError(f"the time signature {metre}")
    parts: dict[tuple[int, int], list[Note]] = {}
    for number, track in enumerate(tracks):
        for note in track:
            if note.channel != DRUM_CHANNEL and 0 <= note.pitch - LOWEST_PITCH < NUM_KEYS:
                parts.setdefault((number, note.channel), []).append(note)
    if not parts:
        _empty()
    on_grid = _moved_to_grid(list(parts.values()), file.ticks)
    notes = [note for part in on_grid for note in part]
    if file.signatures:
        _, fifths, minor = file.signatures[0]
        key = key_of_signature(fifths, MODES[minor])
    else:
        losses.repair(NO_KEY)
        key = key_near_signature(notes, None)
    first = min(note.begin for note in notes)
    whole_bars = first // metre.bar * metre.bar
    rest = first - whole_bars
    shifted = [
        [n._replace(begin=n.begin - first, end=n.end - first) for n in part] for part in on_grid
    ]
    return score_of_parts(shifted, metre, key, metre.bar - rest if rest else 0)


def _moved_to_grid(parts: Sequence[Sequence[Note]], ticks: int) -> list[list[TimedNote]]:
    times = np.array([(n.begin, n.end) for part in parts for n in part]) / ticks
    if times.max() > MAX_QUARTERS:
        raise ValueError(f"{times.max():,.0f} quarter notes are too many; at most {MAX_QUARTERS:,}")
    grid = next((g for g in GRIDS if _share_moved(times[:, 0], g) <= MAX_SKIPPED), GRIDS[-1])
    step = TICKS // grid

    def place(time: int) -> int:
        return round(time / ticks * grid) * step

    return [
        [TimedNote(place(n.begin), max(place(n.end), place(n.begin) + step), n.pitch) for n in part]
        for part in parts
    ]


def _share_moved(quarters: np.ndarray, grid: int) -> float:
    return float((np.abs(np.rint(quarters * grid) / grid - quarters) > MAX_SHIFT).mean())


def to_symusic(score: Score, tempo: float) -> Any:
    """A `symusic.Score`: a track per voice, the time and key signatures, and `tempo` in quarter
    notes per minute. A pickup follows a rest that completes its bar.
    """
    import symusic

    written: Any = symusic.Score(TICKS_PER_QUARTER)
    scale = TICKS_PER_QUARTER // TICKS
    rest = (score.metre.bar - score.pickup) % score.metre.bar if score.pickup else 0
    written.tempos.append(symusic.Tempo(0, tempo))
    written.time_signatures.append(symusic.TimeSignature(0, *score.metre))
    minor = score.key[1] == "minor"
    written.key_signatures.append(symusic.KeySignature(0, signature(score.key), int(minor)))
    for number, voice in enumerate(score.voices, 1):
        track: Any = symusic.Track(f"voice {number}", 0, False)
        now = rest
        for note in voice:
            if note.pitch is not None:
                track.notes.append(
                    symusic.Note(now * scale, note.length * scale, note.pitch, VELOCITY)
                )
            now += note.length
        written.tracks.append(track)
    return written
