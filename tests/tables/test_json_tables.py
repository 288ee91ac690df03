"""Tables as JSON lines and arrays, Arrow files, and kinds that are not read."""

import gzip
import json
import os
from datetime import timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from memorycell.errors import DataError
from memorycell.tables.number_formats import find_number_formats
from memorycell.tables.numbers import read_numbers
from memorycell.tables.table import read_table

ROWS = [{"t": "2024-01-01", "x": 1}, {"t": "2024-01-02", "x": 2.5}, {"t": "2024-01-03", "x": None}]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("t.jsonl", "\n\n".join(map(json.dumps, ROWS)) + "\n"),
        ("t.jsonl", "\ufeff" + "\r\n".join(map(json.dumps, ROWS))),
        ("t.ndjson", "\n".join(map(json.dumps, ROWS)).replace("null", "NaN")),
        ("t.jsonl", json.dumps(ROWS, indent=2)),
        ("t.json", json.dumps(ROWS)),
        ("t.json", json.dumps({"rows": ROWS, "unit": "W"})),
        ("t.json", json.dumps({"t": [r["t"] for r in ROWS], "x": [r["x"] for r in ROWS]})),
        ("t.json", "\n".join(map(json.dumps, ROWS))),
        ("t.jsonl", "\n".join(json.dumps(row, indent=1) for row in ROWS)),
        ("t.jsonl", ",\n".join(map(json.dumps, ROWS)) + ",\n"),
        ("t.json", ",\n".join(json.dumps(row, indent=1) for row in ROWS)),
        ("t.json", json.dumps(ROWS).replace("null", "NaN").replace("}]", "},\n]")),
    ],
)
@pytest.mark.parametrize("gz", [False, True])
def test_json_in_many_layouts(tmp_path, name, data, gz):
    path = tmp_path / (name + ".gz" * gz)
    path.write_bytes(gzip.compress(data.encode()) if gz else data.encode())
    frame = read_table(path)
    assert frame.columns == ["t", "x"]
    np.testing.assert_array_equal(read_numbers(frame["x"], "t"), [1, 2.5, np.nan])


def test_objects_within_objects_are_columns(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1, "b": {"c": 2, "d": {"e": 3}}}\n{"a": 4}\n')
    frame = read_table(path)
    assert frame.columns == ["a", "b.c", "b.d.e"]
    assert frame.rows() == [(1, 2, 3), (4, None, None)]
    path.write_text('{"b.c": 1, "b": {"c": 2}}\n')
    with pytest.raises(DataError, match=r"two columns are called 'b\.c'"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.jsonl", '{"a": 1}\n{"a": 2,}\n', "line 2: is not JSON"),
        ("t.jsonl", '{"a": 1}\n7\n', "line 2: is not JSON"),
        ("t.jsonl", '{"a": ' + "[" * 200_000, "nested too deeply"),
        ("t.json", "[" * 200_000, "nested too deeply"),
        ("t.json", "{}", "expected an array of objects"),
        ("t.json", '{"a": [1, 2], "b": [3]}', "expected an array of objects"),
        ("t.json", "[1, 2]", "expected an array of objects"),
        ("t.parquet", "no", "not a readable parquet table"),
        ("t.arrow", "no", "not a readable arrow table"),
        ("t.json", '[{"a": 1},\n{"a": 2,}]', "line 2: is not JSON"),
        ("t.json", '[{"a": {"b": 1}}, {"a": 3}]', "'a' holds an object in object 1, but a plain"),
        ("t.json", '[{"a": [1]}, {"a": {"b": 1}}]', "'a' holds an array in object 1, but an obj"),
        ("t.jsonl", '{"a": 1}\n{"a": 2\n{"a": 3}\n', "line 3: is not JSON"),
        ("t.jsonl", '{"a": 1}\n# {"a": 2}\n', "line 2: is not JSON"),
        ("t.jsonl", '{"a": 1}\n{"a": Infinity}\n', "line 2: is not JSON .Infinity"),
        ("t.xls", "no", "not a readable workbook"),
        ("t.ods", "no", "not a readable workbook"),
        ("t.xlsb", "no", "save it as .xlsx"),
        ("t.zip", "no", "unpack it"),
        ("t.doc", "no", "not a table format"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, data, words):
    path = tmp_path / name
    path.write_text(data)
    with pytest.raises(DataError, match=words) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) - len(str(path)) < 200


def test_arrow_files(tmp_path):
    frame = pl.DataFrame({"t": ["a", "b"], "x": [1.5, None]})
    frame.write_ipc(tmp_path / "t.feather")
    frame.write_ipc_stream(tmp_path / "t.arrow")
    for name in ("t.feather", "t.arrow"):
        assert read_table(tmp_path / name).equals(frame)


def test_typed_columns_are_read_or_refused_by_name(tmp_path):
    frame = pl.DataFrame(
        {
            "category": pl.Series(["1.5", "2"], dtype=pl.Categorical),
            "decimal": pl.Series([Decimal("1.25"), None], dtype=pl.Decimal(10, 2)),
            "flag": [True, False],
            "duration": [timedelta(seconds=1), timedelta(seconds=2)],
            "list": [[1], [2]],
            "struct": [{"in": 1}, {"in": 2}],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    formats, _ = find_number_formats(read, read.columns, "t")
    assert list(formats) == ["category", "decimal", "flag", "struct.in"]
    assert read_numbers(read["category"], "t").tolist() == [1.5, 2]
    assert read_numbers(read["flag"], "t", formats["flag"]).tolist() == [1, 0]
    assert read_numbers(read["decimal"], "t")[0] == 1.25
    for name in ("duration", "list"):
        with pytest.raises(DataError, match=f"column '{name}' holds"):
            read_numbers(read[name], "t")


def test_a_panic_of_the_reader_is_one_line(tmp_path, monkeypatch, capfd):
    """polars panics on some damaged files, and Rust prints the stack."""

    def panic(path):
        os.write(2, b"thread '<unnamed>' panicked at slice.rs:10\n")
        raise pl.exceptions.PanicException("offset + length <= self.length")

    monkeypatch.setattr(pl, "read_parquet", panic)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable parquet table .offset"):
        read_table(tmp_path / "t.parquet")
    assert capfd.readouterr().err == ""


def test_other_text_on_standard_error_is_kept(tmp_path, monkeypatch, capfd):
    frame = pl.DataFrame({"x": [1, 2]})

    def read(path):
        os.write(2, b"a warning\n")
        return frame

    monkeypatch.setattr(pl, "read_parquet", read)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    assert read_table(tmp_path / "t.parquet").equals(frame)
    assert capfd.readouterr().err == "a warning\n"
