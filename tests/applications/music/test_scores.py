"""Scores: metre, key, spelling, reading and writing, the model's distribution, composing."""

import dataclasses
import itertools
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from memorycell.applications.music.pitches import parse_key, parse_pitch
from memorycell.applications.music.score.abc_tunes import UnreadableTune, abc_tunes
from memorycell.applications.music.score.codec import ScoreCodec, fit_codec
from memorycell.applications.music.score.composing import Limits, _Piece, compose
from memorycell.applications.music.score.midi_scores import read_midi_scores, to_symusic
from memorycell.applications.music.score.model import ScoreConfig, ScoreModel
from memorycell.applications.music.score.musicxml_scores import read_musicxml_score
from memorycell.applications.music.score.notation import (
    Metre,
    Score,
    ScoreNote,
    TimedNote,
    parse_metre,
    split_voices,
)
from memorycell.applications.music.score.progress import Progress, header_of
from memorycell.applications.music.score.spelling import (
    key_name,
    signature,
    spell,
    spelled_name,
)
from memorycell.applications.music.score.statistics import (
    describe,
    length_distance,
    share_of_parallels,
)
from memorycell.applications.music.score.tonality import key_near_signature
from memorycell.applications.music.score.written_music import score_to_musicxml
from memorycell.errors import DataError
from memorycell.reading import Losses

NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
CHORDS = {"I": (0, 4, 7), "IV": (5, 9, 0), "V": (7, 11, 2)}
"""Semitones above the tonic, the root first."""


def hymn(seed, *, key="G major", metre="4/4", pickup=24, bars=4):
    """A piece of four voices in quarter notes and eighths that ends on the tonic."""
    rng = np.random.default_rng(seed)
    tonic, mode = parse_key(key)
    size = parse_metre(metre)
    count = bars * size.bar // 24
    names = [*(str(rng.choice(["I", "IV", "V"])) for _ in range(count - 2)), "V", "I"]
    voices = [[] for _ in range(4)]
    for k, name in enumerate(names):
        root, third, fifth = (tonic + step for step in CHORDS[name])
        end = (k + 1) % (2 * size.bar // 24) == 0 or k == count - 1
        for voice, pitch in enumerate((60 + third % 12, 60 + fifth % 12 - 12, 48 + root % 12)):
            voices[voice].append(ScoreNote(pitch, 24, end and voice == 0))
        bass = 36 + root % 12
        voices[3] += [ScoreNote(bass, 12), ScoreNote(bass + 12, 12)] if k % 3 == 1 else []
        voices[3] += [] if k % 3 == 1 else [ScoreNote(bass, 24)]
    return Score(size, (tonic, mode), pickup, tuple(map(tuple, voices)))


HYMNS = [
    hymn(seed, key=f"{NAMES[seed % 12]} major", metre=("4/4", "3/4")[seed % 2], pickup=24)
    for seed in range(40)
]


def written(score, path, tempo=90):
    path.write_bytes(to_symusic(score, tempo).dumps_midi())
    return path


def folder_of_hymns(folder):
    folder.mkdir(exist_ok=True)
    for k, score in enumerate(HYMNS):
        written(score, folder / f"{k:02}.mid")
    return folder


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


def fitted():
    codec = fit_codec(HYMNS[:30])
    torch.manual_seed(0)
    config = ScoreConfig(
        input_size=codec.input_size,
        pitches=codec.num_pitches,
        lengths=codec.num_lengths,
        hidden_size=12,
    )
    return codec, ScoreModel(config).eval()


def test_codec_round_trip():
    codec = ScoreCodec.from_json(json.loads(json.dumps(fitted()[0].to_json())))
    for score in HYMNS[:8]:
        blocks, ids = codec.encode(score)
        assert len(ids) == sum(map(len, score.voices))
        x = codec.inputs(blocks)
        assert x.shape == (len(ids), codec.input_size)
        assert (x.sum(1) >= len(codec.block_sizes) - 1).all()
        assert (x.sum(1) <= (blocks >= 0).sum(1)).all()
        progress = Progress(codec, header_of(score))
        voices = [[] for _ in score.voices]
        for length_id, _, pitch_id in ids:
            ticks, end = codec.lengths[length_id - 1]
            note = ScoreNote(codec.pitch(pitch_id, score.key[0]), ticks, bool(end))
            voices[progress.voice].append(note)
            progress.add(note)
        assert progress.done
        assert tuple(map(tuple, voices)) == score.voices


def test_inputs_hold_only_what_came_before():
    codec, _ = fitted()
    score = HYMNS[0]
    blocks, _ = codec.encode(score)
    last = score.voices[3][-1]
    changed = (*score.voices[:3], (*score.voices[3][:-1], last._replace(pitch=last.pitch + 12)))
    other, _ = codec.encode(Score(score.metre, score.key, score.pickup, changed))
    assert (other == blocks).all()  # the last note of all is in no input
    first = score.voices[0][0]
    changed = ((first._replace(pitch=first.pitch - 2), *score.voices[0][1:]), *score.voices[1:])
    other, _ = codec.encode(Score(score.metre, score.key, score.pickup, changed))
    assert (other[0] == blocks[0]).all()
    assert (other[1] != blocks[1]).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"metres": []},
        {"metres": ["3/4", "3/4"]},
        {"metres": ["0/4", "4/4"]},
        {"lengths": []},
        {"lengths": [[0, 0]]},
        {"low": 5, "high": 2},
        {"ranges": []},
        {"ranges": [[60, 40]]},
        {"ranges": [[60, 4000]]},
        {"pickups": [0]},
        {"pickups": [0, 500]},
    ],
)
def test_damaged_codecs(wrong):
    data = fitted()[0].to_json() | wrong
    with pytest.raises(ValueError, match=r"codec of scores|metre|expected"):
        ScoreCodec.from_json(data)


