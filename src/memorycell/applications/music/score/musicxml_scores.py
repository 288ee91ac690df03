"""MusicXML files as scores; what a score holds is read without music21, which needs seconds for a
piece.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from memorycell.applications.music.pitches import Key
from memorycell.applications.music.score.notation import (
    TICKS,
    Metre,
    Score,
    TimedNote,
    parse_metre,
    score_of_parts,
)
from memorycell.applications.music.score.spelling import (
    LETTER_CLASSES,
    MODES,
    key_of_signature,
)
from memorycell.applications.music.score.tonality import key_near_signature
from memorycell.errors import DataError
from memorycell.language.markup import parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_SCORE_BYTES = 64 << 20
VOCAL_PARTS = ("soprano", "alto", "tenor", "bass")
"""Of a piece with instruments as well, these alone are read: they double the voices."""
COMPRESSED_SUFFIX = ".mxl"
MIDI_PITCHES = range(128)


def read_musicxml_score(path: Path) -> Score:
    """The score in a MusicXML file. Raises `DataError`, also for what a score cannot hold."""
    try:
        root = parse_xml(_content(path), str(path))
        return _score(root)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, ArithmeticError) as error:
        raise error if isinstance(error, DataError) else DataError(f"{path}: {error}") from None


def _content(path: Path) -> bytes:
    """The XML in a file, which may be compressed."""
    data = path.read_bytes()
    if path.suffix.lower() != COMPRESSED_SUFFIX and not data.startswith(b"PK\x03\x04"):
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            scores = [
                info
                for info in archive.infolist()
                if info.filename.lower().endswith((".xml", ".musicxml"))
                and not info.filename.startswith("META-INF")
            ]
            if not scores or scores[0].file_size > MAX_SCORE_BYTES:
                raise ValueError("a compressed MusicXML file without a score, or one too large")
            return archive.read(scores[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"a damaged compressed MusicXML file ({error})") from None


@dataclass
class _Part:
    """What is read of a part."""

    notes: list[TimedNote] = field(default_factory=list)
    metres: list[Metre] = field(default_factory=list)
    keys: list[tuple[int, str | None]] = field(default_factory=list)
    first_bar: int = 0
    """Ticks of the first measure."""


def _score(root: Element) -> Score:
    if root.tag != "score-partwise":
        raise ValueError(f"expected MusicXML by parts (score-partwise), got {str(root.tag)[:40]}")
    parts = [_read_part(part) for part in _chosen_parts(root)]
    parts = [part for part in parts if part.notes]
    if not parts:
        raise ValueError("contains no notes")
    metres = {metre for part in parts for metre in part.metres}
    if len(metres) != 1:
        raise ValueError("the metre changes" if metres else "has no time signature")
    metre = metres.pop()
    pickup = parts[0].first_bar if parts[0].first_bar < metre.bar else 0
    notes = [part.notes for part in parts]
    return score_of_parts(notes, metre, _key(parts), pickup)


def _key(parts: list[_Part]) -> Key:
    """By the first signature of the lowest part that has one. Many files say major everywhere, so
    only minor is believed; see `key_near_signature`.
    """
    fifths, mode = next((p.keys[0] for p in reversed(parts) if p.keys), (None, None))
    if fifths is not None and mode == "minor":
        return key_of_signature(fifths, "minor")
    return key_near_signature([note for part in parts for note in part.notes], fifths)


def _chosen_parts(root: Element) -> list[Element]:
    names = {
        part.get("id"): (part.findtext("part-name") or "").strip().lower()
        for part in root.iterfind("part-list/score-part")
    }
    parts = root.findall("part")
    vocal: dict[str, Element] = {}
    for part in parts:
        vocal.setdefault(names.get(part.get("id"), ""), part)
    if all(name in vocal for name in VOCAL_PARTS):
        return [vocal[name] for name in VOCAL_PARTS]
    return parts


def _read_part(element: Element) -> _Part:
    part = _Part()
    ties: dict[int, int] = {}
    """Pitch -> index in `part.notes` of the note that continues."""
    now, divisions = Fraction(0), 1
    for number, measure in enumerate(element.iterfind("measure")):
        begin = end = now
        chord = now
        for item in measure:
            length = Fraction(item.findtext("duration") or 0) / divisions * TICKS
            if item.tag == "attributes":
                divisions = int(item.findtext("divisions") or divisions)
                if divisions < 1:
                    raise ValueError("divisions below 1")
                _read_attributes(item, part)
            elif item.tag == "backup":
                now = max(begin, now - length)
            elif item.tag == "forward":
                now += length
            elif item.tag == "note" and item.find("grace") is None and item.find("cue") is None:
                if item.find("chord") is None:
                    chord, now = now, now + length
                _read_note(item, chord, chord + length, part, ties)
            end = max(end, now)
        now = end
        if number == 0:
            part.first_bar = _whole(end)
    return part


def _read_attributes(item: Element, part: _Part) -> None:
    beats, unit = item.findtext("time/beats"), item.findtext("time/beat-type")
    if beats and unit:
        part.metres.append(parse_metre(f"{beats}/{unit}"))
    if fifths := item.findtext("key/fifths"):
        mode = (item.findtext("key/mode") or "").strip().lower()
        part.keys.append((int(fifths), mode if mode in MODES else None))


def _read_note(
    item: Element, begin: Fraction, end: Fraction, part: _Part, ties: dict[int, int]
) -> None:
    pitch_element = item.find("pitch")
    if pitch_element is None:  # a rest, or percussion
        return
    first, last = _whole(begin), _whole(end)
    if last <= first:
        raise ValueError("a note without a length")
    letter = (pitch_element.findtext("step") or "").strip()
    if letter not in LETTER_CLASSES:
        raise ValueError(f"the note {letter[:8]!r}")
    alter = round(float(pitch_element.findtext("alter") or 0))
    octave = int(pitch_element.findtext("octave") or 0)
    pitch = LETTER_CLASSES[letter] + alter + 12 * (octave + 1)
    if pitch not in MIDI_PITCHES:
        raise ValueError(f"the pitch {pitch}")
    phrase_end = item.find("notations/fermata") is not None
    types = {tie.get("type") for tie in item.iterfind("tie")}
    tied = ties.get(pitch)
    if "stop" in types and tied is not None and part.notes[tied].end == first:
        note = part.notes[tied]
        part.notes[tied] = note._replace(end=last, phrase_end=note.phrase_end or phrase_end)
    else:
        tied = len(part.notes)
        part.notes.append(TimedNote(first, last, pitch, phrase_end))
    if "start" in types:
        ties[pitch] = tied
    else:
        ties.pop(pitch, None)


def _whole(ticks: Fraction) -> int:
    if ticks.denominator != 1:
        raise ValueError(f"a note of a length that is no multiple of 1/{TICKS} of a quarter note")
    return int(ticks)
