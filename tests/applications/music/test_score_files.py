"""Scores: metre, key, spelling, reading and writing MIDI, MusicXML and ABC."""

import itertools
from xml.etree import ElementTree

import pytest
from score_data import HYMNS, written

pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from memorycell.applications.music.pitches import parse_key, parse_pitch
from memorycell.applications.music.score.abc_tunes import UnreadableTune, abc_tunes
from memorycell.applications.music.score.midi_scores import read_midi_scores, to_symusic
from memorycell.applications.music.score.musicxml_scores import read_musicxml_score
from memorycell.applications.music.score.notation import (
    Metre,
    Score,
    ScoreNote,
    TimedNote,
    parse_metre,
    split_voices,
)
from memorycell.applications.music.score.spelling import (
    key_name,
    signature,
    spell,
    spelled_name,
)
from memorycell.applications.music.score.tonality import key_near_signature
from memorycell.applications.music.score.written_music import score_to_musicxml
from memorycell.errors import DataError
from memorycell.reading import Losses


def test_metres():
    assert [parse_metre(text).bar for text in ("4/4", "3/4", "6/8", "2/2")] == [96, 72, 72, 96]
    assert [parse_metre(text).beat for text in ("4/4", "6/8", "3/8", "9/8")] == [24, 36, 12, 36]
    for text in ("4", "0/4", "4/3", "a/b", "99/4"):
        with pytest.raises(ValueError, match="expected a metre"):
            parse_metre(text)


@pytest.mark.parametrize(
    ("key", "pitches", "names"),
    [
        ("G major", (66, 61, 70, 63), "F#4 C#4 Bb4 D#4"),
        ("E minor", (63, 65, 70, 61), "D#4 F4 A#4 C#4"),
        ("F minor", (64, 61, 66, 68), "E4 Db4 Gb4 Ab4"),
        ("Eb major", (69, 61, 71, 60), "A4 Db4 B4 C4"),
        ("C minor", (71, 60, 59), "B4 C4 B3"),
        ("Db major", (60, 71), "C4 Cb5"),
        ("F# major", (65, 59), "E#4 B3"),
    ],
)
def test_spelling(key, pitches, names):
    assert " ".join(spelled_name(pitch, parse_key(key)) for pitch in pitches) == names


def test_spelling_of_scales_is_that_of_music21():
    keys = pytest.importorskip("music21").key
    for tonic, mode in itertools.product(range(12), ("major", "minor")):
        name = key_name((tonic, mode)).split()[0].replace("b", "-")
        theirs = keys.Key(name, mode)
        assert theirs.sharps == signature((tonic, mode))
        own = {spelled_name(p.midi, (tonic, mode))[:-1] for p in theirs.getScale().pitches}
        assert own == {p.name.replace("-", "b") for p in theirs.getScale().pitches}


def test_every_spelling_sounds_as_its_pitch():
    for tonic, mode in itertools.product(range(12), ("major", "minor")):
        for pitch in range(22, 108):
            letter, alter, octave = spell(pitch, (tonic, mode))
            assert 12 * (octave + 1) + "C D EF G A B".index(letter) + alter == pitch
            assert abs(alter) <= 2


def test_midi_round_trip(tmp_path):
    for score in HYMNS[:6]:
        (again,) = read_midi_scores(written(score, tmp_path / "a.mid"), Losses("pieces"))
        assert (again.metre, again.key, again.pickup) == (score.metre, score.key, score.pickup)
        ours = [[note[:2] for note in voice] for voice in again.voices]
        assert ours == [[note[:2] for note in voice] for voice in score.voices]


