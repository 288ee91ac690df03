"""Scores: MusicXML files, by music21, and their engraving as SVG, by verovio."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np

from memorycell.applications.music.pieces import frame_pitches, trim_silence
from memorycell.applications.music.pitches import (
    LOWEST_PITCH,
    MIDDLE_C,
    NUM_KEYS,
    estimate_key,
)
from memorycell.applications.music.score.spelling import (
    ACCIDENTAL_NAMES,
    Spelled,
    signature,
    signature_alter,
    spell,
)
from memorycell.errors import DataError, UserError

MUSICXML_SUFFIXES = (".musicxml", ".mxl", ".xml")
QUARTERS_PER_BAR = 4
NOTE_TYPES = {
    4.0: "whole",
    2.0: "half",
    1.0: "quarter",
    0.5: "eighth",
    0.25: "16th",
    0.125: "32nd",
}
"""Length in quarter notes -> name."""
UPPER_STAFF, LOWER_STAFF = 1, 2

Chord = tuple[int, int, list[int]]
"""First frame, frames, and MIDI pitches; a rest has none."""


def read_musicxml(path: Path, frames: int) -> np.ndarray:
    """A MusicXML file as a piece [T, 88]. Raises `DataError` for a file that cannot be read, and
    `UserError` without music21.
    """
    try:
        from music21 import converter
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: MusicXML needs music21: pip install 'memorycell[musicxml]'"
        ) from None
    # forceSource, since music21 would unpickle a cached copy from a folder that others may write to
    try:
        score = converter.parseFile(path, format="musicxml", forceSource=True, storePickle=False)
    except Exception as error:  # music21 raises exceptions of many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not readable MusicXML ({reason[:80]})") from None
    notes = [
        (float(n.getOffsetInHierarchy(score)), float(n.quarterLength), n.pitches)
        for n in score.flatten().notes
    ]
    if not notes:
        raise DataError(f"{path}: contains no notes")
    end = max(begin + length for begin, length, _ in notes)
    piece = np.zeros((max(1, math.ceil(end * frames)), NUM_KEYS), bool)
    for begin, length, pitches in notes:
        first = round(begin * frames)
        last = max(first + 1, round((begin + length) * frames))
        for pitch in pitches:
            if LOWEST_PITCH <= pitch.midi < LOWEST_PITCH + NUM_KEYS:
                piece[first:last, pitch.midi - LOWEST_PITCH] = True
    return trim_silence(piece)


def to_svg(piece: np.ndarray, frames: int) -> str:
    """The engraved score of a piece."""
    return engrave(to_musicxml(piece, frames))


def engrave(xml: str) -> str:
    """MusicXML as SVG."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(
        {
            "adjustPageHeight": True,
            "scale": 40,
            "pageWidth": 2600,
            "header": "none",
            "footer": "none",
        }
    )
    toolkit.loadData(xml)
    svg: str = toolkit.renderToSVG(1)
    return svg


