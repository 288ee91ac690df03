"""Music as frames: which of the piano's 88 keys sound at each moment; from MIDI and JSON, to MIDI,
sound and a score.

A piece is [T, 88] bool, key 0 being A0 (MIDI's 21). A frame is the middle of a `1 / frames` of a
quarter note.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from memorycell.errors import DataError, UserError

LOWEST, KEYS = 21, 88
MOST_FRAMES = 20_000
TICKS = 480
"""A quarter note in what is written."""
FRAMES = (1, 2, 4, 8)
"""Frames that a quarter note may be cut into."""
ACCIDENTALS = {-1: "flat", 0: "natural", 1: "sharp"}
KINDS = {4.0: "whole", 2.0: "half", 1.0: "quarter", 0.5: "eighth", 0.25: "16th", 0.125: "32nd"}
NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
MIDI = (".mid", ".midi", ".kar")
ENDINGS = (*MIDI, ".musicxml", ".mxl", ".xml", ".json")
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
"""How well each tone of the scale fits a key; Krumhansl & Kessler (1982)."""
SCALES = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 10, 11}}


@dataclass(frozen=True)
class MusicCodec:
    """Frames as a model reads them.

    frames   in a quarter note
    voices   keys that sound together at most
    """

    kind: ClassVar[str] = "music"
    frames: int = 1
    voices: int = 4

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"voices": self.voices}

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MusicCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        codec = cls(int(data["frames"]), int(data["voices"]))
        if codec.frames not in FRAMES or not 1 <= codec.voices <= KEYS:
            raise ValueError("not a codec of music")
        return codec


# ---- keys and their names ------------------------------------------------------------------------


def name_of(pitch: int) -> str:
    """Of a MIDI pitch: 60 is C4."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def pitch_of(text: str) -> int:
    """Of a name or a number: "C4", "F#3", "Bb5" or "60". Raises ValueError."""
    text = text.strip()
    if text.lstrip("-").isdigit():
        pitch = int(text)
    else:
        letter, rest = text[:1].upper(), text[1:]
        shift = {"#": 1, "b": -1, "♯": 1, "♭": -1}.get(rest[:1], 0)
        if letter not in "CDEFGAB" or not letter:
            raise ValueError(f"{text!r} is no note, such as C4, F#3 or 60")
        octave = rest[1:] if shift else rest
        if not octave.lstrip("-").isdigit():
            raise ValueError(f"{text!r} is no note, such as C4, F#3 or 60")
        pitch = (
            NAMES.index({"D": "D", "A": "A"}.get(letter, letter)) + shift + 12 * (int(octave) + 1)
        )
    if not LOWEST <= pitch < LOWEST + KEYS:
        raise ValueError(f"{text!r} lies outside the piano, A0 to C8")
    return pitch


def key_of(piece: np.ndarray) -> tuple[int, str]:
    """(tonic as a pitch class, "major" or "minor") that fits a piece [T, 88] best, by Krumhansl &
    Schmuckler's correlation.
    """
    heard = np.zeros(12)
    np.add.at(heard, (np.arange(KEYS) + LOWEST) % 12, piece.sum(0))
    profiles = {"major": MAJOR, "minor": MINOR}
    fits = {
        (tonic, mode): np.corrcoef(np.roll(heard, -tonic), profile)[0, 1] if heard.std() else 0.0
        for mode, profile in profiles.items()
        for tonic in range(12)
    }
    return max(fits, key=lambda key: fits[key])


def in_key(key: tuple[int, str]) -> np.ndarray:
    """[88] bool: the piano's keys that belong to a key."""
    return np.array([(LOWEST + k - key[0]) % 12 in SCALES[key[1]] for k in range(KEYS)])


# ---- reading -------------------------------------------------------------------------------------


def frames_of(pitches: Sequence[Sequence[int]], where: str) -> np.ndarray:
    """Lists of MIDI pitches as a piece [T, 88]. Raises `DataError` for what lies outside the piano."""
    piece = np.zeros((len(pitches), KEYS), bool)
    for t, frame in enumerate(pitches):
        for pitch in frame:
            if not isinstance(pitch, (int, float)) or not LOWEST <= pitch < LOWEST + KEYS:
                raise DataError(
                    f"{where}: frame {t + 1}: {pitch!r} is no key of the piano (MIDI 21 to 108)"
                )
            piece[t, int(pitch) - LOWEST] = True
    return piece


