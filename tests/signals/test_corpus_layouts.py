"""Lists of transcripts as speech corpora and other programs write them."""

import json
import math

import pytest

from memorycell.errors import DataError
from memorycell.signals.examples import Example
from memorycell.signals.recordings import find_recordings
from memorycell.signals.splitting import SplitSettings, split_examples

SUFFIXES = (".wav", ".flac", ".mp3")


def corpus(folder, files: list[str], **lists: str):
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    for name, text in lists.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def found(folder, **options):
    recordings, transcribed, notes = find_recordings(folder, "set", SUFFIXES, **options)
    assert transcribed
    return {r.path.name: (r.label, dict(r.fields)) for r in recordings}, notes


def test_ljspeech(tmp_path):
    files = [f"wavs/LJ{k}.wav" for k in range(1, 4)]
    text = 'LJ1|Dr. "No|Doctor "No\nLJ2|In 1906,|In nineteen six,\nLJ3|plain|\n'
    labels, notes = found(corpus(tmp_path, files, metadata__csv=text))
    assert {name: label for name, (label, _) in labels.items()} == {
        "LJ1.wav": 'Doctor "No',
        "LJ2.wav": "In nineteen six,",
        "LJ3.wav": "plain",
    }
    assert notes == ["layout: LJSpeech (metadata.csv)"]
    (tmp_path / "metadata.csv").write_text("wavs/LJ1.wav|7|one\nwavs/LJ2.wav|8|two\n")
    assert found(tmp_path)[0]["LJ2.wav"] == ("two", {"speaker": "8"})


def test_common_voice(tmp_path):
    rows = ["client_id\tpath\tsentence\tup_votes", 'ann\tc1.mp3\tSay "hi\t2', "bob\tc2\tBye.\t3"]
    files = ["clips/c1.mp3", "clips/c2.mp3", "clips/c3.mp3"]
    corpus(tmp_path, files, validated__tsv="\n".join(rows), invalidated__tsv="a\tb\n1\t2\n")
    labels, notes = found(tmp_path)
    assert labels["c1.mp3"][0] == 'Say "hi'
    assert labels["c2.mp3"][1]["speaker"] == "bob"
    assert notes[0] == "layout: Common Voice (validated.tsv, clips)"
    assert notes[1] == "not used, without a transcript: 1 file (the first: 'clips/c3.mp3')"


def test_librispeech(tmp_path):
    files = ["84/121/84-121-0000.flac", "84/121/84-121-0001.flac", "85/1/85-1-0000.flac"]
    corpus(tmp_path, files)
    (tmp_path / "84/121/84-121.trans.txt").write_text("84-121-0000 GO DO\n84-121-0001 STAY\n")
    (tmp_path / "85/1/85-1.trans.txt").write_text("85-1-0000 WHY\n")
    labels, notes = found(tmp_path)
    assert labels["84-121-0000.flac"] == ("GO DO", {"speaker": "84", "chapter": "121"})
    assert labels["85-1-0000.flac"][0] == "WHY"
    assert notes == ["layout: LibriSpeech (2 lists *.trans.txt)"]
    assert len(found(tmp_path / "84/121/84-121.trans.txt")[0]) == 2


def test_kaldi(tmp_path):
    corpus(tmp_path / "audio", ["a.wav", "b.wav", "c.wav"])
    data = corpus(
        tmp_path / "data",
        [],
        wav__scp=f"u1 {tmp_path}/audio/a.wav\nu2 ../audio/b.wav\nu3 touch {tmp_path}/ran |\n",
        text="u1 one two\nu2 three\nu3 four\n",
        utt2spk="u1 ann\nu2 bob\nu3 bob\n",
    )
    with pytest.raises(DataError, match="1 of 3 transcripts would be left out .a command in wav"):
        found(data)
    labels, notes = found(data, lossy=True)
    assert labels == {
        "a.wav": ("one two", {"utterance": "u1", "speaker": "ann"}),
        "b.wav": ("three", {"utterance": "u2", "speaker": "bob"}),
    }
    assert notes[0] == "layout: Kaldi (wav.scp, text, utt2spk)"
    assert not (tmp_path / "ran").exists()


KALDI = {
    "wav__scp": "r1 a.wav\nr2 b.wav\n",
    "text": "u1 one\nu2 two\nu3 three\n",
    "utt2spk": "u1 ann\nu2 bob\nu3 bob\n",
}


def test_kaldi_with_segments(tmp_path):
    segments = "u1 r1 0 1.25\nu2 r1 1.25 2.5 1\nu3 r2 0.5 -1\nu4 r2 0 0.5\n"
    corpus(tmp_path, ["a.wav", "b.wav"], **KALDI, segments=segments)
    recordings, _, notes = find_recordings(tmp_path, "set", SUFFIXES)
    assert [(r.path.name, r.part, r.label) for r in recordings] == [
        ("a.wav", (0, 1.25), "one"),
        ("a.wav", (1.25, 2.5), "two"),
        ("b.wav", (0.5, math.inf), "three"),
    ]
    assert recordings[1].fields == {"utterance": "u2", "recording": "r1", "speaker": "bob"}
    assert notes == ["layout: Kaldi (wav.scp, text, segments, utt2spk)"]


