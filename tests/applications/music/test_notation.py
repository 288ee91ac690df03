"""Names of pitches, keys, MIDI and MusicXML, and files that cannot be read."""

import sys
from xml.etree import ElementTree

import numpy as np
import pytest

symusic = pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from tunes import CHORDS, MUSIC, SMALL, tune  # noqa: E402

from memorycell.applications.music import midi, musicxml, pitches  # noqa: E402
from memorycell.applications.music.dataset import prepare  # noqa: E402
from memorycell.applications.music.pieces import (  # noqa: E402
    piece_from_pitches,
    piece_notes,
    transpose,
)
from memorycell.applications.music.pitches import (  # noqa: E402
    LOWEST_PITCH,
    NUM_KEYS,
    estimate_key,
    parse_pitch,
    pitch_name,
)
from memorycell.applications.music.reading import read_piece  # noqa: E402
from memorycell.applications.music.settings import MusicSettings  # noqa: E402
from memorycell.errors import DataError, UserError  # noqa: E402


def test_names():
    for pitch in range(LOWEST_PITCH, LOWEST_PITCH + NUM_KEYS):
        assert parse_pitch(pitch_name(pitch)) == pitch == parse_pitch(str(pitch))
    assert [parse_pitch(n) for n in ("c4", "Db4", "C#4", "B3", "Cb4")] == [60, 61, 61, 59, 59]
    for wrong in ("H4", "C", "", "C20", "12", "Cx4"):
        with pytest.raises(ValueError, match="not a note|outside"):
            parse_pitch(wrong)


def test_midi_round_trip(tmp_path):
    piece = piece_from_pitches(tune(0), "t")
    for frames in (1, 4):
        (tmp_path / "a.mid").write_bytes(midi.to_midi(piece, frames, 90))
        np.testing.assert_array_equal(read_piece(tmp_path / "a.mid", frames), piece)
        score = symusic.Score(str(tmp_path / "a.mid"))
        assert score.tempos[0].qpm == pytest.approx(90, rel=1e-3)
        assert {n.pitch for n in score.tracks[0].notes} == {p for f in tune(0) for p in f}
    held = piece_from_pitches([[60], [60, 64], [64], [], [60]], "t")
    assert piece_notes(held) == [(0, 2, 60), (1, 2, 64), (4, 1, 60)]


def test_key_estimation():
    c_major = piece_from_pitches(CHORDS * 3, "t")
    assert estimate_key(c_major) == (0, "major")
    assert estimate_key(np.roll(c_major, 7, 1)) == (7, "major")
    a_minor = piece_from_pitches([[57, 60, 64], [62, 65, 69], [56, 59, 64], [57, 60, 64]] * 2, "t")
    assert estimate_key(a_minor) == (9, "minor")
    assert pitches.scale_mask((0, "major")).sum() == sum(
        (LOWEST_PITCH + k) % 12 in {0, 2, 4, 5, 7, 9, 11} for k in range(NUM_KEYS)
    )


def test_musicxml_bars_are_complete():
    piece = piece_from_pitches([[60, 67]] * 3 + [[62]] * 3 + [[]] * 2 + [[48, 72]] * 4, "t")
    root = ElementTree.fromstring(musicxml.to_musicxml(piece, 1).split("?>", 1)[1])
    for measure in root.iter("measure"):
        lengths = {"1": 0, "2": 0}
        for note in measure.iter("note"):
            if note.find("chord") is None:
                lengths[note.find("staff").text] += int(note.find("duration").text)
        assert lengths == {"1": 4, "2": 4}
    assert (
        len(root.findall(".//tie[@type='start']")) == len(root.findall(".//tie[@type='stop']")) == 2
    )
    pytest.importorskip("verovio")
    assert musicxml.to_svg(piece, 1).count("<svg") >= 1