def read_midi(path: Path, frames: int) -> np.ndarray:
    """A MIDI file as a piece [T, 88], drums left out. Raises `DataError` for one that is damaged,
    empty or drums alone.
    """
    score = midi_score(path)
    if not any(track.notes for track in score.tracks if not track.is_drum):
        drums = any(track.notes for track in score.tracks)
        raise DataError(f"{path}: holds {'drums alone' if drums else 'no notes'}")
    try:
        piece = frames_in(score, frames)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if not len(piece):
        raise DataError(f"{path}: holds no notes of the piano")
    return piece


def midi_score(path: Path) -> Any:
    """The `symusic.Score` of a MIDI file. Raises `DataError` for one that is damaged.

    Its chunks (a name, a length, so many bytes) are counted first: the parser reads on past the end
    of a file that is cut.
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
        raise DataError(f"{path}: a MIDI file that is cut short")
    try:
        return symusic.Score.from_midi(data)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable MIDI file ({str(error).split(':')[0][:80]})"
        ) from None


def frames_in(score: Any, frames: int) -> np.ndarray:
    """A `symusic.Score` as a piece [T, 88], drums left out. Raises ValueError for one that is too
    long.
    """
    notes = [note for track in score.tracks if not track.is_drum for note in track.notes]
    step = score.tpq / frames
    ends = max(note.time + note.duration for note in notes)
    count = math.ceil(ends / step)
    if count > MOST_FRAMES:
        raise ValueError(f"{count:,} frames are too many; {MOST_FRAMES:,} at most")
    piece = np.zeros((max(1, count), KEYS), bool)
    for note in notes:
        if LOWEST <= note.pitch < LOWEST + KEYS:
            begin = round(note.time / step)
            piece[
                begin : max(begin + 1, round((note.time + note.duration) / step)),
                note.pitch - LOWEST,
            ] = True
    return trimmed(piece)


def read_musicxml(path: Path, frames: int) -> np.ndarray:
    """A MusicXML file as a piece [T, 88], by music21. Raises `DataError`."""
    from music21 import converter

    # from the source, since music21 would unpickle what it kept of it in a folder that others may
    # write to
    try:
        score = converter.parseFile(path, format="musicxml", forceSource=True, storePickle=False)
    except Exception as error:  # music21 raises what it likes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not readable MusicXML ({reason[:80]})") from None
    notes = [
        (float(n.getOffsetInHierarchy(score)), float(n.quarterLength), n.pitches)
        for n in score.flatten().notes
    ]
    if not notes:
        raise DataError(f"{path}: holds no notes")
    piece = np.zeros((max(1, math.ceil(max(b + d for b, d, _ in notes) * frames)), KEYS), bool)
    for begin, length, pitches in notes:
        first = round(begin * frames)
        for pitch in pitches:
            if LOWEST <= pitch.midi < LOWEST + KEYS:
                piece[
                    first : max(first + 1, round((begin + length) * frames)), pitch.midi - LOWEST
                ] = True
    return trimmed(piece)


def trimmed(piece: np.ndarray) -> np.ndarray:
    """Without silence before and after."""
    sounding = np.flatnonzero(piece.any(1))
    return piece[sounding[0] : sounding[-1] + 1] if len(sounding) else piece[:0]


def read_piece(path: Path, frames: int) -> np.ndarray:
    """A piece of a file: MIDI, MusicXML (.musicxml, .mxl, .xml; needs music21), or JSON, a list of
    lists of MIDI pitches.
    """
    ending = path.suffix.lower()
    if ending in MIDI:
        return read_midi(path, frames)
    if ending in (".musicxml", ".mxl", ".xml"):
        return read_musicxml(path, frames)
    if ending == ".json":
        try:
            return frames_of(json.loads(path.read_text(encoding="utf-8")), str(path))
        except (ValueError, TypeError):
            raise DataError(
                f"{path}: expected a list of frames, each a list of MIDI pitches"
            ) from None
    raise DataError(
        f"{path}: the ending {ending} is none of {', '.join(MIDI)}, .musicxml, .mxl, .json"
    )


def highest(piece: np.ndarray, voices: int) -> np.ndarray:
    """A piece [T, 88] with at most so many keys a frame, the highest."""
    rank = np.cumsum(piece[:, ::-1], 1)[:, ::-1]  # the highest key is the first
    return piece & (rank <= voices)


Pieces = dict[str, list[np.ndarray]]


def read_split(path: Path, where: str) -> Pieces | None:
    """train, valid and test of a JSON file that has them, each a list of pieces; None for another
    file.
    """
    if path.suffix != ".json":
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path}: not JSON") from None
    if not isinstance(held, dict) or not {"train", "valid", "test"} <= set(held):
        return None
    return {
        split: [
            frames_of(piece, f"{where}: {split} {k + 1}") for k, piece in enumerate(held[split])
        ]
        for split in ("train", "valid", "test")
    }


def read_folder(path: Path, frames: int) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """(the pieces with their names, notes) of a folder or a file; what is damaged is left out and
    counted.
    """
    files = (
        sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
        if path.is_dir()
        else [path]
    )
    found, bad = [], []
    for file in files:
        try:
            found.append(
                (
                    str(file.relative_to(path)) if path.is_dir() else file.name,
                    read_piece(file, frames),
                )
            )
        except DataError as error:
            bad.append(str(error))
    if not found:
        raise DataError(
            bad[0]
            if bad
            else f"{path}: no music in this folder ({', '.join(MIDI)}, .musicxml, .json)"
        )
    return found, [f"left out: {len(bad):,} files; the first: {bad[0]}"] if bad else []


# ---- writing -------------------------------------------------------------------------------------


def notes_of(piece: np.ndarray) -> list[tuple[int, int, int]]:
    """(first frame, frames, MIDI pitch) of every note: a key that goes on sounding is one note."""
    found = []
    edges = np.diff(np.pad(piece.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    for key in range(KEYS):
        begins, ends = np.flatnonzero(edges[:, key] == 1), np.flatnonzero(edges[:, key] == -1)
        found += [(int(b), int(e - b), LOWEST + key) for b, e in zip(begins, ends, strict=True)]
    return sorted(found)


def score_of(piece: np.ndarray, frames: int, tempo: float) -> Any:
    """A `symusic.Score` of a piece, a quarter note lasting 60 / tempo seconds."""
    import symusic

    score: Any = symusic.Score(TICKS)
    score.tempos.append(symusic.Tempo(0, tempo))
    track: Any = symusic.Track("memorycell", 0, False)
    step = TICKS // frames
    for begin, length, pitch in notes_of(piece):
        track.notes.append(symusic.Note(begin * step, length * step, pitch, 72))
    score.tracks.append(track)
    return score


def midi(piece: np.ndarray, frames: int, tempo: float) -> bytes:
    """A MIDI file."""
    written: bytes = score_of(piece, frames, tempo).dumps_midi()
    return written


def wav(piece: np.ndarray, frames: int, tempo: float, rate_hz: int = 44100) -> bytes:
    """The sound of a piece, 16-bit stereo, with the SoundFont of an installed package. Raises
    `UserError` without it.
    """
    import io
    import wave

    import symusic

    spec = find_spec("pretty_midi")
    font = (
        next(
            (
                p
                for root in spec.submodule_search_locations or []
                if (p := Path(root, "TimGM6mb.sf2")).exists()
            ),
            None,
        )
        if spec
        else None
    )
    if font is None:
        raise UserError("sound needs a SoundFont: pip install pretty_midi, which carries one")
    sound = symusic.Synthesizer(str(font), rate_hz, 2).render(score_of(piece, frames, tempo), True)
    samples = np.clip(np.asarray(sound).T, -1, 1)
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return held.getvalue()


def svg(piece: np.ndarray, frames: int) -> str:
    """The score of a piece (verovio)."""
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
    toolkit.loadData(musicxml(piece, frames))
    drawn: str = toolkit.renderToSVG(1)
    return drawn


def musicxml(piece: np.ndarray, frames: int) -> str:
    """A piece as MusicXML 4.0, two staves parted at C4, four quarters a bar; notes over a bar's end
    or of odd lengths tied.
    """
    bar = 4 * frames
    notes: dict[int, list[tuple[int, int, list[int]]]] = {1: [], 2: []}
    for staff, keys in ((1, slice(60 - LOWEST, KEYS)), (2, slice(0, 60 - LOWEST))):
        part = np.zeros_like(piece)
        part[:, keys] = piece[:, keys]
        notes[staff] = _chords(part, bar)
    bars = []
    for number in range(-(-len(piece) // bar)):
        body = (
            ""
            if number
            else (
                f"<attributes><divisions>{frames}</divisions><time><beats>4</beats><beat-type>4</beat-type></time><staves>2</staves><clef"
                " number='1'><sign>G</sign><line>2</line></clef><clef"
                " number='2'><sign>F</sign><line>4</line></clef></attributes>"
            )
        )
        for staff in (1, 2):
            body += f"<backup><duration>{bar}</duration></backup>" if staff == 2 else ""
            signs: dict[str, int] = {}
            for begin, length, pitches in notes[staff]:
                if begin // bar == number:
                    body += _written(pitches, length, frames, staff, signs)
        bars.append(f"<measure number='{number + 1}'>{body}</measure>")
    return (
        '<?xml version="1.0"?><score-partwise version="4.0"><part-list><score-part'
        ' id="P1"><part-name/></score-part>'
        f"</part-list><part id='P1'>{''.join(bars)}</part></score-partwise>"
    )


def _chords(part: np.ndarray, bar: int) -> list[tuple[int, int, list[int]]]:
    """(first frame, frames, pitches) of stretches in which the same keys sound, cut at bars; rests
    have no pitches.
    """
    padded = np.concatenate([part, np.zeros((-len(part) % bar, KEYS), bool)])
    edges = {
        0,
        len(padded),
        *range(0, len(padded), bar),
        *(np.flatnonzero((padded[1:] != padded[:-1]).any(1)) + 1).tolist(),
    }
    ordered = sorted(edges)
    return [
        (a, b - a, (np.flatnonzero(padded[a]) + LOWEST).tolist())
        for a, b in itertools.pairwise(ordered)
    ]


def _written(
    pitches: list[int], length: int, frames: int, staff: int, signs: dict[str, int]
) -> str:
    """Notes of a chord, or a rest, of any length: cut into what can be written without dots, tied.

    signs   of every place on the staff, the accidental in force since the bar's beginning; those
            that are written are added
    """
    out, left = "", length
    while left:
        piece = 1 << (min(left, 4 * frames).bit_length() - 1)  # a whole note at most
        tie = ("<tie type='stop'/>" if left < length else "") + (
            "<tie type='start'/>" if left > piece else ""
        )
        left -= piece
        which, on = (
            f"<voice>{staff}</voice><type>{KINDS[piece / frames]}</type>",
            f"<staff>{staff}</staff>",
        )
        if not pitches:
            out += f"<note><rest/><duration>{piece}</duration>{which}{on}</note>"
        for k, pitch in enumerate(pitches):
            name = NAMES[pitch % 12]
            place, alter = f"{name[0]}{pitch // 12}", {"#": 1, "b": -1}.get(name[1:], 0)
            sign = (
                f"<accidental>{ACCIDENTALS[alter]}</accidental>"
                if signs.get(place, 0) != alter
                else ""
            )
            signs[place] = alter
            tied = f"<notations>{tie.replace('<tie', '<tied')}</notations>" if tie else ""
            out += (
                f"<note>{'<chord/>' if k else ''}<pitch><step>{name[0]}</step>{f'<alter>{alter}</alter>' if alter else ''}"
                f"<octave>{pitch // 12 - 1}</octave></pitch><duration>{piece}</duration>{tie}{which}{sign}{on}{tied}</note>"
            )
    return out
