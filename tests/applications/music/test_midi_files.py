"""MIDI files: bytes built by hand, and two other readers as the truth for ordinary files."""

import io
import json
from collections import defaultdict, deque
from itertools import accumulate

import numpy as np
import pytest

symusic = pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from memorycell.applications.music.dataset import prepare  # noqa: E402
from memorycell.applications.music.pieces import piece_notes  # noqa: E402
from memorycell.applications.music.reading import (  # noqa: E402
    read_piece,
    read_pieces,
    read_score,
    read_scores,
)
from memorycell.applications.music.reading_log import ReadingLog  # noqa: E402
from memorycell.applications.music.settings import MusicSettings  # noqa: E402
from memorycell.applications.music.smf import parse_midi  # noqa: E402
from memorycell.errors import DataError  # noqa: E402

TICKS = 480
END = b"\x00\xff\x2f\x00"
SYSEX = b"\xf0\x05\x7e\x7f\x09\x01\xf7"


def varint(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.insert(0, 0x80 | value & 0x7F)
    return bytes(digits)


def on(pitch, channel=0, velocity=80):
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch, channel=0):
    return bytes([0x80 | channel, pitch, 64])


def chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "big") + content


def header(kind=1, tracks=1, division=TICKS) -> bytes:
    return chunk(b"MThd", b"".join(v.to_bytes(2, "big") for v in (kind, tracks, division)))


def track(*events: tuple[int, bytes], end: bytes = END) -> bytes:
    """(ticks after the previous event, message), …"""
    return chunk(b"MTrk", b"".join(varint(delta) + message for delta, message in events) + end)


def midi(*tracks: bytes, kind=1, division=TICKS) -> bytes:
    return header(kind, len(tracks), division) + b"".join(tracks)


def scale(length=TICKS, pitches=(60, 62, 64, 65, 67, 69, 71, 72), channel=0):
    return [event for p in pitches for event in ((0, on(p, channel)), (length, off(p, channel)))]


def notes_of(data: bytes) -> list[list[tuple[int, int, int]]]:
    return [[(n.begin, n.end, n.pitch) for n in own] for own in parse_midi(data).tracks]


def read(tmp_path, data: bytes, frames=1, name="t.mid"):
    """(piece, notes on the reading)."""
    (tmp_path / name).write_bytes(data)
    log = ReadingLog()
    piece = read_piece(tmp_path / name, frames, log)
    return piece, log.lines(frames)


def by_mido(data: bytes) -> list[tuple[int, int, int]]:
    """(begin, end, pitch) of all notes, first in first out, from the messages that mido reads."""
    mido = pytest.importorskip("mido")
    notes = []
    for own in mido.MidiFile(file=io.BytesIO(data)).tracks:
        sounding = defaultdict(deque)
        times = accumulate(message.time for message in own)
        for time, message in zip(times, own, strict=True):
            if message.type == "note_on" and message.velocity:
                sounding[message.channel, message.note].append(time)
            elif message.type in ("note_on", "note_off"):
                key = message.channel, message.note
                if sounding[key]:
                    notes.append((sounding[key].popleft(), time, message.note))
    return sorted(notes)


def random_midi(seed: int) -> bytes:
    """Tracks of random notes that end, with running status, controllers, programs, pitch bends,
    pressure, meta events and SysEx.
    """
    rng = np.random.default_rng(seed)
    tracks = []
    for _ in range(int(rng.integers(1, 4))):
        events, sounding, status = [], [], None
        for _ in range(int(rng.integers(1, 120))):
            choice, channel = rng.random(), int(rng.integers(16))
            delta = int(rng.choice([0, 1, 120, 127, 128, 20_000]))
            if choice < 0.5:
                message = on(int(rng.integers(128)), channel)
                sounding.append((channel, message[1]))
            elif choice < 0.8 and sounding:
                channel, pitch = sounding.pop(int(rng.integers(len(sounding))))
                message = off(pitch, channel) if rng.random() < 0.5 else on(pitch, channel, 0)
                delta = max(delta, 1)
            else:
                message = [
                    bytes([0xB0 | channel, 64, 127]),
                    bytes([0xC0 | channel, 5]),
                    bytes([0xD0 | channel, 9]),
                    bytes([0xE0 | channel, 1, 2]),
                    bytes([0xA0 | channel, 60, 2]),
                    b"\xff\x51\x03\x07\xa1\x20",
                    SYSEX,
                ][int(rng.integers(7))]
            if message[0] >= 0xF0:
                status = None
            elif message[0] == status and rng.random() < 0.7:
                message = message[1:]
            else:
                status = message[0]
            events.append((delta, message))
        events += [(1, off(pitch, channel)) for channel, pitch in sounding]
        tracks.append(track(*events))
    return midi(*tracks)


