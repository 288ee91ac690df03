"""Reading sequences from tables: roles of columns, kinds of targets, rows out of order."""

import numpy as np
import polars as pl
import pytest

from memorycell.applications.sequences.reading import read_sequences
from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.sequence_set import Channel
from memorycell.errors import DataError

LENGTHS = (3, 4, 5, 3, 4, 5)


def walk(target="run,walk", target_name="y") -> tuple[str, list[np.ndarray]]:
    """(CSV of six sequences with a number and a word per step, the numbers)."""
    rng = np.random.default_rng(0)
    words = target.split(",")
    lines, values = [f"id,step,a,mode,{target_name}"], []
    for k, length in enumerate(LENGTHS):
        own = rng.normal(size=length).round(3)
        values.append(own)
        lines += [
            f"s{k},{t},{own[t]},{'on' if t % 2 else 'idle'},{words[k % len(words)]}"
            for t in range(length)
        ]
    return "\n".join(lines) + "\n", values


@pytest.fixture
def read(tmp_path):
    """Write a text and read it as a table with options."""

    def run(text, name="data.csv", *, labelled=True, channels=None, **options):
        path = tmp_path / name
        path.write_text(text)
        return read_sequences(
            str(path), ReadOptions(**options), labelled=labelled, channels=channels
        )

    return run


def test_a_long_table_without_any_option(read):
    text, values = walk()
    data = read(text)
    assert data.names == [f"s{k}" for k in range(6)]
    assert data.channels == [Channel("a"), Channel("mode", ("idle", "on"))]
    for own, given in zip(data.values, values, strict=True):
        np.testing.assert_array_equal(own[:, 0], given)
        np.testing.assert_array_equal(own[:, 1], np.arange(len(given)) % 2)
    assert data.target.kind == "class"
    assert data.target.names == ("run", "walk")
    np.testing.assert_array_equal(data.target.values, [0, 1, 0, 1, 0, 1])
    assert data.found == {"sequence": "id", "time": "step", "target": "y", "kind": "class"}
    assert any("'step' numbers the steps" in note for note in data.notes)


def test_rows_in_any_order_and_format_give_the_same_sequences(read, tmp_path):
    text, values = walk()
    frame = pl.read_csv(text.encode()).sample(fraction=1.0, shuffle=True, seed=3)
    frame.write_parquet(tmp_path / "mixed.parquet")
    options = ReadOptions(sequence="id", time="step", target="y")
    data = read_sequences(str(tmp_path / "mixed.parquet"), options)
    found = dict(zip(data.names, data.values, strict=True))
    for k, given in enumerate(values):
        np.testing.assert_array_equal(found[f"s{k}"][:, 0], given)
    classes = dict(zip(data.names, data.target.values, strict=True))
    assert [classes[f"s{k}"] for k in range(6)] == [0, 1, 0, 1, 0, 1]
    assert any("not in order of time: sorted" in note for note in data.notes)


@pytest.mark.parametrize(
    ("words", "options", "kind", "names", "first"),
    [
        ("1.0,2.0", {}, "class", ("1", "2"), 0),
        ("10,9", {}, "class", ("9", "10"), 1),
        ("1.0,2.0", {"kind": "number"}, "number", ("y",), 1.0),
        ("0.5,2.25", {}, "number", ("y",), 0.5),
        ("1,2,3,4,5,6", {}, "number", ("y",), 1.0),  # each once: no classes
        ("true,false", {}, "class", ("false", "true"), 1),
        ("a;b,b", {}, "labels", ("a", "b"), [1, 1]),
        ("5km,10km", {"kind": "number"}, "number", ("y",), 5.0),
    ],
)
def test_kind_of_the_target(read, words, options, kind, names, first):
    data = read(walk(words)[0], **options)
    assert data.target.kind == kind
    assert data.target.names == names
    np.testing.assert_array_equal(np.ravel(data.target.values[0]), np.ravel(first))


def test_decimal_commas_are_numbers(read):
    lines = ["id;a;y"] + [f"{k};{k},{t}5;{'ab'[k % 2]}" for k in range(4) for t in range(3)]
    data = read("\n".join(lines), sequence="id")
    np.testing.assert_allclose(data.values[2][:, 0], [2.05, 2.15, 2.25])
    assert data.formats["a"].decimal == ","


def test_several_columns_of_0_and_1_are_labels(read):
    lines = ["id,a,u,v"] + [f"{k},{k + t / 7},{k % 2},1" for k in range(4) for t in range(2)]
    target = read("\n".join(lines), target="u,v").target
    assert target.kind == "labels"
    np.testing.assert_array_equal(target.values, [[0, 1], [1, 1], [0, 1], [1, 1]])


def test_a_target_that_varies_is_predicted_at_every_step(read):
    lines = ["id,a,y"] + [
        f"{k},{k + t / 7},{'lo' if t < 2 else 'hi'}" for k in range(3) for t in range(4)
    ]
    data = read("\n".join(lines), sequence="id")
    assert data.target.kind == "step_class"
    assert [v.tolist() for v in data.target.values] == [[1, 1, 0, 0]] * 3
    lines = ["id,a,y"] + [
        f"{k},{k + t / 7},{'' if t == 1 else t / 3}" for k in range(3) for t in range(4)
    ]
    data = read("\n".join(lines), sequence="id")
    assert data.target.kind == "step_number"
    np.testing.assert_allclose(data.target.values[1][:, 0], [0, np.nan, 2 / 3, 1])
    assert any("3 of 12 steps have no target" in note for note in data.notes)


