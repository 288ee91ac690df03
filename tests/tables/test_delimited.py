"""Tables as text: separators, line ends, quotation marks, encodings, ragged rows."""

import csv
import gzip
import io
import threading

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorycell.errors import DataError
from memorycell.tables.table import read_table


@pytest.fixture
def read(tmp_path):
    """Writes bytes or text to a file and reads it as a table: (columns, rows, notes)."""

    def run(data: str | bytes, name: str = "t.csv", **settings):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        notes: list[str] = []
        frame = read_table(path, notes=notes, **settings)
        return frame.columns, frame.rows(), notes

    return run


@pytest.fixture
def refusal(read):
    """The message with which a table is refused."""

    def run(data: str | bytes, name: str = "t.csv", **settings) -> str:
        with pytest.raises(DataError) as caught:
            read(data, name, **settings)
        message = str(caught.value)
        assert "\n" not in message
        assert "\x1b" not in message
        assert len(message) < 300 + message.index(name)  # paths of any length
        return message

    return run


TABLE = (["a", "b"], [("1", "2"), ("3", "4")], [])


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "a,b\r\n1,2\r\n3,4\r\n",
        "a,b\r1,2\r3,4\r",
        "\ufeffa,b\n1,2\n3,4\n",
        "a;b\n1;2\n3;4\n",
        "a|b\n1|2\n3|4\n",
        "a\tb\n1\t2\n3\t4\n",
        "\n\na,b\n1,2\n\n  \n3,4\n\n",
        "a , b\n1,2\n3,4\n",
        "a,b,\n1,2,\n3,4,\n",
        "a,b\n1,2,\n3,4,\n",
        "a,b,\n1,2\n3,4\n",
        "sep=;\na;b\n1;2\n3;4\n",
        '"a","b"\n"1","2"\n"3","4"\n',
        '"a", "b"\n"1", "2"\n"3", "4"\n',
        "# a,b\n1,2\n3,4\n",
    ],
)
def test_written_in_many_ways(read, text):
    assert read(text) == TABLE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_mark(read, encoding):
    columns, rows, _ = read("Wärme,ort\n1,Köln\n".encode(encoding))
    assert (columns, rows) == (["Wärme", "ort"], [("1", "Köln")])


def test_another_encoding_is_named_and_then_read(read, refusal):
    data = "Wärme,ort\n1,Köln\n".encode("cp1252")
    for name, content in (("t.csv", data), ("t.csv.gz", gzip.compress(data))):
        assert "line 1: byte 1 (0xe4)" in refusal(content, name)
        assert "--set encoding=cp1252" in refusal(content, name)
        assert read(content, name, encoding="cp1252")[0] == ["Wärme", "ort"]


def test_a_damaged_archive_is_one_line(refusal):
    data = gzip.compress(b"a,b\n1,2\n" * 500)
    assert "not a readable csv table" in refusal(data[:-12], "t.csv.gz")
    assert "not a readable csv table" in refusal(b"a,b\n1,2\n", "t.csv.gz")


def test_a_ragged_row_is_named(refusal):
    assert "row 2 (line 4): number of values 3" in refusal("a,b\n1,2\n\n3,4,5\n")
    assert "row 1 (line 2): number of values 1" in refusal("a,b\n1\n")
    assert "row 2 (line 3): number of values 3" in refusal('a,b\n"1",2\n"3",4,5\n')


def test_repeated_names_are_refused(refusal):
    assert "columns 1 and 3 are called 'x'" in refusal("x,y,x\n1,2,3\n")
    assert "columns 1 and 2 have no name" in refusal(",,x\n1,2,3\n")


def test_a_missing_header_is_refused(refusal):
    assert "line 1 looks like data" in refusal("2024-01-01,5\n2024-01-02,6\n")
    assert "line 1 looks like data" in refusal("1.5;2\n3.5;4\n")
    assert "has a header but no rows" in refusal("a,b\n")
    assert "is empty" in refusal("\n\n# nothing\n")


def test_comments_and_empty_rows_at_the_end_are_counted(read):
    columns, rows, notes = read("# station\n# b\nt,x\n1,2\n# pause, here, now\n3,4\n,\n,\n")
    assert columns == ["t", "x"]
    assert rows == [("1", "2"), ("3", "4")]
    assert notes == ["3 lines that begin with # left out", "2 empty rows at the end left out"]


def test_a_blank_line_in_one_column_is_a_missing_value(read):
    assert read("y\n1\n\n3\n\n")[1] == [("1",), (None,), ("3",)]
    assert read('y\n"1"\n\n"3"\n\n')[1] == [("1",), (None,), ("3",)]


def test_quoted_cells(read):
    columns, rows, _ = read('name,n\n"a, b",1\n"two\nlines",2\n"say ""x""",3\n5" pipe,4\n"",5\n')
    assert columns == ["name", "n"]
    assert [r[0] for r in rows] == ["a, b", "two\nlines", 'say "x"', '5" pipe', None]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('"a","b"\n"1","2"\n', [("1", "2")]),
        ('"a","b"\n"1,5","2"\n', [("1,5", "2")]),
        ('"a","b"\n"1\n5","2"\n', [("1\n5", "2")]),
        ('"a","b"\n"say ""x""","2"\n', [('say "x"', "2")]),
        ('"a","b"\n"","2"\n', [(None, "2")]),
        ('"a","b"\n"#1","2"\n3,"4"\n', [("#1", "2"), ("3", "4")]),
    ],
)
def test_marks_that_enclose_all_cells(read, text, rows):
    assert read(text)[:2] == (["a", "b"], rows)