@pytest.mark.parametrize(
    "line", ["u1 r1 0", "u1 r1 1 1", "u1 r1 2 1", "u1 r1 -1 1", "u1 r1 nan 1", "u1 r1 0 x", "u1"]
)
def test_a_wrong_segment_is_named(tmp_path, line):
    corpus(tmp_path, ["a.wav", "b.wav"], **KALDI, segments=f"u0 r1 0 1\n{line}\n")
    with pytest.raises(DataError, match=r"segments: segment 2 .'u1'.: expected UTTERANCE RECORDI"):
        find_recordings(tmp_path, "set", SUFFIXES)


def test_a_list_of_which_nothing_is_left(tmp_path):
    corpus(tmp_path, ["a.wav", "b.wav"], **KALDI, segments="u9 r1 0 1\n")
    with pytest.raises(DataError, match="no transcript .not in segments.; expected .wav"):
        find_recordings(tmp_path, "set", SUFFIXES)


def test_an_utterance_without_a_segment_is_left_out(tmp_path):
    corpus(tmp_path, ["a.wav", "b.wav"], **KALDI, segments="u1 r1 0 1\nu2 r1 1 2\n")
    with pytest.raises(DataError, match="1 of 3 transcripts would be left out .not in segments"):
        find_recordings(tmp_path, "set", SUFFIXES)


@pytest.mark.parametrize(
    "name",
    [
        "wavs/a.wav",
        "./wavs/a.wav",
        r"wavs\a.wav",
        r"C:\corpus\wavs\a.wav",
        "/elsewhere/wavs/a.wav",
        "a.wav",
        "a",
        "WAVS/A.WAV",
        "wavs/a.flac",
    ],
)
def test_names_of_files_in_any_notation(tmp_path, name):
    corpus(tmp_path, ["wavs/a.wav", "wavs/b.wav"])
    rows = [{"file": name, "text": "one"}, {"file": str(tmp_path / "wavs/b.wav"), "text": "two"}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    labels, notes = found(tmp_path)
    assert {k: v[0] for k, v in labels.items()} == {"a.wav": "one", "b.wav": "two"}
    assert ("has another suffix" in " ".join(notes)) == name.endswith(".flac")


def test_an_ambiguous_name_is_missing(tmp_path):
    corpus(
        tmp_path, ["x/a.wav", "y/a.wav", "b.wav"], labels__csv="file,text\na.wav,one\nb.wav,two\n"
    )
    labels, notes = found(tmp_path, lossy=True)
    assert list(labels) == ["b.wav"]
    assert "no file (the first: 'a.wav')" in notes[1]


def test_every_loss_is_counted(tmp_path):
    rows = "file,text\n" + "".join(f"{k}.wav,word {k}\n" for k in range(100))
    rows += "7.wav,again\n,nothing\n8.wav,\ngone.wav,x\n"
    corpus(tmp_path, [f"{k}.wav" for k in range(100)], labels__csv=rows)
    labels, notes = found(tmp_path)
    assert len(labels) == 100
    assert labels["7.wav"][0] == "word 7"
    assert sorted(notes[1:]) == [
        "1 of 104 transcripts left out: its file was listed before",
        "1 of 104 transcripts left out: no file (the first: 'gone.wav')",
        "1 of 104 transcripts left out: no file name",
        "1 of 104 transcripts left out: no text",
    ]


def test_encodings_of_lists(tmp_path):
    corpus(tmp_path, ["a.wav"])
    (tmp_path / "transcripts.txt").write_bytes("a: Wärme\n".encode("cp1252"))
    with pytest.raises(DataError, match="transcripts.txt: line 1: byte .*encoding=cp1252"):
        found(tmp_path)
    assert found(tmp_path, encoding="cp1252")[0]["a.wav"][0] == "Wärme"
    (tmp_path / "transcripts.txt").write_bytes("a: Wärme\r\n".encode("utf-16"))
    assert found(tmp_path)[0]["a.wav"][0] == "Wärme"


def test_speakers_are_in_one_split():
    examples = [
        Example(None, f"text {k}", f"{k}.wav", {"speaker": f"s{k % 20}"}) for k in range(400)
    ]
    splits, notes = split_examples(examples, SplitSettings(), classes=False, where="set")
    speakers = [{e.fields["speaker"] for e in members} for members in splits.values()]
    assert not speakers[0] & speakers[1]
    assert not speakers[0] & speakers[2]
    assert not speakers[1] & speakers[2]
    assert [len(splits[name]) for name in ("valid", "test")] == [40, 40]
    assert notes == [
        "split by speaker: 16 train, 2 valid, 2 test; 0 of 40 test transcripts also occur in"
        " training"
    ]
    few = [Example(None, f"text {k}", f"{k}.wav", {"speaker": f"s{k % 2}"}) for k in range(400)]
    splits, notes = split_examples(few, SplitSettings(), classes=False, where="set")
    assert not notes
    assert len(splits["train"]) > 250