def test_a_target_that_must_not_vary_names_sequence_and_row(read):
    text = walk()[0].replace("s5,4,", "s5,9,").rstrip().rsplit(",", 1)[0] + ",run\n"
    with pytest.raises(
        DataError, match=r"row 24: column 'y' is 'run', but 'walk' before in sequence 's5'"
    ):
        read(text, kind="class")
    notes = read(text).notes
    assert any("varies in 1 of 6 sequences (first: 's5', row 24)" in note for note in notes)


def test_sequences_without_target_are_left_out_with_a_count(read):
    text = walk()[0].replace("walk", "")
    with pytest.raises(DataError, match="always 'run'"):
        read(text)
    text = walk("run,,walk")[0]
    data = read(text)
    assert data.names == ["s0", "s2", "s3", "s5"]
    assert any(
        "2 of 6 sequences left out: their target is missing (first: 's1')" in n for n in data.notes
    )


def test_columns_that_are_no_inputs(read):
    lines = ["nr,id,a,empty,same,who,y"]
    lines += [
        f"{3 * k + t},{k},{k + t / 7},,7,p{k // 2},{'ab'[k % 2]}"
        for k in range(6)
        for t in range(3)
    ]
    data = read("\n".join(lines))
    assert [c.name for c in data.channels] == ["a", "who"]
    for name, reason in (("nr", "counter"), ("empty", "no values"), ("same", "always the same")):
        assert any(f"'{name}' left out" in n and reason in n for n in data.notes)
    assert any("'who' is constant within each sequence" in n for n in data.notes)
    data = read("\n".join(lines), group="who", static="same")
    assert [c.name for c in data.channels] == ["a"]
    assert data.groups == ["p0", "p0", "p1", "p1", "p2", "p2"]


def test_static_columns_and_tables(read, tmp_path):
    lines = ["id,a,size,y"] + [
        f"k{k},{k + t / 7},{k * 1.5},{'ab'[k % 2]}" for k in range(4) for t in range(3)
    ]
    data = read("\n".join(lines), static="size")
    np.testing.assert_array_equal(data.static, [[0], [1.5], [3], [4.5]])
    with pytest.raises(DataError, match=r"row 2: static column 'a' varies in sequence 'k0'"):
        read("\n".join(lines), static="a")
    (tmp_path / "about.csv").write_text("id,height,kind\nk3,3.25,x\nk1,1.25,z\nk0,0.25,x\n")
    data = read("\n".join(lines), sequence="id", inputs="a", target="y", static="about.csv")
    assert data.static_channels == [Channel("height"), Channel("kind", ("x", "z"))]
    np.testing.assert_array_equal(data.static[:, 0], [0.25, 1.25, np.nan, 3.25])
    assert any("no row for 1 of 4 sequences (first: 'k2')" in n for n in data.notes)


def test_names_that_collide(read):
    rows = [(who, k, t) for who in "AB" for k in range(3) for t in range(2)]
    lines = ["who,id,step,a,y"] + [
        f"{w},{k},{t},{k + t / 7 + (w == 'B')},{'ab'[k % 2]}" for w, k, t in rows
    ]
    with pytest.raises(DataError, match=r"row 7 of sequence '0' has the same time as row 1"):
        read("\n".join(lines), sequence="id", time="step", inputs="a")
    data = read("\n".join(lines), sequence="id", time="step", group="who")
    assert data.names == ["A/0", "A/1", "A/2", "B/0", "B/1", "B/2"]
    assert data.groups == ["A"] * 3 + ["B"] * 3
    assert read("\n".join(lines), sequence="who,id", time="step").names == data.names


def test_columns_of_a_model(read):
    text = walk()[0]
    channels = [Channel("mode", ("on", "idle")), Channel("a")]
    data = read(text, labelled=False, channels=channels, sequence="id", time="step", target="y")
    assert [c.name for c in data.channels] == ["mode", "a"]
    assert data.channels[0].words == ("idle", "on")  # those of these data
    assert data.target is None
    with pytest.raises(
        DataError, match="no column 'b', which the model reads; the table has id, step, a"
    ):
        read(text, channels=[Channel("b")])
    alone = "a,mode\n1.5,on\n2.5,idle\n"
    data = read(alone, labelled=False, channels=channels, sequence="id", time="step", target="y")
    assert data.lengths.tolist() == [2]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("id,a\n1,2\n1,3\n", {}, "name the column to predict: --set target=COLUMN; it has id, a"),
        (
            "id,a,y\n1,2,x\n,3,z\n",
            {"sequence": "id"},
            "row 2, column 'id': the name of the sequence",
        ),
        ("a,y\n1.5,x\n2.5,x\n", {"kind": "class"}, "always 'x'"),
        ("id,a,y\n1,2.5,x\n2,3.5,z\n", {"inputs": "a,y"}, "the target is never an input"),
        ("id,a,y\n1,2.5,x\n2,3.5,z\n", {"target": "w"}, "no column 'w'; it has id, a, y"),
    ],
)
def test_tables_that_cannot_be_used(read, text, options, message):
    with pytest.raises(DataError, match=message):
        read(text, **options)


def test_a_value_that_is_no_number_names_its_row(read):
    lines = ["id,a,y"] + [f"{k},{k + t / 7},{'ab'[k % 2]}" for k in range(10) for t in range(3)]
    lines[14] = "4,oops,a"
    with pytest.raises(DataError, match=r"row 14, column 'a': 'oops' is not a number"):
        read("\n".join(lines), sequence="id")


def test_sequences_of_one_step_are_counted(read):
    lines = ["id,a,y"] + [f"{k},{k / 7},{'ab'[k % 2]}" for k in range(6)]
    data = read("\n".join(lines), sequence="id")
    assert any(n.startswith("6 of 6 sequences have one step") for n in data.notes)
