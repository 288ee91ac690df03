"""Text to tokens and back; encodings; scripts."""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_data import tale

from memorycell.errors import DataError
from memorycell.language.codec import UNKNOWN_ID, TextCodec, fit_text_codec
from memorycell.reading import normalise, read_text

HINDI = "मोर भारत का राष्ट्रीय पक्षी है।\nक्या हाल है? नमस्ते!\n"
MIXED = "שלום עולם, hello мир 👩‍👩‍👧‍👦🇮🇳 e\u0301 ﷺ\n"
texts = st.text(st.sampled_from("ab न्क ि।é\u0301\n .,'👍🏽א"), max_size=40)


@given(texts)
def test_characters_round_trip(text):
    codec = fit_text_codec([text + "ab", HINDI, MIXED], "char", vocabulary=500)
    known = all(span in codec.token_ids for span in codec.spans(text))
    if known:
        assert codec.decode(codec.encode(text)) == normalise(text)


@pytest.mark.parametrize("unit", ["word", "piece"])
@pytest.mark.parametrize("text", [tale(40), "a  b\n\n c", "end"])
def test_words_round_trip_with_single_spaces(unit, text):
    codec = fit_text_codec([tale(400), "a b c end\n" * 50], unit, vocabulary=120)
    plain = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    assert codec.decode(codec.encode(text)) == plain


def test_a_character_is_a_grapheme_cluster():
    codec = fit_text_codec([HINDI], "char", vocabulary=500)
    spans = codec.spans("क्या 👩‍👩‍👧‍👦 e\u0301")
    assert spans == ["क्या", " ", "👩‍👩‍👧‍👦", " ", "é"]
    assert codec.encode("क\u093c") == codec.encode(
        "\u0958"[:0] + unicodedata.normalize("NFC", "\u0958")
    )


@pytest.mark.parametrize("text", [HINDI, MIXED])
@pytest.mark.parametrize("unit", ["char", "word"])
def test_words_of_other_scripts_are_not_split(unit, text):
    codec = fit_text_codec([text] * 3, unit, vocabulary=500)
    assert UNKNOWN_ID not in codec.encode(text)
    assert codec.decode(codec.encode(text)) == "\n".join(
        " ".join(line.split()) for line in normalise(text).split("\n")
    )
    if unit == "word" and text is HINDI:
        assert " राष्ट्रीय" in codec.surfaces
        assert "।" in codec.surfaces  # the danda is a token of its own


def test_lower_case():
    codec = fit_text_codec(["Good good GOOD film film"], "word", vocabulary=50, lower=True)
    assert codec.encode("GOOD Film") == codec.encode("good film")


def test_separate_characters_are_never_part_of_a_piece():
    codec = fit_text_codec(
        ["ab\ue000 cd\ue000ef\n" * 60], "piece", vocabulary=40, separate="\ue000"
    )
    assert all(surface == "\ue000" or "\ue000" not in surface for surface in codec.surfaces)
    assert codec.token_ids["\ue000"] in codec.encode("xab\ue000.")


@pytest.mark.parametrize("unit", ["char", "word", "piece"])
def test_a_codec_round_trips_through_json(unit):
    codec = fit_text_codec([tale(400)], unit, vocabulary=100, special_tokens=("<you>",))
    again = TextCodec.from_json(codec.to_json())
    assert again == codec
    assert again.encode(tale(8, 1)) == codec.encode(tale(8, 1))
    for damage in (
        {"unit": "line"},
        {"surfaces": ["a", "b", "c"]},
        {"marks": 9999},
        {"surfaces": [*codec.surfaces, "<unk>"]},
    ):
        with pytest.raises(ValueError):
            TextCodec.from_json({**codec.to_json(), **damage})
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
        match=r"line 2: byte 7 \(0xef\) is not utf-8; set the encoding: --set encoding=cp1252",
    ):
        read_text(path)
    assert read_text(path, "cp1252") == "fine\nnaïve"
    with pytest.raises(DataError, match="unknown encoding 'klingon'"):
        read_text(path, "klingon")
    path.write_bytes(b"  \n ")
    with pytest.raises(DataError, match="contains no text"):
        read_text(path)
    path.write_bytes(b"\x7fELF\x00\x00 text")
    with pytest.raises(DataError, match="NUL"):
        read_text(path)


def test_ten_megabytes_on_one_line():
    text = "word " * 2_000_000
    codec = fit_text_codec([text[:10_000]], "word", vocabulary=100)
    assert len(codec.encode(text)) == 2_000_000


def test_too_little_text_for_sentencepiece():
    with pytest.raises(DataError, match="--set unit=char"):
        fit_text_codec([""], "piece", vocabulary=100)
