"""Scores as MusicXML 4.0, with key and time signatures, ties, dots and spelling by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from memorycell.applications.music.pitches import MIDDLE_C
from memorycell.applications.music.score.notation import TICKS, Score, ScoreNote, Voice
from memorycell.applications.music.score.spelling import (
    ACCIDENTAL_NAMES,
    Spelled,
    signature,
    signature_alter,
    spell,
)

VALUES = {
    8 * TICKS: ("breve", 0),
    6 * TICKS: ("whole", 1),
    4 * TICKS: ("whole", 0),
    3 * TICKS: ("half", 1),
    2 * TICKS: ("half", 0),
    36: ("quarter", 1),
    24: ("quarter", 0),
    18: ("eighth", 1),
    12: ("eighth", 0),
    9: ("16th", 1),
    6: ("16th", 0),
    3: ("32nd", 0),
}
"""Ticks -> (note type, dots)."""
TRIPLET_VALUES = {32: "half", 16: "quarter", 8: "eighth", 4: "16th", 2: "32nd", 1: "64th"}
"""Ticks -> note type, three in the time of two."""
TIES = {"start": "<tie type='start'/>", "stop": "<tie type='stop'/>"}
TRIPLET = (
    "<time-modification><actual-notes>3</actual-notes><normal-notes>2</normal-notes>"
    "</time-modification>"
)
BEAMED_BAR = 36
"""Ticks of a bar whose notes share a beam at most."""
CLEFS = {"treble": ("G", 2), "bass": ("F", 4)}


class _Piece(NamedTuple):
    """A part of a note inside a bar.

    begin        ticks from the bar line; of a pickup, from where the bar line would be
    ticks        its length
    from_tie     it continues a note, which it is tied to
    to_tie       the note is continued by the next one
    """

    note: ScoreNote
    begin: int
    ticks: int
    from_tie: bool
    to_tie: bool


_Place = tuple[int, int]
"""A voice, and the index of a piece in its bar."""


def score_to_musicxml(score: Score) -> str:
    """A score as MusicXML: one staff for one voice, otherwise two. Notes across bar lines, and
    those of lengths without a note value, are tied.
    """
    staves = _staves(score)
    voices = [_bars(voice, score) for voice in score.voices]
    xml = []
    for number in range(len(voices[0])):
        bar = [own[number] for own in voices]
        accidentals = _accidentals(bar, staves, score)
        parts = []
        for k, own in enumerate(bar):
            beams = _beams(own, score)
            fermatas = k in (0, staves.index(max(staves))) and len(bar) > 1
            notes = [
                _note_xml(piece, score, (k + 1, staves[k]), accidentals[k, n], beams[n], fermatas)
                for n, piece in enumerate(own)
            ]
            parts.append("".join(notes))
        length = sum(piece.ticks for piece in bar[0])
        backup = f"<backup><duration>{length}</duration></backup>"
        implicit = " implicit='yes'" if number == 0 and score.pickup else ""
        end = "<barline location='right'><bar-style>light-heavy</bar-style></barline>"
        xml.append(
            f"<measure number='{number + (0 if score.pickup else 1)}'{implicit}>"
            f"{_attributes(score, staves) if number == 0 else ''}{backup.join(parts)}"
            f"{end if number == len(voices[0]) - 1 else ''}</measure>"
        )
    return (
        '<?xml version="1.0"?><score-partwise version="4.0"><part-list><score-part id="P1">'
        f"<part-name/></score-part></part-list><part id='P1'>{''.join(xml)}</part>"
        "</score-partwise>"
    )


def _staves(score: Score) -> list[int]:
    """The staff of each voice: 1, or 2 for the lower half of several voices."""
    voices = len(score.voices)
    return [1 if k < (voices + 1) // 2 else 2 for k in range(voices)]


def _attributes(score: Score, staves: list[int]) -> str:
    beats, unit = score.metre
    clefs = []
    for staff in sorted(set(staves)):
        pitches = [
            note.pitch
            for k, voice in enumerate(score.voices)
            for note in voice
            if staves[k] == staff and note.pitch is not None
        ]
        mean = sum(pitches) / len(pitches) if pitches else MIDDLE_C
        sign, line = CLEFS["treble" if mean >= MIDDLE_C - 1 else "bass"]
        clefs.append(f"<clef number='{staff}'><sign>{sign}</sign><line>{line}</line></clef>")
    return (
        f"<attributes><divisions>{TICKS}</divisions>"
        f"<key><fifths>{signature(score.key)}</fifths><mode>{score.key[1]}</mode></key>"
        f"<time><beats>{beats}</beats><beat-type>{unit}</beat-type></time>"
        f"<staves>{max(staves)}</staves>{''.join(clefs)}</attributes>"
    )


def _bars(voice: Voice, score: Score) -> list[list[_Piece]]:
    """The notes of a voice by bar; a pickup is a bar of its own."""
    bar = score.metre.bar
    bars: list[list[_Piece]] = [[]]
    now = bar - score.pickup if score.pickup else 0
    for note in voice:
        left = note.length
        while left:
            if now == bar:
                bars.append([])
                now = 0
            ticks = _value(min(left, bar - now))
            tied = note.pitch is not None
            more = left > ticks
            bars[-1].append(_Piece(note, now, ticks, tied and left < note.length, tied and more))
            left -= ticks
            now += ticks
    return bars


def _accidentals(
    bar: Sequence[Sequence[_Piece]], staves: Sequence[int], score: Score
) -> dict[_Place, int | None]:
    """The accidental that each note of a bar needs, in semitones; None: none. One is in force on
    its line of the staff, for all voices, until the bar ends.
    """
    fifths = signature(score.key)
    in_force: dict[tuple[int, str, int], int] = {}
    needed: dict[_Place, int | None] = {}
    in_time = sorted(
        (piece.begin, k, n) for k, own in enumerate(bar) for n, piece in enumerate(own)
    )
    for _, k, n in in_time:
        piece = bar[k][n]
        needed[k, n] = None
        if piece.note.pitch is None or piece.from_tie:
            continue
        letter, alter, octave = spell(piece.note.pitch, score.key)
        line = staves[k], letter, octave
        if in_force.get(line, signature_alter(fifths, letter)) != alter:
            needed[k, n] = alter
        in_force[line] = alter
    return needed


def _beams(bar: Sequence[_Piece], score: Score) -> list[str]:
    """The beams of the pieces of a voice in a bar: within a beat, and within a bar of 3/8."""
    metre = score.metre
    group = metre.bar if metre.bar <= BEAMED_BAR else max(metre.beat, TICKS)
    runs: list[list[int]] = []
    for n, piece in enumerate(bar):
        flagged = piece.note.pitch is not None and piece.ticks < TICKS
        last = runs[-1][-1] if runs else -2
        same = last == n - 1 and bar[last].begin // group == piece.begin // group
        if flagged and same:
            runs[-1].append(n)
        elif flagged:
            runs.append([n])
    beams = [""] * len(bar)
    for run in runs:
        for n in run if len(run) > 1 else []:
            beams[n] = "".join(
                f"<beam number='{level}'>{_beam(run, n, bar, level)}</beam>"
                for level in (1, 2, 3)
                if _flags(bar[n].ticks) >= level
            )
    return beams


def _flags(ticks: int) -> int:
    """How many flags a note has: eighths one, sixteenths two."""
    return sum(ticks < edge for edge in (TICKS, TICKS // 2, TICKS // 4))


def _beam(run: Sequence[int], n: int, bar: Sequence[_Piece], level: int) -> str:
    before = n > run[0] and _flags(bar[n - 1].ticks) >= level
    after = n < run[-1] and _flags(bar[n + 1].ticks) >= level
    if before and after:
        return "continue"
    if before or after:
        return "end" if before else "begin"
    return "backward hook" if n > run[0] else "forward hook"


def _value(ticks: int) -> int:
    """The longest note value in `ticks`; triplets only as a whole or as a remainder."""
    if ticks in VALUES or ticks in TRIPLET_VALUES:
        return ticks
    values = [value for value in VALUES if value <= ticks]
    return max(values) if values else max(v for v in TRIPLET_VALUES if v <= ticks)


def _note_xml(
    piece: _Piece,
    score: Score,
    voice_and_staff: tuple[int, int],
    accidental: int | None,
    beams: str,
    fermatas: bool,
) -> str:
    note = piece.note
    voice, staff = voice_and_staff
    pitch = "<rest/>" if note.pitch is None else _pitch_xml(spell(note.pitch, score.key))
    sign = "" if accidental is None else f"<accidental>{ACCIDENTAL_NAMES[accidental]}</accidental>"
    ties = [kind for kind, has in (("stop", piece.from_tie), ("start", piece.to_tie)) if has]
    value, dots = VALUES.get(piece.ticks) or (TRIPLET_VALUES[piece.ticks], 0)
    triplet = "" if piece.ticks in VALUES else TRIPLET
    fermata = "<fermata/>" if fermatas and note.phrase_end and not piece.to_tie else ""
    notations = "".join(f"<tied type='{kind}'/>" for kind in ties) + fermata
    return (
        f"<note>{pitch}<duration>{piece.ticks}</duration>"
        f"{''.join(TIES[kind] for kind in ties)}"
        f"<voice>{voice}</voice><type>{value}</type>{'<dot/>' * dots}{sign}{triplet}"
        f"<staff>{staff}</staff>{beams}"
        f"{f'<notations>{notations}</notations>' if notations else ''}</note>"
    )


def _pitch_xml(spelled: Spelled) -> str:
    alter = f"<alter>{spelled.alter}</alter>" if spelled.alter else ""
    return f"<pitch><step>{spelled.letter}</step>{alter}<octave>{spelled.octave}</octave></pitch>"
