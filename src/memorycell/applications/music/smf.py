"""Standard MIDI files (MIDI 1.0, RP-001, 1996): bytes to notes.

A strict reader: bytes that cannot be an event are refused with their place, and what is repaired is
counted. Files that break a rule without ambiguity are read: running status that continues after a
system message, notes that never end, bytes after the end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

DRUM_CHANNEL = 9
"""Channel 10, counted from 1."""
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, CHANNEL_PRESSURE = 0x80, 0x90, 0xB0, 0xC0, 0xD0
SYSEX, SYSEX_CONTINUED, META = 0xF0, 0xF7, 0xFF
SYSTEM_DATA_BYTES = {
    0xF1: 1,
    0xF2: 2,
    0xF3: 1,
    0xF6: 0,
    0xF8: 0,
    0xFA: 0,
    0xFB: 0,
    0xFC: 0,
    0xFE: 0,
}
"""System messages that recorders leave in files -> number of data bytes."""
END_OF_TRACK, SET_TEMPO, TIME_SIGNATURE, KEY_SIGNATURE = 0x2F, 0x51, 0x58, 0x59
MAX_SIGNATURE_FIFTHS, MAX_UNIT_LOG2 = 7, 5
ALL_SOUND_OFF, ALL_NOTES_OFF = 120, 123
MAX_VARINT_BYTES = 4
MAX_FILE_BYTES = 64 << 20
SMPTE_BIT = 0x8000
INDEPENDENT_TRACKS = 2
"""The format whose tracks are pieces of their own."""

RUNNING_STATUS = "running status continued after a system message"
NEVER_ENDED = "without an end, ended with the next note of the key, or with the track"
NO_LENGTH = "of no length, given the shortest one"
EXTRA_BYTES = "bytes after the end of a track were ignored"
EXTRA_TRACKS = "more tracks than the header declares"


class Note(NamedTuple):
    """A note; times in ticks."""

    begin: int
    end: int
    pitch: int
    channel: int


@dataclass
class MidiFile:
    """The content of a file.

    format          0: one track; 1: simultaneous tracks; 2: independent tracks
    ticks           per quarter note
    tracks          the notes of each, in the order of their beginning
    tempos          the tempos set, in microseconds per quarter note
    metres          (ticks, beats per bar, the note that is a beat, as a part of a whole note)
    signatures      (ticks, sharps or flats below zero, whether it is minor)
    repaired        what was repaired -> number of notes
    irregularities  what else was tolerated
    """

    format: int
    ticks: int
    tracks: list[list[Note]] = field(default_factory=list)
    tempos: set[int] = field(default_factory=set)
    metres: list[tuple[int, int, int]] = field(default_factory=list)
    signatures: list[tuple[int, int, bool]] = field(default_factory=list)
    repaired: Counter[str] = field(default_factory=Counter)
    irregularities: set[str] = field(default_factory=set)


def parse_midi(data: bytes) -> MidiFile:
    """The notes in the bytes of a .mid file, or of one in a RIFF container (.rmi).

    Raises ValueError for other bytes, truncated and damaged files, and time divisions without
    ticks per quarter note.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{len(data):,} bytes; at most {MAX_FILE_BYTES:,}")
    data = _without_riff(data)
    if data[:4] != b"MThd":
        raise ValueError("not a MIDI file")
    if len(data) < 14:
        raise ValueError("a truncated MIDI file: its header is incomplete")
    if int.from_bytes(data[4:8], "big") < 6:
        raise ValueError("a damaged MIDI file: its header is too short")
    kind, declared, division = (int.from_bytes(data[k : k + 2], "big") for k in (8, 10, 12))
    if kind > INDEPENDENT_TRACKS:
        raise ValueError(f"MIDI format {kind}; expected 0, 1 or 2")
    if division & SMPTE_BIT:
        raise ValueError(
            "its times are SMPTE frames; save it with a resolution in ticks per quarter note"
        )
    if not division:
        raise ValueError("its resolution is 0 ticks per quarter note, so that times mean nothing")
    file = MidiFile(kind, division)
    for begin, end in _track_chunks(data, file):
        number = len(file.tracks) + 1
        try:
            file.tracks.append(_read_track(data[begin:end], file))
        except IndexError:
            raise ValueError(
                f"a truncated MIDI file: track {number} ends inside an event"
            ) from None
        except _DamagedEvent as error:
            raise ValueError(
                f"a damaged MIDI file: track {number}, byte {begin + error.at}: {error.reason}"
            ) from None
    if len(file.tracks) < max(declared, 1):
        raise ValueError(f"a truncated MIDI file: {len(file.tracks)} of {max(declared, 1)} tracks")
    if len(file.tracks) > declared:
        file.irregularities.add(EXTRA_TRACKS)
    return file


def _without_riff(data: bytes) -> bytes:
    """The MIDI file in a RIFF container of the kind RMID; other bytes unchanged."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise ValueError("a RIFF file without MIDI data")


def _track_chunks(data: bytes, file: MidiFile) -> Iterator[tuple[int, int]]:
    """(begin, end) of the content of each track; chunks of other kinds are skipped, as the
    standard says.
    """
    at = 0
    while at < len(data):
        name = data[at : at + 4]
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if name[:2] == b"MT" and (end > len(data) or len(data) < at + 8):
            raise ValueError("a truncated MIDI file: a track is longer than the file")
        if not (name.isalnum() and name.isascii()) or end > len(data):
            file.irregularities.add(EXTRA_BYTES)
            return
        if name == b"MTrk":
            yield at + 8, end
        at = end


class _DamagedEvent(Exception):
    """An event that cannot be one: its place in the track, and why."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at, self.reason = at, reason