def to_musicxml(piece: np.ndarray, frames: int) -> str:
    """A piece as MusicXML 4.0: two staves divided at middle C, four quarters per bar, with the
    signature and the spelling of the estimated key. Notes across bar lines, and those of other
    lengths than `NOTE_TYPES`, are tied.
    """
    key = estimate_key(piece)
    bar = QUARTERS_PER_BAR * frames
    split = MIDDLE_C - LOWEST_PITCH
    staves = {
        UPPER_STAFF: _chords(_with_keys(piece, slice(split, NUM_KEYS)), bar),
        LOWER_STAFF: _chords(_with_keys(piece, slice(0, split)), bar),
    }
    bars = []
    for number in range(-(-len(piece) // bar)):
        body = _attributes(frames, signature(key)) if number == 0 else ""
        for staff, chords in staves.items():
            if staff == LOWER_STAFF:
                body += f"<backup><duration>{bar}</duration></backup>"
            in_force = _SignatureAccidentals(signature(key))
            for begin, length, pitches in chords:
                if begin // bar == number:
                    body += _notes_xml(
                        [spell(p, key) for p in pitches], length, frames, staff, in_force
                    )
        bars.append(f"<measure number='{number + 1}'>{body}</measure>")
    return (
        '<?xml version="1.0"?><score-partwise version="4.0"><part-list><score-part'
        ' id="P1"><part-name/></score-part>'
        f"</part-list><part id='P1'>{''.join(bars)}</part></score-partwise>"
    )


def _attributes(frames: int, fifths: int) -> str:
    return (
        f"<attributes><divisions>{frames}</divisions>"
        f"<key><fifths>{fifths}</fifths></key>"
        f"<time><beats>{QUARTERS_PER_BAR}</beats><beat-type>4</beat-type></time>"
        "<staves>2</staves>"
        "<clef number='1'><sign>G</sign><line>2</line></clef>"
        "<clef number='2'><sign>F</sign><line>4</line></clef></attributes>"
    )


def _with_keys(piece: np.ndarray, keys: slice) -> np.ndarray:
    part = np.zeros_like(piece)
    part[:, keys] = piece[:, keys]
    return part


def _chords(part: np.ndarray, bar: int) -> list[Chord]:
    """The chords and rests of a part [T, 88], each within one bar of `bar` frames."""
    padded = np.concatenate([part, np.zeros((-len(part) % bar, NUM_KEYS), bool)])
    changes = np.flatnonzero((padded[1:] != padded[:-1]).any(1)) + 1
    edges = sorted({0, len(padded), *range(0, len(padded), bar), *changes.tolist()})
    return [(a, b - a, frame_pitches(padded[a])) for a, b in itertools.pairwise(edges)]


def _notes_xml(
    pitches: list[Spelled], length: int, frames: int, staff: int, in_force: _SignatureAccidentals
) -> str:
    """The notes of a chord, or a rest, of `length` frames, as tied notes without dots.

    in_force   the accidentals in force since the beginning of the bar; updated
    """
    xml, left = "", length
    while left:
        duration = 1 << (min(left, 4 * frames).bit_length() - 1)  # at most a whole note
        tie = ("<tie type='stop'/>" if left < length else "") + (
            "<tie type='start'/>" if left > duration else ""
        )
        left -= duration
        voice = f"<voice>{staff}</voice><type>{NOTE_TYPES[duration / frames]}</type>"
        if not pitches:
            xml += (
                f"<note><rest/><duration>{duration}</duration>{voice}<staff>{staff}</staff></note>"
            )
        tied = f"<notations>{tie.replace('<tie', '<tied')}</notations>" if tie else ""
        for k, pitch in enumerate(pitches):
            xml += (
                f"<note>{'<chord/>' if k else ''}{_pitch_xml(pitch)}"
                f"<duration>{duration}</duration>{tie}{voice}{_accidental_xml(pitch, in_force)}"
                f"<staff>{staff}</staff>{tied}</note>"
            )
    return xml


def _pitch_xml(spelled: Spelled) -> str:
    alter = f"<alter>{spelled.alter}</alter>" if spelled.alter else ""
    return f"<pitch><step>{spelled.letter}</step>{alter}<octave>{spelled.octave}</octave></pitch>"


class _SignatureAccidentals(dict[tuple[str, int], int]):
    """(letter, octave) -> the accidental in force: at the beginning of a bar, of the signature."""

    def __init__(self, fifths: int) -> None:
        super().__init__()
        self._fifths = fifths

    def __missing__(self, place: tuple[str, int]) -> int:
        return signature_alter(self._fifths, place[0])


def _accidental_xml(spelled: Spelled, in_force: _SignatureAccidentals) -> str:
    """The accidental that a note needs, if any; it is then in force."""
    place = spelled.letter, spelled.octave
    needed = in_force[place] != spelled.alter
    in_force[place] = spelled.alter
    return f"<accidental>{ACCIDENTAL_NAMES[spelled.alter]}</accidental>" if needed else ""