def test_the_model_is_a_distribution_over_notes():
    codec, model = fitted()
    hidden = torch.randn(3, 12)
    notes = list(itertools.product(range(codec.num_lengths), range(codec.num_pitches)))
    for h, last in zip(hidden, (0, 1, 1), strict=True):
        ids = torch.tensor([(length, last, pitch) for length, pitch in notes])
        nats = model.head.nats(h.expand(len(ids), -1), ids).sum(-1)
        assert torch.isclose((-nats).exp().sum(), torch.tensor(1.0), atol=1e-5)


def test_what_progress_gives_to_the_model():
    codec, _ = fitted()
    progress = Progress(codec, header_of(HYMNS[0]))  # C major
    phrase_block = 6

    def add(*notes):
        for pitch, length, end in notes:
            progress.add(ScoreNote(pitch, length, end))

    add((64, 24, False), (60, 24, False), (55, 24, False), (48, 24, False))
    assert progress.parallels() == [-1] * 4
    assert progress.blocks()[phrase_block] == 2  # one quarter since the piece began
    add((64, 24, False), (62, 24, False), (55, 24, False))
    # The alto went from C4 to D4, an octave above C3; the fifth G3 of the tenor stayed.
    assert [codec.pitch(k, 0) for k in progress.parallels() if k >= 0] == [50]
    add((48, 24, False), (67, 24, True))
    # The highest voice ends its phrase, while the others are still in it.
    assert progress.blocks()[phrase_block] == 0
    add((62, 24, False), (57, 24, False))
    # The tenor went from G3 to A3 above C3: the bass would reach D3 in parallel fifths.
    assert [codec.pitch(k, 0) for k in progress.parallels() if k >= 0] == [50]
    add((50, 24, False))
    assert progress.blocks()[phrase_block] == 1


def test_pitches_depend_on_the_length_and_on_the_end():
    _, model = fitted()
    hidden, zero, one = torch.randn(12), torch.tensor(0), torch.tensor(1)
    with torch.inference_mode():
        first, longer, last = (
            model.head.pitch_scores(hidden, *ids)
            for ids in ((zero, zero), (one, zero), (zero, one))
        )
    assert (first - longer).abs().max() > 1e-3
    assert (first - last).abs().max() > 1e-3