def test_midi_signatures_as_bytes(tmp_path):
    """A file written by hand: 3/4, D minor, a note on the third beat, then one bar."""
    meta = b"\x00\xff\x58\x04\x03\x02\x18\x08" + b"\x00\xff\x59\x02\xff\x01"
    notes = b"\x82\x40\x90\x4a\x40" + b"\x81\x20\x80\x4a\x00"  # 320 ticks after the beginning
    notes += b"\x00\x90\x45\x40" + b"\x83\x60\x80\x45\x00"
    body = meta + notes + b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + b"\x00\x00\x00\x01\x00\xa0"
    path = tmp_path / "hand.mid"
    path.write_bytes(header + b"MTrk" + len(body).to_bytes(4, "big") + body)
    (score,) = read_midi_scores(path, Losses("pieces"))
    assert (str(score.metre), key_name(score.key), score.pickup) == ("3/4", "D minor", 24)
    assert score.voices == ((ScoreNote(74, 24), ScoreNote(69, 72)),)


def test_midi_without_signatures_and_with_two_metres(tmp_path):
    import symusic

    made = to_symusic(HYMNS[0], 90)
    made.time_signatures.clear()
    made.key_signatures.clear()
    path = tmp_path / "plain.mid"
    path.write_bytes(made.dumps_midi())
    losses = Losses("pieces")
    (score,) = read_midi_scores(path, losses)
    assert (str(score.metre), key_name(score.key)) == ("4/4", "C major")
    assert sum(losses.repaired.values()) == 2
    made.time_signatures.extend([symusic.TimeSignature(0, 4, 4), symusic.TimeSignature(960, 3, 4)])
    path.write_bytes(made.dumps_midi())
    with pytest.raises(DataError, match=r"plain.mid: the metre changes"):
        read_midi_scores(path, Losses("pieces"))


def test_voices_of_a_track():
    chords = [TimedNote(0, 24, p) for p in (72, 60)] + [
        TimedNote(24, 50, 74),
        TimedNote(24, 48, 59),
    ]
    chords += [TimedNote(48, 72, 71)]  # the D before it is held two ticks too long
    upper, lower = split_voices(chords)
    assert [(n.begin, n.end, n.pitch) for n in upper] == [(0, 24, 72), (24, 48, 74), (48, 72, 71)]
    assert [n.pitch for n in lower] == [60, 59]


def test_musicxml_is_what_music21_reads(tmp_path):
    converter = pytest.importorskip("music21").converter
    tied = ScoreNote(74, 60, True)  # across a bar line, and without a note value
    first = Score(
        Metre(3, 4), parse_key("D minor"), 24, ((ScoreNote(73, 24), tied, ScoreNote(62, 60)),)
    )
    for score in (first, *HYMNS[:3], *HYMNS[6:8]):
        path = tmp_path / "score.musicxml"
        path.write_text(score_to_musicxml(score))
        theirs = converter.parse(path, forceSource=True, storePickle=False)
        measures = list(theirs.parts[0].getElementsByClass("Measure"))
        key = measures[0].keySignature
        assert key.sharps == signature(score.key)
        assert measures[0].timeSignature.ratioString == str(score.metre)
        assert measures[0].number == (0 if score.pickup else 1)
        notes = [
            (
                float(n.getOffsetInHierarchy(theirs)),
                float(n.quarterLength),
                n.pitch.midi,
                n.pitch.nameWithOctave.replace("-", "b"),
            )
            for n in theirs.stripTies().flatten().notes
        ]
        ours = []
        for voice in score.voices:
            now = 0
            for note in voice:
                name = spelled_name(note.pitch, score.key)
                ours.append((now / 24, note.length / 24, note.pitch, name))
                now += note.length
        assert sorted(notes) == sorted(ours)
        bars = [m.duration.quarterLength * 24 for m in measures]
        assert bars[0] == (score.pickup or score.metre.bar)
        assert set(bars[1:-1]) <= {score.metre.bar}