@pytest.mark.parametrize("seed", range(30))
def test_ordinary_files_read_as_by_other_readers(seed):
    data = random_midi(seed)
    ours = sorted(note for own in notes_of(data) for note in own)
    assert ours == by_mido(data)
    theirs = [
        (n.time, n.time + n.duration, n.pitch)
        for own in symusic.Score.from_midi(data).tracks
        for n in own.notes
    ]
    assert ours == sorted(theirs)
    assert not +parse_midi(data).repaired


@pytest.mark.parametrize("message", [SYSEX, b"\xff\x01\x02hi", b"\xf8"])
def test_running_status_continues_after_a_system_message(tmp_path, message):
    pairs = [event for p in range(60, 68) for event in ((0, bytes([p, 80])), (480, bytes([p, 0])))]
    data = midi(track((0, on(50)), (480, on(50, velocity=0)), (0, message), *pairs))
    assert notes_of(data)[0][1:] == [(480 * k, 480 * k + 480, 59 + k) for k in range(1, 9)]
    piece, notes = read(tmp_path, data)
    assert piece.sum() == 9
    assert notes == ["8 notes: running status continued after a system message"]


def test_notes_that_never_end(tmp_path):
    hanging = midi(track((0, on(60)), (0, on(64)), (480, off(64)), (480, b"\xff\x01\x00")))
    assert notes_of(hanging) == [[(0, 960, 60), (0, 480, 64)]]
    assert read(tmp_path, hanging)[1] == [
        "1 note: without an end, ended with the next note of the key, or with the track"
    ]
    again = midi(track((0, on(60)), (480, on(60)), (480, on(60)), (480, off(60))))
    assert notes_of(again) == [[(0, 480, 60), (480, 960, 60), (960, 1440, 60)]]
    silenced = midi(track((0, on(60)), (480, b"\xb0\x7b\x00"), (480, b"\xff\x01\x00")))
    assert notes_of(silenced) == [[(0, 480, 60)]]


def test_overlapping_notes_of_a_key_end_in_order():
    data = midi(track((0, on(60)), (10, on(60)), (10, off(60)), (10, off(60)), (5, off(60))))
    assert notes_of(data) == [[(0, 20, 60), (10, 30, 60)]]
    data = midi(track((0, on(60)), (10, on(60)), (0, off(60)), (10, off(60))))
    assert notes_of(data) == [[(0, 10, 60), (10, 20, 60)]]
    data = midi(track((0, on(60)), (0, on(60, 1)), (10, off(60, 1)), (10, off(60))))
    assert notes_of(data) == [[(0, 20, 60), (0, 10, 60)]]


def test_notes_of_no_length_sound_for_a_frame(tmp_path):
    piece, notes = read(
        tmp_path, midi(track((0, on(60)), (0, off(60)), (960, on(64)), (9, off(64))))
    )
    assert piece_notes(piece) == [(0, 1, 60), (2, 1, 64)]
    assert notes == ["1 note: of no length, given the shortest one"]