def test_accidentals_are_as_read():
    """An accidental is in force for its position on the staff until the end of the bar."""
    frames = [[61, 64], [60], [61, 63], [64], [63], [66], [65, 66], [51, 49], [52]]
    piece = piece_from_pitches(frames, "t")
    root = ElementTree.fromstring(musicxml.to_musicxml(piece, 1).split("?>", 1)[1])
    read, written, steps = [], 0, {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
    fifths = int(root.find(".//fifths").text)
    signature = {"FCGDAEB"[k]: 1 for k in range(fifths)}
    signature |= {"BEADGCF"[k]: -1 for k in range(-fifths)}
    signs = {"double-sharp": 2, "sharp": 1, "natural": 0, "flat": -1, "flat-flat": -2}
    for measure in root.iter("measure"):
        force = {}
        for note in measure.iter("note"):
            if (pitch := note.find("pitch")) is None:
                continue
            step, octave, staff = (
                pitch.find("step").text,
                int(pitch.find("octave").text),
                note.find("staff").text,
            )
            if (sign := note.find("accidental")) is not None:
                written += 1
                force[step, octave, staff] = signs[sign.text]
            alter = force.get((step, octave, staff), signature.get(step, 0))
            read.append(12 * (octave + 1) + steps[step] + alter)
    assert sorted(read) == sorted(p for frame in frames for p in frame)
    pytest.importorskip("verovio")
    assert musicxml.to_svg(piece, 1).count('class="accid"') >= written > 0


def test_frames_are_spelled_in_their_key():
    record = {"key": "E minor", "frames_a_quarter": 1, "frames": [[63, 66], [64, 67]], "notes": []}
    assert MUSIC.render(record).splitlines() == ["E minor, 2 frames", "F#4 D#4  G4 E4"]
    flats = record | {"key": "F minor", "frames": [[61, 68], []]}
    assert MUSIC.render(flats).splitlines()[1] == "Ab4 Db4  -"
    scale = piece_from_pitches([[p] for p in (63, 65, 67, 68, 70, 72, 74, 75, 70, 67, 63)], "t")
    root = ElementTree.fromstring(musicxml.to_musicxml(scale, 1).split("?>", 1)[1])
    assert root.findtext(".//fifths") == "-3"  # E flat major
    assert not root.findall(".//accidental")


def test_musicxml_round_trip(tmp_path, monkeypatch):
    pytest.importorskip("music21", reason="pip install 'memorycell[musicxml]'")
    piece = piece_from_pitches([[60, 67]] * 3 + [[62]] * 3 + [[]] * 2 + [[48, 72]] * 4, "t")
    for frames in (1, 4):
        (tmp_path / "a.musicxml").write_text(musicxml.to_musicxml(piece, frames))
        np.testing.assert_array_equal(read_piece(tmp_path / "a.musicxml", frames), piece)
    larger = "".join(f'<!ENTITY a{k + 1} "&a{k};&a{k};&a{k};&a{k};">' for k in range(29))
    bomb = f'<!DOCTYPE b [<!ENTITY a0 "lol">{larger}]><score-partwise>&a29;</score-partwise>'
    for name, text in (
        ("bomb", bomb),
        ("cut", musicxml.to_musicxml(piece, 1)[:700]),
        ("none", "la la"),
        ("empty", ""),
    ):
        (tmp_path / f"{name}.musicxml").write_text(text)
        with pytest.raises(DataError, match=f"{name}.musicxml: "):
            read_piece(tmp_path / f"{name}.musicxml", 1)

    def fail(*_, **__):
        raise ValueError

    monkeypatch.setattr("music21.converter.parseFile", fail)
    with pytest.raises(DataError, match="not readable MusicXML \\(ValueError\\)"):
        read_piece(tmp_path / "a.musicxml", 1)


def test_musicxml_without_music21(tmp_path, monkeypatch):
    (tmp_path / "a.musicxml").write_text("<score-partwise/>")
    monkeypatch.setitem(sys.modules, "music21", None)
    for source in (tmp_path / "a.musicxml", tmp_path):
        with pytest.raises(UserError, match=r"a.musicxml.* pip install 'memorycell\[musicxml\]'"):
            prepare(str(source), MusicSettings(**SMALL))


def test_unreadable_files(tmp_path):
    good = midi.to_midi(piece_from_pitches(tune(0), "t"), 1, 90)
    (tmp_path / "cut.mid").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.mid").write_text("no music")
    (tmp_path / "zero.mid").write_bytes(b"")
    drums, empty = symusic.Score(480), symusic.Score(480)
    track = symusic.Track("d", 0, True)
    track.notes.append(symusic.Note(0, 480, 38, 90))
    drums.tracks.append(track)
    (tmp_path / "drums.mid").write_bytes(drums.dumps_midi())
    (tmp_path / "empty.mid").write_bytes(empty.dumps_midi())
    (tmp_path / "low.json").write_text("[[5]]")
    (tmp_path / "no.json").write_text("{")
    wrong = {
        "cut": "truncated",
        "text": "not a MIDI",
        "zero": "not a MIDI",
        "drums": "only drums",
        "empty": "no notes|truncated",
    }
    for name, what in wrong.items():
        with pytest.raises(DataError, match=what) as caught:
            read_piece(tmp_path / f"{name}.mid", 1)
        assert "\n" not in str(caught.value)
    for length in range(0, len(good) - 1, 7):
        (tmp_path / "cut.mid").write_bytes(good[:length])
        with pytest.raises(DataError):
            read_piece(tmp_path / "cut.mid", 1)
    for name, what in {"low": "not a piano key", "no": "is not JSON"}.items():
        with pytest.raises(DataError, match=what):
            read_piece(tmp_path / f"{name}.json", 1)
    crowd = symusic.Score(480)
    track = symusic.Track("c", 0, False)
    for k in range(10_000):
        track.notes.append(symusic.Note(0, 480, 21 + k % 88, 90))
    crowd.tracks.append(track)
    (tmp_path / "crowd.mid").write_bytes(crowd.dumps_midi())
    assert read_piece(tmp_path / "crowd.mid", 1).shape == (1, 88)


def test_folder_is_split_by_content_and_bad_files_are_counted(tmp_path):
    for k in range(40):
        (tmp_path / f"{k}.mid").write_bytes(midi.to_midi(piece_from_pitches(tune(k), "t"), 1, 90))
    (tmp_path / "bad.mid").write_text("no")
    (tmp_path / "same.mid").write_bytes((tmp_path / "3.mid").read_bytes())
    dataset = prepare(str(tmp_path), MusicSettings(**SMALL, voices=3))
    assert "1 of 42 files left out: the first: " in dataset.notes[0]
    assert "the highest 3 are used" in dataset.notes[1]
    parts = {split: {p.tobytes() for p in part} for split, part in dataset.pieces.items()}
    assert not parts["train"] & parts["test"]
    assert max(int(p.sum(1).max()) for part in dataset.pieces.values() for p in part) == 3


def test_transposition():
    piece = piece_from_pitches(tune(0), "t")
    shifts = set()
    for k in range(60):
        moved = transpose(piece, np.random.default_rng(k), 5)
        assert moved.sum() == piece.sum()
        shift = int(np.flatnonzero(moved.any(0))[0] - np.flatnonzero(piece.any(0))[0])
        np.testing.assert_array_equal(np.roll(moved, -shift, 1), piece)
        shifts.add(shift)
    assert shifts == set(range(-5, 6))
    edge = np.zeros((2, NUM_KEYS), bool)
    edge[:, [0, 86]] = True
    assert {
        int(np.flatnonzero(transpose(edge, np.random.default_rng(k), 5)[0])[0]) for k in range(30)
    } == {0, 1}
