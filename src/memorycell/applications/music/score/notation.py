"""Scores: voices of notes with lengths, in a metre and a key. Time is counted in ticks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memorycell.applications.music.pitches import Key
from memorycell.errors import quote

TICKS = 24
"""Per quarter note: 32nds are 3 ticks, triplets of eighths 8."""
WHOLE_TICKS = 4 * TICKS
METRE_UNITS = (1, 2, 4, 8, 16, 32)
MAX_BEATS_PER_BAR = 32
MAX_VOICES = 8


class Metre(NamedTuple):
    """A time signature: beats per bar, and the note that is a beat, as a part of a whole note."""

    beats: int
    unit: int

    @property
    def bar(self) -> int:
        """Ticks of a bar."""
        return self.beats * WHOLE_TICKS // self.unit

    @property
    def beat(self) -> int:
        """Ticks of what is felt as a beat: three units in a compound metre, such as 6/8."""
        compound = self.unit >= 8 and self.beats > 3 and self.beats % 3 == 0
        return WHOLE_TICKS // self.unit * (3 if compound else 1)

    def __str__(self) -> str:
        return f"{self.beats}/{self.unit}"


def parse_metre(text: str) -> Metre:
    """The metre of "3/4". Raises ValueError."""
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text.strip()[:8])
    metre = Metre(int(match[1]), int(match[2])) if match else Metre(0, 1)
    if not 1 <= metre.beats <= MAX_BEATS_PER_BAR or metre.unit not in METRE_UNITS:
        raise ValueError(f"metre={quote(text)}: expected a metre such as 4/4, 3/4 or 6/8")
    return metre


class ScoreNote(NamedTuple):
    """A note or a rest.

    pitch        MIDI pitch; None: a rest
    length       ticks
    phrase_end   a phrase ends with it (a fermata in chorales, the end of a line in songs)
    """

    pitch: int | None
    length: int
    phrase_end: bool = False


Voice = tuple[ScoreNote, ...]


@dataclass(frozen=True)
class Score:
    """A piece.

    pickup   ticks before the first bar line; 0: it begins with a complete bar
    voices   the highest first; all of the same length
    """

    metre: Metre
    key: Key
    pickup: int
    voices: tuple[Voice, ...]

    @property
    def length(self) -> int:
        """In ticks."""
        return sum(note.length for note in self.voices[0])

    @property
    def bars(self) -> int:
        """Bars begun after the pickup; a last bar that the pickup completes counts as one."""
        return max(1, -(-(self.length - self.pickup) // self.metre.bar))

    def melody(self) -> str:
        """The pitches of the highest voice, relative to the tonic: copies and transpositions of a
        piece share it, as do pieces on the same melody in the same rhythmless form.
        """
        pitches = [note.pitch for note in self.voices[0] if note.pitch is not None]
        return " ".join(str(pitch - self.key[0]) for pitch in pitches)


class TimedNote(NamedTuple):
    """A note of a part before it is put in a voice; times in ticks."""

    begin: int
    end: int
    pitch: int
    phrase_end: bool = False


def split_voices(notes: Sequence[TimedNote]) -> list[list[TimedNote]]:
    """The notes of a part as voices in which no two sound together, the highest first.

    At each onset the notes go, from the highest, to the free voice with the nearest last pitch that
    keeps their order. A note that overlaps the next one by less than half its length is shortened,
    since players hold keys a little too long.
    """
    onsets: dict[int, list[TimedNote]] = {}
    for note in sorted(set(notes), key=lambda note: (note.begin, -note.pitch)):
        onsets.setdefault(note.begin, []).append(note)
    voices: list[list[TimedNote]] = []
    for begin, chord in onsets.items():
        for voice in voices:
            last = voice[-1]
            if begin < last.end and 2 * (last.end - begin) < last.end - last.begin:
                voice[-1] = last._replace(end=begin)
        for note in chord:
            free = [voice for voice in voices if voice[-1].end <= begin]
            if free:
                min(free, key=lambda voice: abs(voice[-1].pitch - note.pitch)).append(note)
            else:
                voices.append([note])
    return sorted(voices, key=lambda voice: -sum(note.pitch for note in voice) / len(voice))


def fill_rests(notes: Sequence[TimedNote], end: int) -> Voice:
    """A voice from tick 0 to `end`, with rests where no note sounds."""
    voice: list[ScoreNote] = []
    now = 0
    for note in notes:
        if note.begin > now:
            voice.append(ScoreNote(None, note.begin - now))
        voice.append(ScoreNote(note.pitch, note.end - note.begin, note.phrase_end))
        now = note.end
    if now < end:
        voice.append(ScoreNote(None, end - now))
    return tuple(voice)


def score_of_parts(
    parts: Sequence[Sequence[TimedNote]], metre: Metre, key: Key, pickup: int
) -> Score:
    """A score of parts, each split into voices. Raises ValueError without notes, and where more
    than `MAX_VOICES` voices sound together.
    """
    voices = [voice for part in parts if part for voice in split_voices(part)]
    if not voices:
        raise ValueError("contains no notes")
    if len(voices) > MAX_VOICES:
        raise ValueError(f"{len(voices)} voices at once; at most {MAX_VOICES}")
    end = max(note.end for voice in voices for note in voice)
    return Score(metre, key, pickup % metre.bar, tuple(fill_rests(v, end) for v in voices))