@torch.inference_mode()
def test_a_fork_of_a_piece_changes_nothing():
    codec, model = fitted()
    piece = _Piece(model, codec, header_of(HYMNS[0]), (), Limits())
    piece.compose(96, np.random.default_rng(0), 1.0)
    before, state = piece.score(), piece._state.copy()
    other = piece.fork()
    other.compose(192, np.random.default_rng(1), 1.0)
    assert piece.score() == before
    assert (piece._state == state).all()
    assert (other._state != state).any()


def test_composing_keeps_what_was_asked():
    codec, model = fitted()
    header = header_of(hymn(0, key="Bb major", metre="3/4", bars=5))
    score = compose(model, codec, header, np.random.default_rng(1), temperature=1.0)
    assert (score.metre, score.key, score.pickup) == (Metre(3, 4), (10, "major"), 24)
    assert [sum(n.length for n in voice) for voice in score.voices] == [5 * 72] * 4
    for voice, (low, high) in zip(score.voices, codec.ranges, strict=True):
        assert all(n.pitch is None or low <= n.pitch <= high for n in voice)
    again = compose(model, codec, header, np.random.default_rng(1), temperature=1.0)
    assert again == score
    given = hymn(3, key="Bb major", metre="3/4", bars=5).voices[0]
    harmonised = compose(
        model, codec, header, np.random.default_rng(1), temperature=1.0, given=[given]
    )
    assert harmonised.voices[0] == given
    assert len(harmonised.voices) == 4


def test_parallels_are_excluded_where_training_has_none():
    codec, model = fitted()
    assert codec.parallels  # the chords of the hymns move together
    headers = [header_of(hymn(seed)) for seed in range(6)]
    strict = dataclasses.replace(codec, parallels=False)

    def parallels(own):
        rngs = [np.random.default_rng(k) for k in range(6)]
        return share_of_parallels(
            [compose(model, own, h, r, temperature=1.0) for h, r in zip(headers, rngs, strict=True)]
        )

    assert parallels(codec) > 0.003
    assert parallels(strict) == 0


def test_pieces_end_on_the_tonic_if_asked():
    codec, model = fitted()
    headers = [header_of(hymn(seed)) for seed in range(12)]

    def share(limits):
        scores = [
            compose(model, codec, header, np.random.default_rng(k), limits=limits)
            for k, header in enumerate(headers)
        ]
        return describe(scores, codec.ranges)["tonic_endings"]

    assert share(Limits(ending=False)) < 0.4  # an untrained model ends anywhere
    assert share(Limits()) > share(Limits(ending=False))