class _TrackNotes:
    """The notes of a track; those of a key end in the order in which they began."""

    def __init__(self) -> None:
        self._begins: list[tuple[int, int, int]] = []  # time, pitch, channel
        self._ends: list[int | None] = []
        self._of_key: dict[tuple[int, int], list[int]] = {}
        self._sounding: dict[tuple[int, int], deque[int]] = {}

    def begin(self, time: int, pitch: int, channel: int) -> None:
        """A key is struck, possibly once more."""
        key, note = (channel, pitch), len(self._begins)
        self._begins.append((time, pitch, channel))
        self._ends.append(None)
        self._of_key.setdefault(key, []).append(note)
        self._sounding.setdefault(key, deque()).append(note)

    def end(self, time: int, pitch: int, channel: int) -> None:
        """A key is released; nothing if it does not sound."""
        if sounding := self._sounding.get((channel, pitch)):
            self._ends[sounding.popleft()] = time

    def end_all(self, time: int, channel: int) -> None:
        """All keys of a channel are released."""
        for (own, _), sounding in self._sounding.items():
            while own == channel and sounding:
                self._ends[sounding.popleft()] = time

    def close(self, time: int, repaired: Counter[str]) -> list[Note]:
        """The notes of the track, which ends at `time`."""
        for key, sounding in self._sounding.items():
            if sounding:
                repaired[NEVER_ENDED] += len(sounding)
                self._end_hanging(self._of_key[key], len(sounding), time)
        notes = []
        for (begin, pitch, channel), end in zip(self._begins, self._ends, strict=True):
            end = time if end is None else end
            repaired[NO_LENGTH] += end <= begin
            notes.append(Note(begin, max(end, begin + 1), pitch, channel))
        return notes

    def _end_hanging(self, notes: list[int], count: int, time: int) -> None:
        """End the last `count` notes of a key, which were never released. A release that came after
        such a note began was taken for an earlier note, and is given back to it.
        """
        for k in range(len(notes) - count, len(notes)):
            begin = self._begins[notes[k]][0]
            earlier = self._ends[notes[k - 1]] if k else None
            if earlier is not None and earlier > begin:
                self._ends[notes[k - 1]], self._ends[notes[k]] = begin, earlier
            else:
                last = k + 1 == len(notes)
                self._ends[notes[k]] = time if last else self._begins[notes[k + 1]][0]


def _read_track(body: bytes, file: MidiFile) -> list[Note]:
    """The notes of a track. Raises `_DamagedEvent`, and IndexError where it ends in an event."""
    at = time = status = 0
    interrupted = False  # a system message came after the status byte
    notes = _TrackNotes()
    while at < len(body):
        delta, at = _varint(body, at)
        time += delta
        byte = body[at]
        if byte >= SYSEX:
            interrupted = True
            at = _skip_system(body, at, time, file)
            if at < 0:  # the end of the track
                if -at < len(body):
                    file.irregularities.add(EXTRA_BYTES)
                break
            continue
        if byte & 0x80:
            status, interrupted, at = byte, False, at + 1
        elif not status:
            raise _DamagedEvent(at, f"0x{byte:02x} where an event begins")
        kind, channel = status & 0xF0, status & 0x0F
        length = 1 if kind in (PROGRAM, CHANNEL_PRESSURE) else 2
        first, second = body[at], body[at + length - 1]
        if (first | second) & 0x80:
            raise _DamagedEvent(at, "a status byte inside an event")
        at += length
        if kind == NOTE_ON and second:
            notes.begin(time, first, channel)
            file.repaired[RUNNING_STATUS] += interrupted
        elif kind in (NOTE_ON, NOTE_OFF):
            notes.end(time, first, channel)
        elif kind == CONTROL and first in (ALL_SOUND_OFF, ALL_NOTES_OFF):
            notes.end_all(time, channel)
    return notes.close(time, file.repaired)


def _skip_system(body: bytes, at: int, time: int, file: MidiFile) -> int:
    """The place after a system message or a meta event; negative after the end of the track."""
    byte = body[at]
    if byte not in (SYSEX, SYSEX_CONTINUED, META):
        if byte not in SYSTEM_DATA_BYTES:
            raise _DamagedEvent(at, f"the undefined status byte 0x{byte:02x}")
        return at + 1 + SYSTEM_DATA_BYTES[byte]
    kind = body[at + 1] if byte == META else None
    length, begin = _varint(body, at + (2 if byte == META else 1))
    end = begin + length
    if end > len(body):
        raise IndexError
    if kind == SET_TEMPO and length == 3:
        file.tempos.add(int.from_bytes(body[begin:end], "big"))
    elif (
        kind == TIME_SIGNATURE and length >= 2 and body[begin] and body[begin + 1] <= MAX_UNIT_LOG2
    ):
        file.metres.append((time, body[begin], 1 << body[begin + 1]))
    elif kind == KEY_SIGNATURE and length == 2:
        fifths = int.from_bytes(body[begin : begin + 1], "big", signed=True)
        if abs(fifths) <= MAX_SIGNATURE_FIFTHS and body[begin + 1] <= 1:
            file.signatures.append((time, fifths, bool(body[begin + 1])))
    return -end if kind == END_OF_TRACK else end


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """(a number of variable length, the place after it)."""
    value = 0
    for k in range(at, at + MAX_VARINT_BYTES):
        byte = body[k]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, k + 1
    raise _DamagedEvent(at, f"a number longer than {MAX_VARINT_BYTES} bytes")
