"""Text to tokens and back, whole or as it is typed; encodings; scripts."""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_data import tale

from memorycell.errors import DataError
from memorycell.language.codec import TextCodec, fit, normalise, read_text

HINDI = "मोर भारत का राष्ट्रीय पक्षी है।\nक्या हाल है? नमस्ते!\n"
MIXED = "שלום עולם, hello мир 👩‍👩‍👧‍👦🇮🇳 e\u0301 ﷺ\n"
texts = st.text(st.sampled_from("ab न्क ि।é\u0301\n .,'👍🏽א"), max_size=40)


@given(texts)
def test_characters_come_back(text):
    codec = fit([text + "ab", HINDI, MIXED], "char", vocabulary=500)
    known = all(span in codec.numbers for span in codec.spans(text))
    if known:
        assert codec.decode(codec.encode(text)) == normalise(text)


@pytest.mark.parametrize("unit", ["word", "piece"])
@pytest.mark.parametrize("text", [tale(40), "a  b\n\n c", "end"])
def test_words_come_back_with_one_space_between(unit, text):
    codec = fit([tale(400), "a b c end\n" * 50], unit, vocabulary=120)
    plain = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    assert codec.decode(codec.encode(text)) == plain


def test_a_character_is_what_a_reader_takes_for_one():
    codec = fit([HINDI], "char", vocabulary=500)
    spans = codec.spans("क्या 👩‍👩‍👧‍👦 e\u0301")
    assert spans == ["क्या", " ", "👩‍👩‍👧‍👦", " ", "é"]
    assert codec.encode("क\u093c") == codec.encode(
        "\u0958"[:0] + unicodedata.normalize("NFC", "\u0958")
    )


@pytest.mark.parametrize("text", [HINDI, MIXED])
@pytest.mark.parametrize("unit", ["char", "word"])
def test_scripts_keep_their_words_whole(unit, text):
    codec = fit([text] * 3, unit, vocabulary=500)
    assert 0 not in codec.encode(text)
    assert codec.decode(codec.encode(text)) == "\n".join(
        " ".join(line.split()) for line in normalise(text).split("\n")
    )
    if unit == "word" and text is HINDI:
        assert " राष्ट्रीय" in codec.surfaces
        assert "।" in codec.surfaces  # the danda is a sign of its own


def test_lower_reads_capitals_as_small_ones():
    codec = fit(["Good good GOOD film film"], "word", vocabulary=50, lower=True)
    assert codec.encode("GOOD Film") == codec.encode("good film")


def test_what_is_kept_apart_is_never_joined():
    codec = fit(["ab\ue000 cd\ue000ef\n" * 60], "piece", vocabulary=40, apart="\ue000")
    assert all(surface == "\ue000" or "\ue000" not in surface for surface in codec.surfaces)
    assert codec.numbers["\ue000"] in codec.encode("xab\ue000.")


@pytest.mark.parametrize("unit", ["char", "word", "piece"])
def test_a_codec_survives_its_json(unit):
    codec = fit([tale(400)], unit, vocabulary=100, marks=("<you>",))
    again = TextCodec.from_json(codec.to_json())
    assert again == codec
    assert again.encode(tale(8, 1)) == codec.encode(tale(8, 1))
    for spoilt in (
        {"unit": "line"},
        {"surfaces": ["a", "b", "c"]},
        {"marks": 9999},
        {"surfaces": [*codec.surfaces, "<unk>"]},
    ):
        with pytest.raises(ValueError):
            TextCodec.from_json({**codec.to_json(), **spoilt})
    if unit == "piece":
        with pytest.raises(ValueError, match="damaged"):
            TextCodec.from_json(replace(codec, pieces="AAAA").to_json())


def test_encodings(tmp_path):
    path = tmp_path / "t.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes("one\r\ntwo é".encode(encoding))
        assert read_text(path) == "one\ntwo é"
    path.write_bytes(b"fine\nna\xefve")
    with pytest.raises(
        DataError,
        match=r"line 2: byte 7 \(0xef\) is not utf-8; name its encoding: --set encoding=cp1252",
    ):
        read_text(path)
    assert read_text(path, "cp1252") == "fine\nnaïve"
    with pytest.raises(DataError, match="no encoding is called 'klingon'"):
        read_text(path, "klingon")
    path.write_bytes(b"  \n ")
    with pytest.raises(DataError, match="holds no text"):
        read_text(path)
    path.write_bytes(b"\x7fELF\x00\x00 text")
    with pytest.raises(DataError, match="NUL"):
        read_text(path)


def test_ten_megabytes_on_one_line():
    text = "word " * 2_000_000
    codec = fit([text[:10_000]], "word", vocabulary=100)
    assert len(codec.encode(text)) == 2_000_000


def test_too_little_to_learn_pieces_from():
    with pytest.raises(DataError, match="--set unit=char"):
        fit([""], "piece", vocabulary=100)