def test_wrong_quotation_marks_in_csv(refusal):
    assert "line 3: a quotation mark is not closed" in refusal('t,n\n"a",1\n"b,2\nc,3\n')
    assert "line 2: text after a closing" in refusal('t,n\n"Wow" said,1\nc,3\n')


def test_a_quotation_mark_that_swallows_rows_is_refused(refusal):
    middle = "".join(f"text {k},{k}\n" for k in range(20))
    message = refusal(f't,n\n"begins,0\n{middle}he said, and ends",0\n')
    assert "line 2: a quotation mark opens a cell of 22 lines that look like rows" in message


def test_three_swallowed_rows_of_three_columns_are_enough(refusal):
    assert "line 2" in refusal('t,n,m\n"begins,0,1\na,1,2\nb,2,3\nc,4,5\nends",0,1\n')


def test_a_table_is_read_while_the_error_of_another_is_handled(read, refusal):
    try:
        read('a,b\n"1",2,3\n')
    except DataError:
        thread = threading.Thread(target=read, args=('a,b\n"1",2\n', "u.csv"), daemon=True)
        thread.start()
        thread.join(600)
        assert not thread.is_alive()


def test_a_quoted_cell_of_many_lines_is_read(read):
    verse = "\n".join(f"line {k} of a poem" for k in range(20))
    assert read(f't,n\n"{verse}",1\n')[1] == [(verse, "1")]


def test_quotation_marks_mean_nothing_in_tsv_unless_all_are_closed(read):
    middle = "".join(f"text {k}\t{k}\n" for k in range(20))
    _, rows, _ = read(f'text\tlabel\n"begins\t0\n{middle}and ends"\t0\n"Wow" said\t1\n', "t.tsv")
    assert len(rows) == 23
    assert (rows[0][0], rows[21][0], rows[22][0]) == ('"begins', 'and ends"', '"Wow" said')
    assert read('"a"\t"b"\n"x ""y"""\t"2"\n', "t.tsv")[:2] == (["a", "b"], [('x "y"', "2")])
    assert read('a\tb\n"two\nlines"\t2\n', "t.tsv")[1] == [("two\nlines", "2")]


def test_long_cells_and_longer_lines(read, refusal):
    cell = "y" * 200_000
    assert read(f"a,b\n1,{cell}\n")[1] == [("1", cell)]
    assert read(f'a,b\n1,"{cell}"\n')[1] == [("1", cell)]
    assert "line 2 has 11,000,001 bytes" in refusal("a,b\n" + "1" * 11_000_000)


def test_hostile_text_is_quoted(refusal):
    message = refusal("a,b\n1,2\n\x1b[31mmemorycell: ok,3,4\n")
    assert r"\x1b[31m" in message
    assert "NUL" in refusal(b"a,b\n\0\0,1\n")


def test_the_separator_is_the_one_of_all_lines(read):
    assert read("Zeit;Last, in MW;x\n1;2,5;3\n")[0] == ["Zeit", "Last, in MW", "x"]
    assert read("a;b\n1,5;2,5\n3,5;4,5\n")[1] == [("1,5", "2,5"), ("3,5", "4,5")]


@given(
    rows=st.lists(
        st.lists(st.text("ab ,;\"'\n\té#", max_size=6), min_size=3, max_size=3),
        min_size=1,
        max_size=12,
    ),
    separator=st.sampled_from(",;|"),
)
def test_what_csv_writes_is_read(tmp_path_factory, rows, separator):
    rows[-1][-1] = "end"  # rows that are empty at the end are left out
    rows = [["x" + first, *rest] for first, *rest in rows]  # blank lines and comments too
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["first", "second", "third"], *rows])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(text.getvalue())
    expected = [tuple(cell or None for cell in row) for row in rows]
    assert read_table(path).rows() == expected


def test_many_rows_without_a_loop_over_cells(read):
    frame = pl.DataFrame({"a": range(120_000), "b": [f"{k / 7:.4f}" for k in range(120_000)]})
    for style in ("necessary", "always"):
        columns, rows, _ = read(frame.write_csv(quote_style=style))
        assert columns == ["a", "b"]
        assert rows[-1] == ("119999", frame["b"][-1])
        assert len(rows) == 120_000


@pytest.mark.parametrize("mark", ["", '"'])
def test_rows_that_begin_with_a_number_sign_are_not_lost(tmp_path, mark):
    """A hashtag in a row with a separator too many looks like a comment."""
    path = tmp_path / "t.csv"
    rows = [f"{mark}#tag {k}{mark},{k}" for k in range(60)]
    notes: list[str] = []
    path.write_text("\n".join(["text,x", *rows, "# the end, of it, all", "# words"]))
    assert read_table(path, notes=notes).height == 60
    assert notes == ["2 lines that begin with # left out"]
    path.write_text("\n".join(["text,x", *rows, *["#win, and lose,1"] * 4]))
    with pytest.raises(DataError, match="number of values 3, but the header has 2 columns: '#win"):
        read_table(path)
