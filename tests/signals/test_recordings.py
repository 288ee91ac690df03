"""Labelled files: lists of transcripts, folders and names."""

import pytest

from memorycell.errors import DataError
from memorycell.signals.recordings import find_recordings


def test_labels_from_lists_folders_and_names(tmp_path):
    for name in ("a.wav", "sub/b.wav", "c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "transcripts.txt").write_text(
        "; a comment\n\na: One two: three\nsub/b\tFour\nd: gone\n"
    )
    with pytest.raises(DataError, match=r"set: 1 of 3 transcripts would be left out .*lossy=true"):
        find_recordings(tmp_path, "set", (".wav",))
    found, transcribed, notes = find_recordings(tmp_path, "set", (".wav",), lossy=True)
    assert [(r.path.name, r.label) for r in found] == [
        ("a.wav", "One two: three"),
        ("b.wav", "Four"),
    ]
    assert transcribed
    assert notes == [
        "layout: transcripts.txt",
        "1 of 3 transcripts left out: no file (the first: 'd')",
        "not used, without a transcript: 1 file (the first: 'c.wav')",
    ]
    (tmp_path / "transcripts.txt").write_text("a: one\nno sign\n")
    with pytest.raises(DataError, match=r"transcripts.txt: line 2: expected name: text"):
        find_recordings(tmp_path, "set", (".wav",))
    (tmp_path / "transcripts.txt").unlink()
    (tmp_path / "labels.tsv").write_text("path\tlabel\na.wav\tyes\nsub/b.wav\tno\nc.wav\tyes\n")
    found, _, _ = find_recordings(tmp_path, "set", (".wav",))
    assert [r.label for r in found] == ["yes", "yes", "no"]
    (tmp_path / "labels.tsv").write_text("one\ttwo\n1\t2\n")
    with pytest.raises(DataError, match="a column of file names"):
        find_recordings(tmp_path, "set", (".wav",))
    (tmp_path / "labels.tsv").unlink()
    found, transcribed, _ = find_recordings(tmp_path, "set", (".wav",), lossy=True)
    assert ([r.label for r in found], transcribed) == (["sub"], False)
    with pytest.raises(DataError, match="expected a pattern"):
        find_recordings(tmp_path, "set", (".wav",), names="{speaker}")
    with pytest.raises(DataError, match="no file name matches"):
        find_recordings(tmp_path, "set", (".wav",), names="{label}_{index}")
