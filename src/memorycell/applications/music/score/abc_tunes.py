"""Tunes in ABC notation (standard 2.1, 2011): one voice, as folk song collections use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from memorycell.applications.music.pitches import Key
from memorycell.applications.music.score.notation import (
    WHOLE_TICKS,
    Metre,
    Score,
    ScoreNote,
    parse_metre,
)
from memorycell.applications.music.score.spelling import LETTER_CLASSES, LETTERS, signature_alter

METRE_NAMES = {"C": "4/4", "C|": "2/2"}
MODE_FIFTHS = {
    "": 0, "maj": 0, "ion": 0, "m": -3, "min": -3, "aeo": -3,
    "mix": -1, "dor": -2, "phr": -4, "lyd": 1, "loc": -5,
}  # fmt: skip
"""Mode -> fifths between the tonic and that of the major key with the same signature."""
ACCIDENTALS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
TUPLET_FACTORS = {2: Fraction(3, 2), 3: Fraction(2, 3), 4: Fraction(3, 4), 6: Fraction(2, 6)}
MAX_LENGTH_DIGITS = 4

_TOKEN = re.compile(
    r"""(?P<note>(?P<acc>\^\^|__|[\^_=])?(?P<letter>[A-Ga-g])(?P<oct>[,']*)|(?P<rest>[zx]))
        (?P<num>\d*)(?P<slash>/*)(?P<den>\d*)(?P<tie>\s*-)?
      | (?P<bar>:?\|[\|\]:]*\d?|::|\[\d)
      | (?P<tuplet>\((\d)(?::\d*){0,2})
      | (?P<broken>[<>]+)
      | (?P<field>\[[A-Za-z]:[^\]]*\])
      | (?P<skip>"[^"]*"|![^!]*!|\+[^+]*\+|\{[^}]*\}|[()~.\s\\`uvTHLMPSO$*])
    """,
    re.VERBOSE,
)


class UnreadableTune(ValueError):
    """A tune with what a melody cannot hold."""


def abc_tunes(text: str) -> Iterator[Score | UnreadableTune]:
    """The tunes of an ABC file; those that cannot be read as their reasons."""
    for block in re.split(r"(?m)^(?=X:)", text):
        if block.startswith("X:"):
            try:
                yield _tune(block)
            except UnreadableTune as error:
                yield error
            except (ValueError, ZeroDivisionError) as error:
                yield UnreadableTune(str(error))


def _tune(block: str) -> Score:
    fields: dict[str, str] = {}
    lines: list[str] = []
    for line in block.splitlines():
        line = line.split("%")[0].rstrip()
        match = re.match(r"([A-Za-z]):(.*)", line)
        if match and not line.startswith("|:"):
            if lines and match[1] in "MLKV":
                raise UnreadableTune(f"the field {match[1]}: changes in the tune")
            fields.setdefault(match[1], match[2].strip())
        elif line.strip() and "K" in fields:
            lines.append(line)
        elif lines and not line.strip():
            break
    metre_text = fields.get("M", "")
    if not re.fullmatch(r"C\|?|\d+/\d+", metre_text):
        raise UnreadableTune("no single metre")
    metre = parse_metre(METRE_NAMES.get(metre_text, metre_text))
    short = Fraction(metre.beats, metre.unit) < Fraction(3, 4)
    usual = Fraction(1, 16) if short else Fraction(1, 8)
    unit = Fraction(fields["L"]) if fields.get("L") else usual
    tonic_fifths, signature = _key_fifths(fields.get("K", "C"))
    reader = _Reader(unit * WHOLE_TICKS, signature)
    for line in lines:
        reader.read_line(line)
    return reader.score(metre, 7 * tonic_fifths % 12)


def _key_fifths(text: str) -> tuple[int, int]:
    """(the tonic's place on the line of fifths, sharps of the signature) of "Gm" or "D dor"."""
    match = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", text)
    if not match:
        raise UnreadableTune("no key")
    tonic = LETTERS.index(match[1]) - 1 + {"#": 7, "b": -7, "": 0}[match[2]]
    mode = match[3].lower()[:3]
    mode = "m" if mode == "m" else mode
    if mode not in MODE_FIFTHS:
        mode = ""
    return tonic, tonic + MODE_FIFTHS[mode]


@dataclass
class _Reader:
    """Reads the music of a tune.

    unit        ticks of a note without a length
    signature   sharps, or flats below zero
    """

    unit: Fraction
    signature: int
    notes: list[ScoreNote] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)
    """Ticks before each bar line."""
    _now: int = 0
    _accidentals: dict[tuple[str, int], int] = field(default_factory=dict)
    _tied: bool = False
    _factor: Fraction = Fraction(1)
    _in_tuplet: int = 0
    _broken: int = 0

    def read_line(self, line: str) -> None:
        """A line is a phrase: its last note ends one."""
        at, count = 0, len(self.notes)
        while at < len(line):
            match = _TOKEN.match(line, at)
            if match is None:
                raise UnreadableTune(f"{line[at]!r} in a tune of one voice")
            at = match.end()
            if match["note"]:
                self._note(match)
            elif match["bar"]:
                self._accidentals.clear()
                self.bars.append(self._now)
            elif match["tuplet"]:
                self._in_tuplet = int(match["tuplet"][1])
                if self._in_tuplet not in TUPLET_FACTORS or ":" in match["tuplet"]:
                    raise UnreadableTune("a tuplet of an unusual kind")
                self._factor = TUPLET_FACTORS[self._in_tuplet]
            elif match["broken"]:
                self._break(match["broken"])
            elif match["field"]:
                raise UnreadableTune("a field inside the music")
        last = next((k for k in range(len(self.notes) - 1, count - 1, -1) if self._sounds(k)), None)
        if last is not None:
            self.notes[last] = self.notes[last]._replace(phrase_end=True)

    def _sounds(self, k: int) -> bool:
        return self.notes[k].pitch is not None

    def _note(self, match: re.Match[str]) -> None:
        numbers = match["num"] + match["den"]
        if len(match["num"]) > MAX_LENGTH_DIGITS or len(match["den"]) > MAX_LENGTH_DIGITS:
            raise UnreadableTune(f"the length {numbers[:12]}")
        halves = 2 ** len(match["slash"]) if match["slash"] and not match["den"] else 1
        length = Fraction(int(match["num"] or 1), int(match["den"] or halves)) * self.unit
        if self._in_tuplet:
            length *= self._factor
            self._in_tuplet -= 1
        if self._broken:
            length *= (
                2 - Fraction(1, 2**self._broken)
                if self._broken > 0
                else Fraction(1, 2**-self._broken)
            )
            self._broken = 0
        pitch = None if match["rest"] else self._pitch(match)
        ticks = self._whole(length)
        if self._tied and self.notes and self.notes[-1].pitch == pitch:
            self.notes[-1] = self.notes[-1]._replace(length=self.notes[-1].length + ticks)
        else:
            self.notes.append(ScoreNote(pitch, ticks))
        self._now += ticks
        self._tied = bool(match["tie"])

    def _break(self, signs: str) -> None:
        """Dotted rhythm: a>b lengthens a by half of its length, and shortens b by as much."""
        if not self.notes or set(signs) == {"<", ">"}:
            raise UnreadableTune("a broken rhythm out of place")
        last, count = self.notes[-1], len(signs)
        longer = 2 - Fraction(1, 2**count)
        shorter = Fraction(1, 2**count)
        length = self._whole(last.length * (longer if signs[0] == ">" else shorter))
        self.notes[-1] = last._replace(length=length)
        self._now += length - last.length
        self._broken = count if signs[0] == "<" else -count

    def _pitch(self, match: re.Match[str]) -> int:
        letter = match["letter"].upper()
        octave = 4 + (match["letter"].islower()) + match["oct"].count("'") - match["oct"].count(",")
        place = (letter, octave)
        if match["acc"]:
            self._accidentals[place] = ACCIDENTALS[match["acc"]]
        usual = signature_alter(self.signature, letter)
        return LETTER_CLASSES[letter] + self._accidentals.get(place, usual) + 12 * (octave + 1)

    def _whole(self, length: Fraction) -> int:
        if length.denominator != 1 or length < 1:
            raise UnreadableTune("a note of a length that is no multiple of 1/24 of a quarter note")
        return int(length)

    def score(self, metre: Metre, tonic: int) -> Score:
        """The tune; the first bar line gives the pickup. Minor where its thirds are mostly so."""
        while self.notes and not self._sounds(0):  # rests before it begins
            self.bars = [bar - self.notes[0].length for bar in self.bars]
            self.notes.pop(0)
        if not self.notes or not any(self._sounds(k) for k in range(len(self.notes))):
            raise UnreadableTune("contains no notes")
        first = next((bar for bar in self.bars if bar > 0), 0)
        pickup = first % metre.bar
        off_beat = any((bar - pickup) % metre.beat for bar in self.bars if bar > 0)
        if first > metre.bar or off_beat:
            raise UnreadableTune("bars that do not fit the metre")
        key: Key = (tonic, self._mode(tonic))
        return Score(metre, key, pickup, (tuple(self.notes),))

    def _mode(self, tonic: int) -> str:
        lengths = [0] * 12
        for note in self.notes:
            if note.pitch is not None:
                lengths[(note.pitch - tonic) % 12] += note.length
        return "minor" if lengths[3] > lengths[4] else "major"
