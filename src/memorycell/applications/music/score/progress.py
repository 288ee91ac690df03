"""The place in a piece while its notes are added, and what a model reads of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from memorycell.applications.music.pitches import Key
from memorycell.applications.music.score.notation import (
    TICKS,
    WHOLE_TICKS,
    Metre,
    Score,
    ScoreNote,
)
from memorycell.applications.music.score.spelling import MODES

if TYPE_CHECKING:
    from memorycell.applications.music.score.codec import ScoreCodec

OTHER_ID, REST_ID, FIRST_PITCH_ID = 0, 1, 2
"""Ids of pitches: one outside the range in training (or none yet), a rest, the lowest pitch."""
OTHER_LENGTH_ID = 0
MAX_LENGTH = 64 * WHOLE_TICKS

MAX_BEATS = 16
MAX_PHRASE_QUARTERS = 18
MAX_BARS_LEFT, MAX_EIGHTHS_LEFT = 8, 16
HYPERMETRE = 4
"""Bars that tend to form a unit."""
PERFECT_INTERVALS = (0, 5, 7)
"""Semitones between two voices, either of them the higher: octave, fifth, and fifth below."""
REMAINING_EDGES = (0, TICKS // 2, TICKS, 2 * TICKS)
"""Classes of how long another voice still sounds, in ticks: up to each of these, or longer."""


class Header(NamedTuple):
    """What is known of a piece before its notes; length and pickup in ticks."""

    metre: Metre
    key: Key
    pickup: int
    length: int


def header_of(score: Score) -> Header:
    """The header of a score."""
    return Header(score.metre, score.key, score.pickup, score.length)


@dataclass(frozen=True)
class ProgressState:
    """What `Progress` remembers of the notes: of each voice when its last note began and ends, in
    ticks, the ids of its last two pitches and of its last length; and where the phrase began.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    last: tuple[int, ...]
    before: tuple[int, ...]
    length: tuple[int, ...]
    phrase_begin: int

    def to_json(self) -> dict[str, Any]:
        """The values of a snapshot."""
        return asdict(self)


class Progress:
    """The place in a piece while its notes are added. The next note belongs to the voice whose last
    one ends first, of several the highest: neither time nor voice needs an event of its own.
    """

    def __init__(self, codec: ScoreCodec, header: Header) -> None:
        self.codec, self.header = codec, header
        voices = codec.voices
        self._starts, self._ends = [0] * voices, [0] * voices
        self._last = [OTHER_ID] * voices
        self._before = [OTHER_ID] * voices
        self._length = [OTHER_LENGTH_ID] * voices
        self._phrase_begin = 0
        self._metre_id = codec.metres.index(str(header.metre))
        self._mode_id = MODES.index(header.key[1])

    @property
    def now(self) -> int:
        """Ticks before the next note."""
        return min(self._ends)

    @property
    def done(self) -> bool:
        """Whether all voices have reached the end."""
        return self.now >= self.header.length

    @property
    def voice(self) -> int:
        """Of the next note; 0 is the highest."""
        return self._ends.index(self.now)

    @property
    def left(self) -> int:
        """Ticks to the end of the piece."""
        return self.header.length - self.now

    def blocks(self) -> list[int]:
        """The active index of each block of the next note's input, -1 for none. It is made of what
        came before: the voice, the metre, the mode, the tonic, the place in the bar, in the phrase
        and in the piece, the last pitch of every voice and how long it still sounds, the pitch
        before the last and the last length of its own voice, and the pitches that would move in
        parallel fifths or octaves with voices that have just moved.
        """
        header, now, voice = self.header, self.now, self.voice
        metre = header.metre
        bar, in_bar = divmod(now - header.pickup, metre.bar)
        quarters = (now - self._phrase_begin) // TICKS + 1  # 0: a phrase ends in another voice
        return [
            voice,
            self._metre_id,
            self._mode_id,
            header.key[0],
            min(in_bar // metre.beat, MAX_BEATS - 1),
            in_bar % TICKS,
            min(max(quarters, 0), MAX_PHRASE_QUARTERS - 1),
            min(self.left // metre.bar, MAX_BARS_LEFT),
            min(self.left // (TICKS // 2), MAX_EIGHTHS_LEFT),
            bar % HYPERMETRE,
            *self._last,
            *(_remaining_class(end - now) for end in self._ends),
            self._before[voice],
            self._length[voice],
            *self.parallels(),
        ]

    def parallels(self) -> list[int]:
        """[V]: the id of the pitch that would move in parallel with each voice; -1: none."""
        return [self._parallel_to(other) for other in range(self.codec.voices)]

    def _parallel_to(self, other: int) -> int:
        """The id of the pitch that the next note's voice would reach by moving as another voice
        just has, where the two were a fifth or an octave apart; -1: none.
        """
        own, before, last = self._last[self.voice], self._before[other], self._last[other]
        moved = self._starts[other] == self.now and self._ends[other] > self.now and before != last
        if not moved or min(own, before, last) < FIRST_PITCH_ID:
            return -1
        reached = own + last - before
        perfect = (before - own) % 12 in PERFECT_INTERVALS
        return reached if perfect and FIRST_PITCH_ID <= reached < self.codec.num_pitches else -1

    def add(self, note: ScoreNote) -> tuple[int, int]:
        """Add the next note; its ids of pitch and length."""
        voice = self.voice
        pitch_id = self.codec.pitch_id(note.pitch, self.header.key[0])
        length_id = self.codec.length_id(note)
        self._before[voice], self._last[voice] = self._last[voice], pitch_id
        self._length[voice] = length_id
        self._starts[voice] = self._ends[voice]
        self._ends[voice] += note.length
        if note.phrase_end:
            self._phrase_begin = max(self._phrase_begin, self._ends[voice])
        return pitch_id, length_id

    def saved(self) -> ProgressState:
        """For `restored`."""
        return ProgressState(
            tuple(self._starts),
            tuple(self._ends),
            tuple(self._last),
            tuple(self._before),
            tuple(self._length),
            self._phrase_begin,
        )

    def fork(self) -> Progress:
        """An independent copy."""
        return Progress.restored(self.codec, self.header, self.saved())

    @classmethod
    def restored(cls, codec: ScoreCodec, header: Header, saved: ProgressState) -> Progress:
        """From what was saved. Raises ValueError for values that no piece has."""
        times = range(header.length + MAX_LENGTH)
        pitches, lengths = range(codec.num_pitches), range(codec.num_lengths)
        for values, allowed in (
            (saved.starts, times),
            (saved.ends, times),
            (saved.last, pitches),
            (saved.before, pitches),
            (saved.length, lengths),
        ):
            if len(values) != codec.voices or any(value not in allowed for value in values):
                raise ValueError("not the progress of a piece")
        if saved.phrase_begin not in times:
            raise ValueError("not the progress of a piece")
        progress = cls(codec, header)
        progress._starts, progress._ends = list(saved.starts), list(saved.ends)
        progress._last, progress._before = list(saved.last), list(saved.before)
        progress._length, progress._phrase_begin = list(saved.length), saved.phrase_begin
        return progress


def note_begins(codec: ScoreCodec, score: Score) -> Iterator[tuple[int, int | None]]:
    """(ticks, MIDI pitch or None for a rest) of every note, in the order of the model."""
    progress = Progress(codec, header_of(score))
    queues = [iter(voice) for voice in score.voices]
    while not progress.done:
        note = next(queues[progress.voice])
        yield progress.now, note.pitch
        progress.add(note)


def _remaining_class(ticks: int) -> int:
    return sum(ticks > edge for edge in REMAINING_EDGES)
