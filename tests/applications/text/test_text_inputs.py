"""Texts as they are found, options out of range, damaged snapshots of text sessions."""

import gzip
import json
import random

import numpy as np
import pytest
import torch
from text_data import tale

from memorycell.application.contract import ModelFile
from memorycell.applications.chat.session import ChatSession
from memorycell.applications.text.predict import PredictOptions, predict
from memorycell.applications.text.prepare import prepare
from memorycell.applications.text.session import TextSession
from memorycell.applications.text.settings import TextSettings
from memorycell.errors import DataError, ModelFileError, StateError
from memorycell.language.codec import TextCodec, fit_text_codec
from memorycell.language.model import LanguageModel
from memorycell.language.search import sample

SMALL = TextSettings(hidden=8, embedding=8, vocabulary=60)


def model_file(codec):
    """An untrained model."""
    torch.manual_seed(0)
    return ModelFile(LanguageModel(SMALL.model_config(len(codec))).eval(), codec, {})


@pytest.fixture(scope="module", params=["char", "word", "piece"])
def file(request):
    return model_file(fit_text_codec([tale(400)], request.param, vocabulary=60))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding):
    text = tale(400) + "café\n"
    data = text.replace("\n", "\r\n").encode(encoding)
    settings = TextSettings(encoding=encoding if encoding == "cp1252" else None)
    for name, content in (("t.txt", data), ("t.txt.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        dataset = prepare(str(tmp_path / name), settings)
        assert "".join(part[0] for part in dataset.texts.values()) == text
    if encoding == "cp1252":
        with pytest.raises(DataError, match="--set encoding=cp1252"):
            prepare(str(tmp_path / "t.txt"), SMALL)


@pytest.mark.parametrize("unit", ["char", "word", "piece"])
def test_one_line_and_one_word(tmp_path, unit):
    """A file of one line, with a word of a hundred thousand characters."""
    text = tale(400).replace("\n", " ") + "x" * 100_000
    (tmp_path / "t.txt").write_text(text)
    dataset = prepare(str(tmp_path / "t.txt"), TextSettings(unit=unit, vocabulary=60))
    assert "".join(part[0] for part in dataset.texts.values()) == text
    assert all(len(tokens) > 2 for tokens in dataset.tokens.values())


def test_nul_characters_are_counted(tmp_path):
    (tmp_path / "t.txt").write_text(tale(1200) + "a\0b\n")
    assert "t.txt: 1 NUL characters removed" in prepare(str(tmp_path / "t.txt"), SMALL).notes


def test_files_of_a_folder_that_are_not_read_are_counted(tmp_path):
    for k in range(30):
        (tmp_path / f"{k}.txt").write_text(tale(8, k))
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "UPPER.TXT").write_text(tale(8))
    dataset = prepare(str(tmp_path), SMALL)
    assert "1 of 32 files left out: without text" in dataset.notes
    assert "1 file: not .txt or .md, not read" in dataset.notes
    assert len(dataset.texts["test"]) == 31
    (tmp_path / "empty2.md").write_text("")
    with pytest.raises(DataError, match="2 of 33 files .*lossy=true"):
        prepare(str(tmp_path), SMALL)
    assert prepare(str(tmp_path), TextSettings(lossy=True)).texts


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": -0.1},
        {"temperature": 1e9},
        {"top_p": 0.0},
        {"top_p": float("nan")},
        {"top_p": 1.5},
        {"top_k": -1},
        {"seed": -1},
        {"length": -1},
        {"length": 10**12},
        {"top": -1},
        {"top": 10**9},
    ],
)
def test_options_are_checked(values):
    with pytest.raises(ValueError, match=rf"^{next(iter(values))}="):
        PredictOptions(**values)


@pytest.mark.parametrize("temperature", [1e-300, 1e-5, 1000.0])
def test_sampling_at_any_temperature(temperature):
    log_p = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    log_p[0] = -np.inf
    found = {
        sample(log_p, np.random.default_rng(k), temperature=temperature, top_p=0.999)
        for k in range(50)
    }
    assert found == ({1} if temperature < 1 else {1, 2})


def test_generation_where_no_token_begins_with_a_space():
    codec = TextCodec("word", ("<unk>", "<end>", "a", "b"))
    session = TextSession(model_file(codec))
    session.read("a ")
    assert isinstance("".join(session.generate(length=5)), str)


def test_an_input_that_is_not_utf_8(file):
    with pytest.raises(DataError, match="not UTF-8"):
        predict(file, "caf\udce9", PredictOptions(length=0))
    session = TextSession(file)
    for line in ('"\\ud800 half"', '"open', '"a" b', '"' + "\\u0000" * 3):
        with pytest.raises(DataError, match="not a JSON string"):
            session.feed(line)


def snapshot_with(session, **changes):
    """A snapshot with other values beside the state of the layers."""
    extra = {
        "tail": "",
        "begins": True,
        "word": "",
        "log_p": session._log_p.tolist(),
        **changes,
    }
    return session._stream.snapshot(**{k: v for k, v in extra.items() if v is not ...})


@pytest.mark.parametrize(
    "changes",
    [
        {"tail": 5},
        {"tail": None},
        {"begins": 1},
        {"begins": "yes"},
        {"word": ["a"]},
        {"word": ...},
        {"more": 1},
        {"log_p": []},
        {"log_p": None},
        {"log_p": "abc"},
    ],
)
def test_a_damaged_snapshot_is_refused(file, changes):
    session = TextSession(file)
    session.restore(snapshot_with(session))
    before = session.snapshot()
    with pytest.raises(StateError, match="not the state of a text session"):
        session.restore(snapshot_with(session, **changes))
    assert session.snapshot() == before


@pytest.mark.parametrize("value", [1.0, 0.0, -1e300, True, "0", None])
def test_log_probabilities_in_a_snapshot_are_checked(file, value):
    session = TextSession(file)
    log_p = session._log_p.tolist()
    log_p[3] = value
    with pytest.raises(StateError, match="not the state of a text session"):
        session.restore(snapshot_with(session, log_p=log_p))


def test_snapshots_of_other_sessions():
    codec = fit_text_codec([tale(400)], "word", vocabulary=60, special_tokens=("<you>", "<me>"))
    chat = ChatSession(model_file(codec))
    good = {"log_p": chat._log_p.tolist(), "turns": 3}
    chat.restore(chat._stream.snapshot(**good))
    for changes in ({"turns": -1}, {"turns": 1.5}, {"turns": True}, {"turns": 10**30}, {"x": 1}):
        with pytest.raises(StateError, match="not the state of a chat session"):
            chat.restore(chat._stream.snapshot(**{**good, **changes}))


def test_a_vocabulary_without_the_tokens_of_dialogues(file):
    with pytest.raises(ModelFileError, match="not a model of dialogues"):
        ChatSession(file)


def test_mutated_snapshots(file):
    """Every flipped bit is refused, or leaves a session that works."""
    session = TextSession(file)
    session.read("The cat sat on the m")
    whole = session.snapshot()
    draw = random.Random(1)
    for _ in range(200):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        other = TextSession(file)
        try:
            other.restore(bytes(data))
        except StateError as error:
            assert "\n" not in str(error)
            continue
        try:
            (answer,) = other.feed("at sleeps")
        except DataError:
            continue
        json.dumps(answer, ensure_ascii=False).encode()