def test_written_accidentals_and_beams():
    """In force on a line of a staff for both of its voices, in the order of time."""

    def voice(text):
        return tuple(
            ScoreNote(parse_pitch(name), round(24 * float(length)))
            for name, length in (word.split(":") for word in text.split())
        )

    upper = voice("F#5:1 E5:1 D5:1 F#5:1 F5:4")
    lower = voice("A4:1 F#5:0.5 F#5:0.25 A4:0.25 F5:1 B4:1 A4:2 F5:2")
    bass = voice("C3:4 C3:4")
    score = Score(Metre(4, 4), parse_key("C major"), 0, (upper, lower, bass))
    root = ElementTree.fromstring(score_to_musicxml(score))
    shown = {}
    for number, measure in enumerate(root.iter("measure")):
        for voice_number in ("1", "2"):
            notes = [n for n in measure.iter("note") if n.findtext("voice") == voice_number]
            shown[number, voice_number] = [n.findtext("accidental") for n in notes]
    assert shown[0, "1"] == ["sharp", None, None, "sharp"]  # sharp again after the other natural
    assert shown[0, "2"] == [None, None, None, None, "natural", None]
    assert shown[1, "1"] == [None]
    assert shown[1, "2"] == [None, None]
    beams = [
        [(b.get("number"), b.text) for b in n.iter("beam")]
        for n in root.iter("note")
        if n.findtext("voice") == "2"
    ]
    assert beams[:4] == [
        [],
        [("1", "begin")],
        [("1", "continue"), ("2", "begin")],
        [("1", "end"), ("2", "end")],
    ]


def test_tied_accidentals_and_hooks():
    tied = ScoreNote(66, 72)  # F#4 from the third beat into the next bar
    dotted = (ScoreNote(67, 18), ScoreNote(69, 6), ScoreNote(67, 48))
    voice = (ScoreNote(64, 48), tied, *dotted)
    root = ElementTree.fromstring(score_to_musicxml(Score(Metre(4, 4), (0, "major"), 0, (voice,))))
    notes = list(root.iter("note"))
    assert [n.findtext("accidental") for n in notes] == [None, "sharp", None, None, None, None]
    assert [[t.get("type") for t in n.iter("tie")] for n in notes[1:3]] == [["start"], ["stop"]]
    assert [[b.text for b in n.iter("beam")] for n in notes[3:5]] == [
        ["begin"],
        ["end", "backward hook"],
    ]


MUSICXML = """<?xml version="1.0"?><score-partwise version="4.0"><part-list>
<score-part id="A"><part-name>Flute</part-name></score-part>
<score-part id="B"><part-name>Cello</part-name></score-part></part-list>
<part id="A"><measure number="0" implicit="yes"><attributes><divisions>2</divisions>
<key><fifths>-1</fifths><mode>minor</mode></key>
<time><beats>3</beats><beat-type>4</beat-type></time>
</attributes><note><pitch><step>D</step><octave>5</octave></pitch>
<duration>2</duration></note></measure>
<measure number="1"><note><pitch><step>C</step><alter>1</alter><octave>5</octave></pitch>
<duration>3</duration></note><note><grace/><pitch><step>A</step><octave>5</octave></pitch></note>
<note><rest/><duration>1</duration></note>
<note><pitch><step>D</step><octave>5</octave></pitch><duration>2</duration>
<tie type="start"/></note></measure>
<measure number="2"><note><pitch><step>D</step><octave>5</octave></pitch>
<duration>4</duration><tie type="stop"/><notations><fermata/></notations></note></measure></part>
<part id="B"><measure number="0" implicit="yes">
<attributes><divisions>2</divisions></attributes><note><rest/><duration>2</duration></note></measure>
<measure number="1"><note><pitch><step>A</step><octave>2</octave></pitch>
<duration>6</duration></note>
<backup><duration>5</duration></backup><forward><duration>1</duration></forward>
<note><pitch><step>E</step><octave>3</octave></pitch><duration>4</duration></note></measure>
<measure number="2"><note><pitch><step>D</step><octave>2</octave></pitch>
<duration>4</duration></note>
</measure></part></score-partwise>"""