def test_independent_tracks_are_pieces_of_their_own(tmp_path):
    data = midi(track(*scale()), track(*scale(pitches=(72, 71, 69))), kind=2)
    piece, notes = read(tmp_path, data)
    assert piece.sum(1).tolist() == [1] * 8
    assert notes == [
        "1 file: independent tracks (MIDI format 2), each of them a piece",
        "1 file: only the first piece is read",
    ]
    together, notes = read(tmp_path, midi(track(*scale()), track(*scale(pitches=(48, 50, 52)))))
    assert (together.sum(1).tolist(), notes) == ([2] * 3 + [1] * 5, [])
    for k in range(20):
        own = [track(*scale(pitches=(40 + k + j, 50 + j, 45 + k))) for j in range(3)]
        (tmp_path / f"{k}.mid").write_bytes(midi(*own, kind=2))
    (tmp_path / "t.mid").unlink()
    dataset = prepare(str(tmp_path), MusicSettings(hidden=4))
    assert sum(map(len, dataset.pieces.values())) == 60
    assert dataset.notes[0].startswith("20 files: independent tracks")


def test_a_riff_container(tmp_path):
    data = midi(track(*scale()))
    content = b"RMID" + b"LIST\x03\x00\x00\x00abc\x00" + b"data" + len(data).to_bytes(4, "little")
    riff = b"RIFF" + (len(content) + len(data)).to_bytes(4, "little") + content + data
    piece, _ = read(tmp_path, riff, name="t.rmi")
    np.testing.assert_array_equal(piece, read(tmp_path, data)[0])
    with pytest.raises(DataError, match="RIFF file without MIDI data"):
        read(tmp_path, riff[:20])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (midi(track(*scale()), division=0), "0 ticks per quarter note"),
        (midi(track(*scale()), division=0xE728), "SMPTE"),
        (midi(track(*scale()), kind=3), "MIDI format 3"),
        (midi(track(*scale()))[:13], "header is incomplete"),
        (header(tracks=2) + track(*scale()), "1 of 2 tracks"),
        (midi(track(*scale()))[:-9], "a track is longer than the file"),
        (midi(chunk(b"MTrk", b"\x00\x90\x3c")), "track 1 ends inside an event"),
        (midi(chunk(b"MTrk", b"\x00\xf0\x60\x00")), "track 1 ends inside an event"),
        (midi(track(*scale()), chunk(b"MTrk", b"\x00\x3c\x40")), "track 2, byte .*0x3c where"),
        (midi(track((0, b"\x90\x3c\x90"))), "track 1, byte 24: a status byte inside an event"),
        (midi(track((0, b"\xf4"))), "undefined status byte 0xf4"),
        (midi(chunk(b"MTrk", b"\xff\xff\xff\xff\x7f")), "longer than 4 bytes"),
        (midi(track(*scale(channel=9))), "only drums"),
        (midi(track()), "no notes"),
        (midi(track(*scale(pitches=(3, 120)))), "no notes of the piano"),
        (midi(track((0, on(60)), (2**27, off(60)))), "frames are too many"),
        (b"no music", "not a MIDI file"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, data, problem):
    with pytest.raises(DataError, match=f"t.mid: .*{problem}") as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (midi(track(*scale(), end=END + b"\x90\x3c\x40")), "bytes after the end of a track"),
        (midi(track(*scale())) + b"\x00\x00garbage", "bytes after the end of a track"),
        (midi(track(*scale())) + b"\x1a", "bytes after the end of a track"),
        (header(tracks=1) + track(*scale()) + track(), "more tracks than the header declares"),
        (midi(track(*scale(), end=b"")), None),
        (header() + chunk(b"XFIH", b"other") + track(*scale()), None),
    ],
)
def test_irregular_files_are_read(tmp_path, data, note):
    piece, notes = read(tmp_path, data)
    np.testing.assert_array_equal(piece, read(tmp_path, midi(track(*scale())))[0])
    assert len(notes) == (note is not None)
    assert all(note in line for line in notes)


def test_every_truncation_is_refused():
    data = midi(track(*scale()), track(*scale()))
    for length in range(len(data)):
        with pytest.raises(ValueError, match="MIDI file"):
            parse_midi(data[:length])


def test_damaged_bytes_raise_nothing_else():
    rng = np.random.default_rng(0)
    for seed in range(10):
        data = random_midi(seed)
        for _ in range(200):
            damaged = bytearray(data)
            for _ in range(int(rng.integers(1, 4))):
                damaged[int(rng.integers(len(data)))] = int(rng.integers(256))
            try:
                file = parse_midi(bytes(damaged))
            except ValueError as error:
                assert len(str(error)) < 200
            else:
                assert all(n.begin < n.end for own in file.tracks for n in own)


