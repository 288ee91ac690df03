"""Text in any encoding, the count of what was left out, and foreign text in messages."""

import pytest

from memorycell.errors import MAX_QUOTED_CHARS, DataError, quote
from memorycell.reading import Losses, decode_text


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"]
)
def test_marked_encodings_are_recognised(encoding):
    mark = "\ufeff" if encoding.endswith(("-le", "-be")) else ""
    assert decode_text(f"{mark}Wärme, 東京".encode(encoding), "t.csv") == "Wärme, 東京"


def test_other_bytes_are_named_with_the_fix():
    data = "a\nb\nWärme".encode("cp1252")
    with pytest.raises(DataError, match=r"t\.csv: line 3: byte 5 \(0xe4\).*encoding=cp1252"):
        decode_text(data, "t.csv")
    assert decode_text(data, "t.csv", "cp1252") == "a\nb\nWärme"


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "undefined"])
def test_what_is_no_encoding_of_text_is_refused(encoding):
    with pytest.raises(DataError, match=f"unknown encoding '{encoding}'"):
        decode_text(b"abc", "t.csv", encoding)


def test_losses_are_counted_and_bounded():
    losses = Losses("rows")
    losses.skip("no label", 4)
    losses.skip("no text")
    losses.repair("label 'Good' read as 'good'", 2)
    assert losses.notes(100) == [
        "4 of 100 rows left out: no label",
        "1 of 100 rows left out: no text",
        "2 rows: label 'Good' read as 'good'",
    ]
    losses.check(100, "t.csv")  # five in a hundred
    with pytest.raises(DataError, match=r"t\.csv: 5 of 99 rows.*no label.*--set lossy=true"):
        losses.check(99, "t.csv")
    losses.check(99, "t.csv", lossy=True)


class Several:
    def __repr__(self):
        return "two\nlines"


@pytest.mark.parametrize("value", ["a\x1b[2Jb\nc", "x" * 500, Several(), b"\x00", "\u2028"])
def test_quoted_text_is_one_short_printable_line(value):
    text = quote(value)
    assert text.isprintable()
    assert len(text) <= MAX_QUOTED_CHARS