def test_reading_musicxml(tmp_path):
    path = tmp_path / "duet.musicxml"
    path.write_text(MUSICXML)
    score = read_musicxml_score(path)
    assert (str(score.metre), key_name(score.key), score.pickup) == ("3/4", "D minor", 24)
    flute = (
        ScoreNote(74, 24),
        ScoreNote(73, 36),
        ScoreNote(None, 12),
        ScoreNote(74, 72, True),
    )
    assert score.voices[0] == flute
    cello = {tuple((n.pitch, n.length) for n in voice) for voice in score.voices[1:]}
    assert cello == {
        ((None, 48), (52, 48), (None, 48)),
        ((None, 24), (45, 72), (38, 48)),
    }


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("<duration>3</duration>", "<duration>x</duration>", "duet"),
        ("<divisions>2</divisions>", "<divisions>0</divisions>", "divisions"),
        ("<beats>3</beats>", "<beats>0</beats>", "expected a metre"),
        ("<step>C</step>", "<step>H</step>", "the note 'H'"),
        ("<octave>2</octave>", "<octave>99</octave>", "the pitch"),
        ("score-partwise", "score-timewise", "by parts"),
        ("<duration>3</duration>", "<duration>0.01</duration>", "no multiple of 1/24"),
    ],
)
def test_damaged_musicxml(tmp_path, old, new, error):
    path = tmp_path / "duet.musicxml"
    path.write_text(MUSICXML.replace(old, new))
    with pytest.raises(DataError, match=error):
        read_musicxml_score(path)


ABC = """X:1
T: one of our own
M: 3/4
L: 1/8
K: Em
B,2 | E2 ^D2 E2 | F3 G FE | (3GFE D4- |
D2 z2 =d2 | e6 |]

X:2
M: none
K: C
CDEF

X:3
M: 4/4
L: 1/4
K: C
C>D [CE]2 |
"""


def test_abc_tunes():
    tune, *others = abc_tunes(ABC)
    assert (str(tune.metre), key_name(tune.key), tune.pickup) == ("3/4", "E minor", 24)
    notes = [(note.pitch, note.length) for note in tune.voices[0]]
    assert notes == [
        (59, 24), (64, 24), (63, 24), (64, 24), (66, 36), (67, 12), (66, 12), (64, 12),
        (67, 8), (66, 8), (64, 8), (62, 72), (None, 24), (74, 24), (76, 72),
    ]  # fmt: skip
    assert [k for k, note in enumerate(tune.voices[0]) if note.phrase_end] == [11, 14]
    assert [str(error) for error in others] == ["no single metre", "'[' in a tune of one voice"]
    assert all(isinstance(error, UnreadableTune) for error in others)


def test_abc_pitches_are_those_of_music21(tmp_path):
    converter = pytest.importorskip("music21").converter
    body = "^F2 G_A | =F2 B2 | f2 ^c2 | c2 e,2 | B2 b'2 |"
    text = f"X:1\nM:2/4\nL:1/8\nK:Bb\n{body}\n"
    (tune,) = abc_tunes(text)
    theirs = converter.parse(text, format="abc").flatten().notes
    assert [n.pitch for n in tune.voices[0]] == [n.pitch.midi for n in theirs]
    assert [n.length / 24 for n in tune.voices[0]] == [float(n.quarterLength) for n in theirs]


def test_keys_near_a_signature():
    def notes(text):
        return [TimedNote(k, k + 1, parse_pitch(p)) for k, p in enumerate(text.split())]

    a_minor = notes("A4 B4 C5 D5 E5 G#4 A4 E4 A4 C5 E5 A4")
    assert key_near_signature(a_minor, 0) == parse_key("A minor")
    assert key_near_signature(notes("C4 D4 E4 F4 G4 C5 E5 G5 C4"), 0) == parse_key("C major")
    assert key_near_signature(notes("D4 F4 A4 D5 E4 F4 G4 A4 B4 D4 D4 A4"), 0)[0] == 2
    assert key_near_signature(notes("Bb4 D5 F5 Bb5 Bb3 F4 C5 Eb5 D5 Bb4"), None) == parse_key(
        "Bb major"
    )
