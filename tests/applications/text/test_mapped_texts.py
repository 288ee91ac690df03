"""Language models of many text files: the tokens, batches and metrics of the texts in memory."""

import memory_limit
import numpy as np
import pytest
import torch
from text_data import tale

import memorycell
from memorycell.application import array_folder
from memorycell.applications.text import mapped
from memorycell.applications.text.prepare import prepare
from memorycell.applications.text.settings import TextSettings
from memorycell.errors import DataError
from memorycell.language.ngram import fit_kneser_ney

SMALL = {"hidden": 16, "lanes": 4, "bptt": 16}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMORYCELL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for k in range(3):
        text = tale(200 + 50 * k, seed=k) + "é\r\n  two  spaces\n\n"
        (folder / f"{k}.txt").write_text(text, newline="")
    (folder / "blank.txt").write_text(" \n")
    return folder


@pytest.mark.parametrize("unit", ["char", "word", "piece"])
def test_as_in_memory(folder, unit, monkeypatch):
    settings = TextSettings(
        **SMALL, unit=unit, vocabulary=60 if unit == "piece" else 8000, lossy=True
    )
    one = prepare(str(folder), settings)
    monkeypatch.setattr(mapped, "PIECE_CHARS", 100)  # borders of pieces change nothing
    many = prepare(str(folder / "*.txt"), settings)
    assert many.codec == one.codec
    assert many.info()["split"] == one.info()["split"]
    np.testing.assert_array_equal(many._train, one.tokens["train"])
    for split in ("valid", "test"):
        np.testing.assert_array_equal(many.tokens[split], one.tokens[split])
    for ours, theirs in zip(many.batches(5), one.batches(5), strict=True):
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            assert torch.equal(a, b)
        assert ours.carry == theirs.carry
    assert many.baselines("test") == one.baselines("test")
    torch.manual_seed(0)
    model = one.build().eval()
    assert many.evaluate(model, "test") == one.evaluate(model, "test")


def test_parts_of_long_texts(folder, monkeypatch):
    """Of every file the beginning of its part, in proportion to its length."""
    monkeypatch.setattr(mapped, "MAX_TEST_CHARS", 300)
    settings = TextSettings(**SMALL, lossy=True)
    one, many = prepare(str(folder), settings), prepare(str(folder / "*.txt"), settings)
    assert 290 <= sum(map(len, many.texts["test"])) <= 300
    for ours, theirs in zip(many.texts["test"], one.texts["test"], strict=True):
        assert theirs.startswith(ours)
        assert len(ours) / len(theirs) == pytest.approx(300 / one.info()["split"]["test"], abs=0.01)
    np.testing.assert_array_equal(many._train, one.tokens["train"])
    assert many.info()["split"] == one.info()["split"]


def test_the_ngram_model_is_of_the_first_tokens(folder, monkeypatch):
    monkeypatch.setattr(mapped, "MAX_NGRAM_TOKENS", 500)
    settings = TextSettings(**SMALL, lossy=True)
    one, many = prepare(str(folder), settings), prepare(str(folder / "*.txt"), settings)
    first = one.tokens["train"][:500]
    one.ngram = fit_kneser_ney(first, one.tokens["valid"], len(one.codec))
    assert many.baselines("test") == one.baselines("test")


def test_large_folders_are_mapped(folder, monkeypatch):
    assert mapped.mapped_files(str(folder)) is None
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 1000)
    assert len(mapped.mapped_files(str(folder))) == 4


def test_trained_and_evaluated(folder, tmp_path, monkeypatch):
    data, out = str(folder / "*.txt"), tmp_path / "m.safetensors"
    trained = memorycell.train("text", data, out=out, progress=False, epochs=1, **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(array_folder, "_write", lambda *given: pytest.fail("made again"))
        assert memorycell.load(out).evaluate()["metrics"] == trained.result["metrics"]
    (folder / "3.txt").write_text(tale(100, seed=9))
    with pytest.raises(DataError, match="other texts than in training"):
        memorycell.load(out).evaluate()
    with pytest.raises(DataError, match="no file matches"):
        prepare(str(folder / "*.md"), TextSettings())
    (folder / "3.txt").write_bytes(b"caf\xe9 " * 1000)
    with pytest.raises(DataError, match=r"3.txt"):
        prepare(data, TextSettings())


IMPORTS = """
from memorycell.applications.text import mapped, settings
from memorycell.applications.text.prepare import prepare

mapped.MAX_VOCABULARY_CHARS, mapped.MAX_NGRAM_TOKENS = 1_000_000, 100_000
mapped.MAX_VALID_CHARS = mapped.MAX_TEST_CHARS = 50_000
"""
CODE = """
dataset = prepare(sys.argv[1], settings.TextSettings(hidden=8, bptt=64, lanes=32))
model = dataset.build()
tokens = sum(batch.steps for batch in dataset.batches(0))
dataset.validate(model)
print(tokens, *dataset.evaluate(model, "test"))
"""
LIMIT_BYTES = 200_000_000


@pytest.mark.slow
@memory_limit.needs_linux
def test_memory_of_language_models_is_bounded(tmp_path):
    chars, folder, rng = 20_000_000, tmp_path / "texts", np.random.default_rng(0)
    folder.mkdir()
    letters = np.frombuffer(b"abcdefghij klmno\n", np.uint8)
    for k in range(20):
        (folder / f"{k:02}.txt").write_bytes(rng.choice(letters, chars // 20).tobytes())

    words = memory_limit.printed(IMPORTS, CODE, folder / "*.txt", LIMIT_BYTES, too_large=folder)
    assert int(words[0]) > 0.84 * chars
