"""Labelled texts as other programs write them: quotation marks, encodings, columns, labels."""

import csv
import gzip
import json
import re

import polars as pl
import pytest

from memorycell.application.contract import ModelFile
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.dataset import prepare, reopen
from memorycell.applications.sentiment.reading import ReadOptions, read_examples
from memorycell.applications.sentiment.settings import SentimentSettings
from memorycell.errors import DataError

SENTENCE = "the film was warm cold dull great long short café and I liked hated it"
WORDS = SENTENCE.split()


def rows(count):
    """(text, label), all texts distinct."""
    return [
        (f"{' '.join(WORDS[k % 7 : k % 7 + 5])} number {k}, ok", ("bad", "good")[k % 2])
        for k in range(count)
    ]


def read(tmp_path, content, name="r.tsv", **options):
    """(text -> label of all splits, notes)"""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    splits, notes = read_examples(path, name, ReadOptions(**options))
    return {e.text: e.label for part in splits.values() for e in part}, notes


def lines(table, separator="\t", header=("text", "label")):
    return "\n".join(separator.join(row) for row in [header, *table]) + "\n"


@pytest.mark.parametrize(
    "marks",
    [
        {10: '"It begins', 250: 'and it ends"'},  # swallows 240 rows by the rules of CSV
        {10: '"Wow" said the man'},
        {10: 'A 5" screen'},
        {10: "“Smart” ‘quotes’"},
        {10: '"'},
    ],
)
def test_stray_quotation_marks_lose_no_row(tmp_path, marks):
    table = [(marks.get(k, text), label) for k, (text, label) in enumerate(rows(300))]
    found, _ = read(tmp_path, lines(table))
    assert found == dict(table)


def test_enclosed_cells(tmp_path):
    table = [*rows(50), ('say ""yes"", now\nand then', "good")]
    path = tmp_path / "r.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *table])
    splits, _ = read_examples(path, "r")
    assert {e.text for part in splits.values() for e in part} == {text for text, _ in table}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding, newline):
    data = lines(rows(40), ";").replace("\n", newline).encode(encoding)
    named = {"encoding": encoding} if encoding == "cp1252" else {}
    assert read(tmp_path, data, "r.csv", **named)[0] == dict(rows(40))
    assert read(tmp_path, gzip.compress(data), "r.csv.gz", **named)[0] == dict(rows(40))
    if named:
        with pytest.raises(DataError, match="line .*: byte .* --set encoding=cp1252"):
            read(tmp_path, data, "r.csv")


def test_a_line_for_excel_names_the_separator(tmp_path):
    assert read(tmp_path, "sep=;\n" + lines(rows(30), ";"), "r.csv")[0] == dict(rows(30))


def test_json_lines_and_arrays(tmp_path):
    table = [{"text": text, "label": label} for text, label in rows(30)]
    for text in ("\r\n".join(map(json.dumps, table)), json.dumps(table, indent=1)):
        for name in ("r.jsonl", "r.json"):
            assert read(tmp_path, "\ufeff" + text, name)[0] == dict(rows(30)), name


def test_empty_texts_and_labels_are_counted(tmp_path):
    table = [*rows(100), ("  ", "good"), ("no label", ""), ("none either", " ")]
    found, notes = read(tmp_path, lines(table))
    assert found == dict(rows(100))
    assert notes == [
        "r.tsv: text in 'text', label in 'label'",
        "r.tsv: 1 of 103 rows left out: without text",
        "r.tsv: 2 of 103 rows left out: without a label",
    ]
    table += [(f"text {k}", "") for k in range(10)]
    with pytest.raises(DataError, match=r"13 of 113 rows .*without a label.*lossy=true"):
        read(tmp_path, lines(table))
    assert read(tmp_path, lines(table), lossy=True)[0] == dict(rows(100))


def test_labels_that_differ_in_case_or_spaces_are_one(tmp_path):
    table = [
        (text, {3: " Good", 5: "GOOD", 6: "bad\u00a0"}.get(k, label))
        for k, (text, label) in enumerate(rows(200))
    ]
    (tmp_path / "r.tsv").write_text(lines(table))
    dataset = prepare(str(tmp_path / "r.tsv"), SentimentSettings())
    assert dataset.codec.labels == ("bad", "good")
    note = next(note for note in dataset.notes if "one:" in note)
    assert note.startswith("2 texts: labels that differ only in case or spaces")
    assert "'GOOD' is 'good'" in note
    # A model's own labels are kept as it has them.
    info = {
        "task": "sentiment",
        "data": str(tmp_path / "gone"),
        "fingerprint": "",
        "settings": vars(SentimentSettings()),
    }
    file = ModelFile(None, LabelledCodec(dataset.codec.text, ("Good", "bad")), info)
    again = reopen(str(tmp_path / "r.tsv"), file)
    assert {e.label for e in again.examples["test"]} == {"Good", "bad"}
    assert len(again.examples["test"]) == 200


def test_texts_with_other_labels_are_counted(tmp_path):
    for split, part in (("train", rows(60)), ("dev", rows(80)[60:]), ("test", rows(120)[80:])):
        table = [*part, ("something else", "mixed")] if split == "test" else part
        (tmp_path / f"{split}.tsv").write_text(lines(table))
    notes = prepare(str(tmp_path), SentimentSettings()).notes
    assert "1 of 121 texts left out: labels without a training text: 'mixed'" in notes