def test_what_is_left_out_is_counted_and_limited(tmp_path):
    drums = track(*scale(channel=9))
    _, notes = read(tmp_path, midi(track(*scale()), drums))
    assert notes == ["8 notes: drums, which are not read"]
    mostly = [track(*scale(pitches=[60 + j for j in range(24)])) for _ in range(2)]
    log = ReadingLog()
    (tmp_path / "t.mid").write_bytes(midi(*mostly, track(*scale(pitches=(5, 6)))))
    read_piece(tmp_path / "t.mid", 1, log)
    assert log.lines(1) == ["2 of 50 notes left out: outside the piano, A0 to C8"]
    log.check("t", lossy=False)
    for k in range(30):
        low = (5,) if k % 2 else ()
        own = track(*scale(pitches=(40 + k, 50, 45 + k, *low)))
        (tmp_path / f"{k}.mid").write_bytes(midi(own))
    (tmp_path / "t.mid").unlink()
    for source in (read_pieces, read_scores):
        with pytest.raises(DataError, match=r"15 of 105 notes would be left out.*lossy=true"):
            source(str(tmp_path), 1)
        notes = source(str(tmp_path), 1, lossy=True).notes
        assert notes == ["15 of 105 notes left out: outside the piano, A0 to C8"]


def test_unreadable_files_are_limited(tmp_path):
    for k in range(30):
        own = track(*scale(pitches=(40 + k, 50, 45 + k)))
        (tmp_path / f"{k}.mid").write_bytes(midi(own) if k % 10 else b"no")
    with pytest.raises(DataError, match="3 of 30 files would be left out"):
        read_pieces(str(tmp_path), 1)
    notes = read_pieces(str(tmp_path), 1, lossy=True).notes
    assert "3 of 30 files left out" in notes[0]
    assert "0.mid: not a MIDI file" in notes[0]


def test_tempo_changes_do_not_move_notes(tmp_path):
    slow, fast = b"\xff\x51\x03\x0f\x42\x40", b"\xff\x51\x03\x03\xd0\x90"
    piece, notes = read(tmp_path, midi(track((0, slow), *scale()[:8], (0, fast), *scale()[8:])))
    np.testing.assert_array_equal(piece, read(tmp_path, midi(track(*scale())))[0])
    assert notes == ["1 file: tempo changes are not read; positions are in quarter notes"]


def test_triplets_that_the_frames_do_not_represent_are_counted(tmp_path):
    triplets = midi(track(*scale(length=TICKS // 3, pitches=range(60, 72))))
    _, notes = read(tmp_path, triplets, frames=4)
    assert notes == [
        "8 of 12 notes moved by more than 1/32 of a quarter note to the nearest of 4 frames per"
        " quarter note; --set frames=3 represents them"
    ]
    for frames in (3, 12):
        piece, notes = read(tmp_path, triplets, frames=frames)
        assert notes == []
        assert piece_notes(piece) == [(k * frames // 3, frames // 3, 60 + k) for k in range(12)]
    MusicSettings(frames=12)


def test_long_notes_of_events_are_counted(tmp_path):
    (tmp_path / "t.mid").write_bytes(midi(track(*scale(length=17 * TICKS, pitches=(60, 62)))))
    log = ReadingLog()
    read_score(tmp_path / "t.mid", 4, log)
    assert log.lines(4) == ["2 notes: longer than 16 quarter notes, shortened"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[60], 5]", "frame 2: 5 is not a list"),
        ("[[true]]", "True is not a piano key"),
        ("[[60.5]]", "60.5 is not a piano key"),
        ('[["60"]]', "'60' is not a piano key"),
        ("[[NaN]]", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ('{"train": 1, "valid": [], "test": []}', "expected train, valid and test"),
        ('{"train": [5], "valid": [], "test": []}', "train 1: expected a list of frames"),
        ('{"train": []}', "expected train, valid and test"),
        (json.dumps([[60]] * 20_001), "20,001 frames are too many"),
    ],
)
def test_unusable_json(tmp_path, text, problem):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        prepare(str(tmp_path / "t.json"), MusicSettings(hidden=4))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
