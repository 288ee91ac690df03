"""Text files of `predict` in the encodings of other systems."""

import json

import pytest

pytest.importorskip("regex", reason="pip install 'memorycell[language]'")
pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")
pytest.importorskip("sklearn", reason="pip install 'memorycell[sentiment]'")

from untrained import write_data, write_model

TEXT = "Grüße, das Wetter ist schön"
READ = {
    "text": lambda record: record["text"],
    "sentiment": lambda record: record["texts"][0]["text"],
    "translation": lambda record: record["translations"][0]["source"],
    "chat": lambda record: record["turns"][0]["said"],
}
"""Task -> the input as its record repeats it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encodings")
    write_data(folder)
    for task in READ:
        write_model(task, folder)
    return folder


@pytest.mark.parametrize("task", READ)
def test_text_files_of_other_systems(memorycell, folder, monkeypatch, task):
    monkeypatch.chdir(folder)
    for name, encoding in (
        ("u8", "utf-8"),
        ("u16", "utf-16"),
        ("be", "utf-16-be"),
        ("w", "cp1252"),
    ):
        mark = "\ufeff" if name == "be" else ""
        (folder / f"{name}.txt").write_bytes((mark + TEXT + "\r\n").encode(encoding))
    read = {}
    for name, pairs in (("u8", ()), ("u16", ()), ("be", ()), ("w", ("--set", "encoding=cp1252"))):
        given = ("predict", f"{task}.safetensors", f"{name}.txt", "--json", *pairs)
        status, stdout, stderr = memorycell(*given)
        assert status == 0, stderr
        read[name] = READ[task](json.loads(stdout.splitlines()[-1]))
    assert read["u8"].startswith(TEXT)
    assert set(read.values()) == {read["u8"]}
    status, _, stderr = memorycell("predict", f"{task}.safetensors", "w.txt")
    assert status == 2
    assert "w.txt: line 1: byte 2 (0xfc) is not utf-8; set the encoding: --set encoding=" in stderr