def test_statistics():
    ranges = [(60, 71), (48, 70), (40, 60), (36, 59)]
    good = describe(HYMNS, ranges)
    assert good["tonic_endings"] == 1.0
    assert good["out_of_scale"] == 0.0
    high = [
        Score(
            s.metre,
            s.key,
            s.pickup,
            tuple(tuple(n._replace(pitch=n.pitch + 1) for n in v) for v in s.voices),
        )
        for s in HYMNS
    ]
    assert describe(high, ranges)["tonic_endings"] == 0.0
    assert describe(high, ranges)["out_of_scale"] > 0.3

    def two(*pitches):
        voices = zip(*pitches, strict=True)
        return Score(
            Metre(4, 4), (0, "major"), 0, tuple(tuple(ScoreNote(p, 24) for p in v) for v in voices)
        )

    fifths = describe([two((67, 60), (69, 62), (71, 64), (67, 66), (64, 69))], ranges[:2])
    assert fifths["parallels"] == 0.5  # two of four moves
    assert fifths["crossings"] == 0.2
    assert describe([two((67, 60), (74, 55))], ranges[:2])["parallels"] == 0.0  # contrary motion
    assert fifths["out_of_scale"] == 0.1
    assert fifths["out_of_range"] == 0.0
    assert length_distance(HYMNS[:3], HYMNS[:3]) == 0.0
    assert length_distance([two((60, 48))], [two((60, 48), (62, 50))]) == 0.0
    assert (
        length_distance(HYMNS[:1], [Score(Metre(4, 4), (0, "major"), 0, ((ScoreNote(60, 96),),))])
        == 1.0
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model of the hymns, trained through the Python face."""
    import memorycell

    folder = tmp_path_factory.mktemp("scores")
    path = folder / "hymns.safetensors"
    result = memorycell.train(
        "music", str(folder_of_hymns(folder / "midi")), out=path, view="score", hidden=24,
        epochs=12, dropout=0.0, weight_drop=0.0, noise=0.0,
    )  # fmt: skip
    return result, path


def test_training_and_composing(trained, tmp_path):
    from memorycell.application import catalogue, modelfile

    result, path = trained
    assert result.baselines
    assert all("gram" in name for name in result.baselines)
    assert result.metrics["nats_note"] == pytest.approx(2 * result.metrics["nats"])
    music, file = catalogue.load("music"), modelfile.load(path)
    options = music.predict_options(key="E minor", metre="3/4", bars=6, seed=3)
    record = json.loads(json.dumps(music.predict(file, None, options)))
    assert (record["key"], record["metre"], record["bars"]) == ("E minor", "3/4", 6)
    midi = tmp_path / "composed.mid"
    midi.write_bytes(music.figures[".mid"](file, record))
    (score,) = read_midi_scores(midi, Losses("pieces"))
    assert (str(score.metre), key_name(score.key)) == ("3/4", "E minor")
    assert score.bars in (5, 6)  # a rest at the end is not in the file
    assert "E minor, 3/4, 6 bars" in music.render(record)
    assert "<svg" in music.figures[".svg"](file, record)
    melody = written(Score(*_parts(HYMNS[1]), (HYMNS[1].voices[0],)), tmp_path / "melody.mid")
    record = music.predict(file, str(melody), music.predict_options(how="harmonise"))
    assert len(record["voices"]) == 4
    assert [n[:2] for n in record["voices"][0]] == [list(n[:2]) for n in HYMNS[1].voices[0]]
    options = music.predict_options(begin=8, bars=2, key="A minor")
    continued = music.predict(file, str(melody), options)
    assert continued["notes"] == ["key and metre are those of the input: Db major, 3/4"]
    assert continued["bars"] > 2
    assert [n[0] for n in continued["voices"][0][:8]] == [n.pitch for n in HYMNS[1].voices[0][:8]]


def _parts(score):
    return score.metre, score.key, score.pickup


def test_live_scores(trained):
    from memorycell.application import live, modelfile

    file = modelfile.load(trained[1])
    session = live.open_session(file)
    (answer,) = session.feed("key D major, metre 3/4, pickup 1")
    assert (answer["key"], answer["bar"], answer["quarter"], answer["voice"]) == (
        "D major",
        0,
        "3",
        1,
    )
    assert session.note_probabilities().sum() == pytest.approx(1, abs=1e-5)
    score = hymn(2, key="D major", metre="3/4", bars=3)
    total, queues, progress = (
        0.0,
        [list(v) for v in score.voices],
        Progress(file.codec, header_of(score)),
    )
    snapshot = session.snapshot()
    for count in itertools.count():
        if progress.done:
            break
        note = queues[progress.voice].pop(0)
        progress.add(note)
        text = f"{spelled_name(note.pitch, score.key)}:{note.length}/24{',' * note.phrase_end}"
        (answer,) = session.feed(text)
        assert answer["heard"][0]["note"].split(":")[0] == text.split(":")[0]
        total += answer["nats"]
        if count == 4:
            snapshot = session.snapshot()
            after = session.fork().feed("r:1")
    assert session.feed("")[0]["bar"] == 3
    other = live.open_session(file)
    other.restore(snapshot)
    assert other.feed("r:1") == after
    # Live, a piece has no end, so that only the beginning agrees with the evaluation.
    endless = header_of(score)._replace(length=1 << 40)
    progress, blocks, ids = Progress(file.codec, endless), [], []
    queues = [list(v) for v in score.voices]
    while any(queues):
        note = queues[progress.voice].pop(0)
        blocks.append(progress.blocks())
        pitch_id, length_id = progress.add(note)
        ids.append((length_id, 0, pitch_id))
    with torch.inference_mode():
        hidden, _ = file.model(torch.from_numpy(file.codec.inputs(np.array(blocks)))[None])
        expected = float(file.model.head.nats(hidden[0], torch.tensor(ids)).sum())
    assert total == pytest.approx(expected, abs=0.002 * len(ids))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("H5:1", "is not a note"),
        ("E5", "is not a note"),
        ("E5:0", "expected 1/24"),
        ("E5:1/0", "E5:1/0"),
        ("E5:1/5", "expected 1/24"),
        ("C0:1", "outside the piano"),
        ("key X major", "X4"),
        ("key C major, metre 7/8", "not in the training data; one of 3/4, 4/4"),
        ("key C major, pickup 9", "less than a bar"),
        ("key C major, tempo 9", "expected key, metre or pickup"),
    ],
)
def test_bad_lines_change_nothing(trained, line, error):
    from memorycell.application import live, modelfile

    session = live.open_session(modelfile.load(trained[1]))
    session.feed("E5:1 C5:1")
    before = session.snapshot()
    if line.startswith("key"):
        session = live.open_session(modelfile.load(trained[1]))
        before = session.snapshot()
    with pytest.raises(DataError, match=error):
        session.feed(line)
    assert session.snapshot() == before


def test_a_page_of_pieces(trained, tmp_path):
    from memorycell.application import catalogue, modelfile

    music, file = catalogue.load("music"), modelfile.load(trained[1])
    record = music.predict(file, None, music.predict_options(pieces=3, bars=2, seed=5))
    page = music.figures[".html"](file, json.loads(json.dumps(record)))
    assert page.count("<article>") == 3
    assert [f"seed {k}" in page for k in (4, 5, 6, 7, 8)] == [False, True, True, True, False]
    assert "http" not in page.replace("http://www.w3.org", "")
    with pytest.raises(ValueError, match="holds one piece"):
        music.figures[".mid"](file, record)


def test_the_main_picture_is_of_a_score(trained):
    """Its dots are the notes of a test piece; its colours are probabilities of their pitches."""
    from memorycell.application import catalogue, modelfile

    file = modelfile.load(trained[1])
    dataset = catalogue.load("music").reopen(None, file)
    picture = catalogue.load("music").picture(dataset, file.model, {})
    score = max(dataset.scores["test"], key=lambda score: score.length)
    low = 60 - picture.rows.index("C4")
    begins = set()
    for voice in score.voices:
        now = 0
        for note in voice:
            begins.add((now // 6, note.pitch - low))
            now += note.length
    assert set(picture.dots) == {dot for dot in begins if dot[0] < 128}
    assert all(0.04 <= p <= 1.001 for _, _, p in picture.cells)
    shares = {(at, row): p for at, row, p in picture.cells}
    blocks, ids = dataset.codec.encode(score)
    with torch.inference_mode():
        hidden, _ = file.model(torch.from_numpy(dataset.codec.inputs(blocks[:1]))[None])
        length, last, _ = torch.from_numpy(ids[0])
        p = file.model.head.pitch_scores(hidden[0, 0], length, last).softmax(-1)
    top = dataset.codec.pitch(int(p.argmax()), score.key[0]) - low
    assert p.max() > 0.04
    assert shares[0, top] >= float(p.max()) - 2e-3  # another voice may give the pitch more


def test_evaluation_in_steps_is_that_of_whole_pieces(trained):
    from memorycell.application import catalogue, modelfile

    file = modelfile.load(trained[1])
    dataset = catalogue.load("music").reopen(None, file)
    whole = dataset.evaluate(file.model, "test")["nats"]
    stepped = dataset._metrics(dataset._stepped_nats(file.model, "test", "float32"), "test")["nats"]
    assert stepped == pytest.approx(whole, rel=1e-4)
    assert whole == pytest.approx(file.info["metrics"]["nats"], rel=1e-4)
    events = {s: sum(len(ids) for _, ids in p) for s, p in dataset.pieces.items()}
    for by_voice in (False, True):
        tokens = dataset._tokens("test", by_voice)
        predicted = (tokens > 1) & (tokens < dataset._header_ids)
        assert predicted.sum() == 2 * events["test"]
        name, (_, ngram) = list(dataset._ngrams.items())[by_voice]
        nats = -np.log(ngram.probabilities(tokens)[predicted]).mean()
        assert dataset.baselines("test")[name]["nats"] == pytest.approx(nats)


def test_what_a_score_model_refuses(trained, tmp_path):
    from memorycell.application import catalogue, modelfile

    music, file = catalogue.load("music"), modelfile.load(trained[1])
    options = music.predict_options
    with pytest.raises(
        ValueError, match=r"metre=6/8: not in the training data; expected one of 3/4"
    ):
        music.predict(file, None, options(metre="6/8"))
    with pytest.raises(ValueError, match="expected a metre"):
        options(metre="x")
    waltz = written(hymn(1, metre="6/8"), tmp_path / "waltz.mid")
    with pytest.raises(ValueError, match=r"waltz.mid: in 6/8; the model knows 3/4, 4/4 alone"):
        music.predict(file, str(waltz), options())
    full = written(HYMNS[0], tmp_path / "full.mid")
    with pytest.raises(ValueError, match="nothing to add"):
        music.predict(file, str(full), options(how="harmonise"))
    with pytest.raises(ValueError, match="no melody given"):
        music.predict(file, None, options(how="harmonise"))
    json_file = tmp_path / "frames.json"
    json_file.write_text("[[60]]")
    with pytest.raises(ValueError, match="no metre"):
        music.predict(file, str(json_file), options())


def test_frames_models_refuse_a_metre(tmp_path):
    from memorycell.application.contract import ModelFile
    from memorycell.applications.music.codec import MusicCodec
    from memorycell.applications.music.model import Composer, ComposerConfig
    from memorycell.applications.music.predict import PredictOptions, predict

    model = Composer(ComposerConfig(hidden_size=4, voices=2))
    file = ModelFile(model, MusicCodec(1, 2), {}, {})
    with pytest.raises(ValueError, match="need a model of scores"):
        predict(file, None, PredictOptions(metre="3/4"))


def test_named_corpora():
    """What the package carries is found, and most of it can be read."""
    pytest.importorskip("music21", reason="pip install 'memorycell[musicxml]'")
    from memorycell.application.datasets import locate

    path, dataset = locate("chorales")
    assert dataset.settings == {"view": "score"}
    score = read_musicxml_score(Path(path) / "bwv269.mxl")
    assert (str(score.metre), key_name(score.key), score.pickup) == ("3/4", "G major", 24)
    assert len(score.voices) == 4
    right = []
    for file in sorted(Path(path).glob("bwv2*.mxl"))[:60]:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if not name.startswith("META"))
            root = ElementTree.fromstring(archive.read(name))
        key = read_musicxml_score(file).key
        for pitch in root.iter("pitch"):
            letter, octave = pitch.findtext("step"), int(pitch.findtext("octave"))
            alter = int(pitch.findtext("alter") or 0)
            midi = 12 * (octave + 1) + "C D EF G A B".index(letter) + alter
            right.append(spell(midi, key) == (letter, alter, octave))
    assert len(right) > 10_000
    assert np.mean(right) > 0.998
    path, _ = locate("essen")
    tunes = list(abc_tunes((Path(path) / "kinder0.abc").read_text()))
    assert sum(isinstance(tune, Score) for tune in tunes) > 0.9 * len(tunes)