def test_columns_are_found_by_name_or_content(tmp_path):
    table = [(str(1000 + k), label, text, f"user{k}") for k, (text, label) in enumerate(rows(60))]
    for header in (("id", "Sentiment ", "Review Text", "author"), ("id", "kind", "what", "author")):
        found, notes = read(tmp_path, lines(table, header=header))
        assert found == dict(rows(60))
        assert ("found by their contents" in notes[0]) == (header[1] == "kind")
    named = read(tmp_path, lines(table, header=header), text="WHAT", label="kind")[0]
    assert named == dict(rows(60))
    with pytest.raises(DataError, match="no column 'words'; it has 'id', 'kind'"):
        read(tmp_path, lines(table, header=header), text="words")
    with pytest.raises(DataError, match="cannot be both"):
        read(tmp_path, lines(table, header=header), text="what", label="what")


def test_a_table_without_a_header_line_loses_no_row(tmp_path):
    table = [(text.replace(",", ""), label) for text, label in rows(60)]
    found, notes = read(tmp_path, lines(table[1:], ",", header=table[0]), "r.csv")
    assert found == dict(table)
    assert "r.csv: line 1 is not a header, but a row" in notes


def test_ambiguous_columns_are_refused(tmp_path):
    table = [(text, label, label) for text, label in rows(60)]
    with pytest.raises(DataError, match="which column is the label"):
        read(tmp_path, lines(table, header=("what", "one", "two")))
    header = ("what", *(f"\x1b[31m{'long' * 40}{k}" for k in range(12)))
    with pytest.raises(DataError) as caught:
        read(tmp_path, lines([(text, *("x" * 12)) for text, _ in rows(30)], header=header))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_texts_that_are_numbers_are_said(tmp_path):
    table = [(str(k), ("even", "odd")[k % 2]) for k in range(50)]
    found, notes = read(tmp_path, lines(table))
    assert len(found) == 50
    assert any("50 rows: text without a letter" in note for note in notes)


def test_a_column_of_lists_is_refused(tmp_path):
    path = tmp_path / "r.parquet"
    pl.DataFrame({"text": [["a", "b"]] * 30, "label": ["x", "y"] * 15}).write_parquet(path)
    with pytest.raises(DataError, match="column 'text' holds lists"):
        read_examples(path, "r")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("(7 (2 It) (2 is))", "line 2: not a tree; every node is a grade from 0 to 4"),
        ("(3 (2 ) (2 is))", "line 2: not a tree; every node"),
        ("(3 (2 It)", "line 2: not a tree; its brackets do not match"),
        ("3 It)", "line 2: not a tree; its brackets do not match"),
        ("(3 " * 9000 + "a" + ")" * 9000, "line 2: not a tree; it has 36,001 characters"),
    ],
)
def test_damaged_trees(tmp_path, line, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, f"(3 (2 It) (3 works))\n{line}\n", "r.txt")


def test_trees_in_another_encoding(tmp_path):
    trees = "".join(f"(3 (2 café{k}) (3 bon))\r\n" for k in range(20))
    for encoding, named in (("utf-16", {}), ("cp1252", {"encoding": "cp1252"})):
        found, _ = read(tmp_path, trees.encode(encoding), "r.txt", **named)
        assert found["café7 bon"] == "positive"


GOOD = {
    "text": {
        "unit": "word",
        "surfaces": ["<unk>", "<end>", " a"],
        "marks": 2,
        "pieces": "",
        "lower": True,
    },
    "labels": ["a", "b"],
}


@pytest.mark.parametrize(
    "damage",
    [
        {"labels": ["a", "a"]},
        {"labels": ["a", ""]},
        {"labels": ["a", 5]},
        {"labels": "ab"},
        {"labels": None},
        {"text": None},
        {"text": []},
        {"text": {**GOOD["text"], "marks": True}},
        {"more": 1},
    ],
)
def test_a_damaged_codec_is_refused(damage):
    assert LabelledCodec.from_json(GOOD).labels == ("a", "b")
    with pytest.raises(ValueError):
        LabelledCodec.from_json({**GOOD, **damage})


def test_one_label_in_the_training_split_is_refused(tmp_path):
    path = tmp_path / "r.tsv"
    same = [(text, "good") for text, _ in rows(60)]
    path.write_text(lines(same))
    with pytest.raises(DataError, match="every text has the label 'good'; at least two"):
        prepare(str(path), SentimentSettings())
    splits, _ = read_examples(path, "r", ReadOptions())
    elsewhere = splits["test"][0].text
    path.write_text(lines([(text, "rare" if text == elsewhere else label) for text, label in same]))
    words = "every text of the training split has the label 'good'; too few have 'rare'; at least"
    with pytest.raises(DataError, match=words):
        prepare(str(path), SentimentSettings())
    path.write_text(lines([(elsewhere, "bad"), (elsewhere, "good")]))
    with pytest.raises(DataError, match="no label is in the training split, of 0 texts"):
        prepare(str(path), SentimentSettings())
