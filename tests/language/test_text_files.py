"""Text files: encodings, newlines, gzip, rows with tabs."""

import gzip

import pytest

from memorycell.errors import DataError
from memorycell.language import files
from memorycell.language.files import check_encoding, input_text, read_bytes, read_file, read_lines
from memorycell.language.tsv import read_tsv, split_rows


def write(tmp_path, data, name="t.txt"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_mixed_newlines_in_any_encoding(tmp_path, encoding):
    data = "one\r\ntwo\rthree\nfour é".encode(encoding)
    assert read_file(write(tmp_path, data)) == "one\ntwo\nthree\nfour é"
    assert read_file(write(tmp_path, gzip.compress(data), "t.TXT.gz")) == "one\ntwo\nthree\nfour é"


def test_nul_characters_are_removed_and_counted(tmp_path):
    notes = []
    data = b"word " * 5000 + b"a\0b" + b" word" * 100
    assert "ab" in read_file(write(tmp_path, data), None, notes)
    assert notes == ["t.txt: 1 NUL characters removed"]
    with pytest.raises(DataError, match="contains 4,000 NUL characters"):
        read_file(write(tmp_path, b"a\0" * 4000), "cp1252")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_byte_order_mark_is_named(tmp_path, encoding):
    path = write(tmp_path, ("plain words\n" * 20).encode(encoding))
    with pytest.raises(DataError, match=f"--set encoding={encoding}"):
        read_file(path)
    assert read_file(path, encoding) == "plain words\n" * 20


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "contains no text"),
        (b"\xff\xfe", "contains no text"),
        (b" \r\n\t", "contains no text"),
        (b"fine\nna\xefve", r"line 2: byte 7 \(0xef\)"),
        (b"\x7fELF\0\0\0\1 text", "NUL"),
    ],
)
def test_what_is_no_text(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        read_file(write(tmp_path, data))


def test_damaged_and_unbounded_gzip(tmp_path, monkeypatch):
    whole = gzip.compress(b"text " * 1000)
    for data in (whole[:-9], whole[:30], b"no gzip", whole[:-8] + b"\0" * 8):
        with pytest.raises(DataError, match="not a complete gzipped file"):
            read_bytes(write(tmp_path, data, "t.txt.gz"))
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", 4999)
    with pytest.raises(DataError, match="more than 4,999 bytes unpacked"):
        read_bytes(write(tmp_path, whole, "t.txt.gz"))
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(tmp_path / "missing.gz")


def test_lines_are_those_of_the_file(tmp_path):
    notes = []
    path = write(tmp_path, "a\u2028b\r\nc\rd\n\n\x0be\n".encode())
    assert read_lines(path, None, notes) == ["a\u2028b", "c d", "", "\x0be"]
    assert notes == ["t.txt: 1 line: a carriage return inside is read as a space"]
    assert read_lines(write(tmp_path, b"a\rb\r")) == ["a", "b"]


def test_inputs_with_half_characters_are_refused():
    assert input_text(None) == ""
    assert input_text("a\r\nb\0") == "a\nb"
    with pytest.raises(DataError, match=r"character 3 is '\\udce9', not UTF-8"):
        input_text("ab\udce9")


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "idna", "undefined", "", "a\0"])
def test_unknown_encodings(encoding):
    with pytest.raises(ValueError, match="encoding="):
        check_encoding(encoding)


@pytest.mark.parametrize("encoding", [None, "utf-8", "CP1252", "latin-1", "shift-jis", "utf-16"])
def test_known_encodings(encoding):
    check_encoding(encoding)


PLAIN = [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    ("lines", "rows", "is_quoted"),
    [
        (["a\tb", "c\td"], PLAIN, False),
        (['"a"\tb', 'c\t"d"'], PLAIN, True),
        (['"a ""x"""\tb'], [['a "x"', "b"]], True),
        (['"two', 'lines"\tb', "c\td"], [["two\nlines", "b"], ["c", "d"]], True),
        # One that is not enclosed: all are text.
        (['"Wow" said\tb', '"c"\td'], [['"Wow" said', "b"], ['"c"', "d"]], False),
        (['he "x" y\tb', '"c"\td'], [['he "x" y', "b"], ['"c"', "d"]], False),
        (['"a\tb', "c\td"], [['"a', "b"], ["c", "d"]], False),
        # They would swallow rows.
        (['"a\tb', 'c\td"'], [['"a', "b"], ["c", 'd"']], False),
        (['"a\tb', "c\td", 'e"\tf'], [['"a', "b"], ["c", "d"], ['e"', "f"]], False),
        (['"a', 'b"', "c\td"], [['"a'], ['b"'], ["c", "d"]], False),
    ],
)
def test_quotation_marks_in_rows(lines, rows, is_quoted):
    assert split_rows(lines) == (rows, is_quoted)


def test_a_first_line_for_excel(tmp_path):
    notes = []
    for first in ("sep=\t", '"sep=\t"', "SEP=,"):
        path = write(tmp_path, f"{first}\r\na\tb\r\nc\td\r\n".encode("utf-16"), "t.tsv")
        assert read_tsv(path, None, notes) == PLAIN
    assert notes == []
