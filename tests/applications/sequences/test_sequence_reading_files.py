"""Reading sequences from archives' files, folders, arrays and pairs of files."""

import numpy as np
import pytest

from memorycell.applications.sequences.arrays import from_arrays
from memorycell.applications.sequences.public_data import DATASETS
from memorycell.applications.sequences.reading import read_sequences
from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.sequence_set import Channel
from memorycell.errors import DataError

HEADER = "# a comment\n@problemName t\n@timeStamps false\n@missing false\n"


def read(path, *, labelled=True, pair=True, channels=None, **options):
    return read_sequences(
        str(path), ReadOptions(**options), labelled=labelled, pair=pair, channels=channels
    )


def test_ts_with_channels_of_different_lengths_and_missing_values(tmp_path):
    path = tmp_path / "t.ts"
    path.write_text(
        HEADER + "@univariate false\n@dimensions 2\n@equalLength false\n@classLabel true up down\n"
        "@data\n1,2,3:4,?,6:up\n7,8:9,10:down\n"
    )
    data = read(path)
    assert [c.name for c in data.channels] == ["x1", "x2"]
    np.testing.assert_array_equal(data.values[0], [[1, 4], [2, np.nan], [3, 6]])
    np.testing.assert_array_equal(data.values[1], [[7, 9], [8, 10]])
    assert data.target.names == ("down", "up")
    assert data.target.values.tolist() == [1, 0]


def test_ts_with_numbers_as_targets(tmp_path):
    path = tmp_path / "t.ts"
    path.write_text(
        HEADER + "@univariate true\n@targetlabel true\n@data\n1,2:1\n3,4:2\n5,6:1\n7,8:2\n"
    )
    data = read(path)
    assert data.target.kind == "number"
    np.testing.assert_array_equal(data.target.values, [[1], [2], [1], [2]])


@pytest.mark.parametrize(
    ("directives", "rows", "message"),
    [
        (
            "@univariate true\n@classLabel true 1 2\n",
            "1,2:3\n",
            "line 8: class '3' is not one of the header",
        ),
        (
            "@univariate true\n@classLabel true 1 2\n",
            "1,2:3,4:1\n",
            "line 8: 2 channels, but the header says 1",
        ),
        (
            "@dimensions 2\n@classLabel true 1 2\n",
            "1,2:3,4:1\n1,2:1\n",
            "line 9: 1 channel, but the header says 2",
        ),
        (
            "@equalLength true\n@classLabel true 1 2\n",
            "1,2:1\n1,2,3:2\n",
            "line 9: 3 values .* the first row has 2",
        ),
        (
            "@seriesLength 3\n@classLabel true 1 2\n",
            "1,2:1\n",
            "line 8: 2 values .*@seriesLength 3",
        ),
        (
            "@dimensions 2\n@classLabel true 1 2\n",
            "1,2:3:1\n",
            "line 8: channel 1 has 2 values, channel 2 has",
        ),
        ("@classLabel true 1 2\n@univariate true\n", "1,b:1\n", "line 8: 'b' is not a number"),
        ("@classLabel true 1 2\n@univariate true\n", "(0,1),(1,2):1\n", "line 8: time stamps"),
        ("@classLabel true 1 2\n@univariate true\n", "1,inf:1\n", "line 8: a value is infinite"),
        ("@classLabel maybe\n@univariate true\n", "1,2:1\n", "line 5: expected true or false"),
        ("@ \n@univariate true\n", "1,2:1\n", "line 5: expected a directive"),
        ("@classLabel true 1 2\n@univariate true\n", "", "no rows after @data"),
    ],
)
def test_ts_files_whose_header_and_rows_disagree(tmp_path, directives, rows, message):
    path = tmp_path / "t.ts"
    path.write_text(HEADER + directives + "@data\n" + rows)
    with pytest.raises(DataError, match=message):
        read(path)


def test_arff_with_one_channel_and_with_several(tmp_path):
    one = tmp_path / "one.arff"
    one.write_text(
        "% about\n@relation one\n@attribute t0 numeric\n@attribute t1 numeric\n"
        "@attribute target {a,b}\n@data\n1.5,2.5,a\n3,?,b\n4,5,a\n"
    )
    data = read(one)
    assert [v[:, 0].tolist() for v in data.values] == [[1.5, 2.5], [3], [4, 5]]
    assert data.target.values.tolist() == [0, 1, 0]
    several = tmp_path / "several.arff"
    several.write_text(
        "@relation s\n@attribute bag relational\n@attribute c1 numeric\n@attribute c2 numeric\n"
        "@end bag\n@attribute activity {Sit,Stand}\n@data\n"
        "'1,2\\n3,4\\n5,6',Sit\n'7,8\\n9,10\\n0,1',Stand\n"
    )
    data = read(several)
    np.testing.assert_array_equal(data.values[0], [[1, 3, 5], [2, 4, 6]])
    assert data.target.names == ("Sit", "Stand")
    one.write_text(one.read_text().replace("4,5,a", "4,5,c"))
    with pytest.raises(DataError, match="line 9: class 'c' is not one of the header's a, b"):
        read(one)


def test_a_pair_of_files_has_official_parts(tmp_path):
    head = HEADER + "@univariate true\n@classLabel true 1 2\n@data\n"
    (tmp_path / "Set_TRAIN.ts").write_text(head + "1,2:1\n3,4:2\n")
    (tmp_path / "Set_TEST.ts").write_text(head + "5,6:2\n7,8:1\n9,9:1\n")
    for source in ("Set_TRAIN.ts", "Set_TEST.ts", "Set", ""):
        data = read(tmp_path / source)
        assert data.split.tolist() == [0, 0, 2, 2, 2]
        assert data.names == ["TRAIN 1", "TRAIN 2", "TEST 1", "TEST 2", "TEST 3"]
        assert data.target.values.tolist() == [0, 1, 1, 0, 0]
    alone = read(tmp_path / "Set_TEST.ts", pair=False, channels=[Channel("force")])
    assert alone.split is None
    assert len(alone) == 3
    assert alone.channels == [Channel("force")]
    with pytest.raises(DataError, match="the model reads 2"):
        read(tmp_path / "Set_TEST.ts", pair=False, channels=[Channel("a"), Channel("b")])


def test_a_pair_without_header_and_a_pair_of_tables(tmp_path):
    (tmp_path / "U_TRAIN.tsv").write_text("1\t0.5\t1.5\tNaN\n2\t3\t4\t5\n1\t1\t1\t2\n")
    (tmp_path / "U_TEST.tsv").write_text("2\t0.25\t1\t2\n")
    data = read(tmp_path / "U_TRAIN.tsv")
    assert data.lengths.tolist() == [2, 3, 3, 3]
    assert data.target.values.tolist() == [0, 1, 0, 1]
    for part, first in (("TRAIN", 0), ("TEST", 6)):
        rows = [f"s{first + k},{k + t / 7},{'ab'[k % 2]}" for k in range(4) for t in range(2)]
        (tmp_path / f"T_{part}.csv").write_text("id,a,y\n" + "\n".join(rows) + "\n")
    data = read(tmp_path / "T_TEST.csv", sequence="id", target="y")
    assert data.split.tolist() == [0] * 4 + [2] * 4


@pytest.fixture
def folder(tmp_path):
    for k in range(4):
        rows = "\n".join(f"{k + t / 7},{t * k / 3}" for t in range(3 + k))
        (tmp_path / f"r{k}.csv").write_text(f"a,b\n{rows}\n")
    return tmp_path


def test_a_folder_with_a_table_of_labels(folder):
    with pytest.raises(DataError, match="name the column to predict"):
        read(folder)
    (folder / "labels.csv").write_text(
        "file,label,group,split\nr0.csv,x,p,train\nr1,z,p,train\nr2.csv,x,q,test\nr3.csv,,q,test\nr9,z,q,test\n"
    )
    data = read(folder)
    assert data.names == ["r0.csv", "r1.csv", "r2.csv"]
    assert data.lengths.tolist() == [3, 4, 5]
    assert data.target.values.tolist() == [0, 1, 0]
    assert data.groups == ["p", "p", "q"]
    assert data.split.tolist() == [0, 0, 2]
    assert any("1 of 5 rows name no sequence" in n for n in data.notes)
    assert len(read(folder, labelled=False, channels=[Channel("b")])) == 4


def test_a_bad_value_in_a_folder_names_the_file_and_its_row(folder):
    (folder / "labels.csv").write_text("file,label\nr0.csv,x\nr1,z\nr2.csv,x\nr3.csv,z\n")
    rows = "\n".join(["1,2", "3,bad", *(f"{t},{t}" for t in range(12))])
    (folder / "r2.csv").write_text(f"a,b\n{rows}\n")
    with pytest.raises(DataError, match=r"r2.csv: row 2, column 'b': 'bad' is not a number"):
        read(folder)


def test_folders_as_classes(tmp_path):
    for name in ("walk/1", "walk/2", "run/1"):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("a\n1.5\n2.5\n3\n")
    data = read(tmp_path, inputs="a")
    assert dict(zip(data.names, data.target.values.tolist(), strict=True)) == {
        "run/1.csv": 0,
        "walk/1.csv": 1,
        "walk/2.csv": 1,
    }


def test_npz_files(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5, 2))
    np.savez(tmp_path / "x.npz", X=x, y=np.arange(6) % 2, groups=list("aabbcc"))
    with pytest.raises(DataError, match=r"2 channels \(x1, x2\); the model reads 1 \(x1\)"):
        read(tmp_path / "x.npz", channels=[Channel("x1")])
    np.savez(tmp_path / "named.npz", X=x, y=np.arange(6) % 2, channels=["u", "v"])
    data = read(tmp_path / "named.npz", channels=[Channel("v")])
    np.testing.assert_array_equal(data.values[3][:, 0], x[3, :, 1])
    assert any("channels that the model does not read: u" in n for n in data.notes)
    data = read(tmp_path / "x.npz")
    np.testing.assert_array_equal(data.values[3], x[3])
    assert data.groups == list("aabbcc")
    np.savez(tmp_path / "nft.npz", X=x.transpose(0, 2, 1), y=np.arange(6) % 2)
    np.testing.assert_array_equal(read(tmp_path / "nft.npz", layout="nft").values[3], x[3])
    np.savez(tmp_path / "ragged.npz", X=x[0], lengths=[2, 3], y=["p", "q"], split=["train", "test"])
    data = read(tmp_path / "ragged.npz")
    np.testing.assert_array_equal(data.values[1], x[0, 2:])
    assert data.split.tolist() == [0, 2]
    np.savez(tmp_path / "objects.npz", X=np.array([[1], [2, 3]], object), y=[0, 1])
    with pytest.raises(DataError, match="Python objects, which are not read; .* lengths"):
        read(tmp_path / "objects.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:300])
    with pytest.raises(DataError, match="not a readable .npz"):
        read(tmp_path / "cut.npz")
    np.savez(tmp_path / "fit.npz", X=x, y=np.arange(4))
    with pytest.raises(DataError, match=r"y \[4\] does not fit 6 sequences of 30 steps"):
        read(tmp_path / "fit.npz")


def test_arrays_from_python():
    rng = np.random.default_rng(1)
    lists = [rng.normal(size=(n, 2)) for n in (3, 5, 2)]
    y = ["a", "b", "a"]
    data = from_arrays(lists, y)
    assert data.lengths.tolist() == [3, 5, 2]
    np_list = from_arrays([v.T for v in lists], y, layout="nft")
    for own, other in zip(data.values, np_list.values, strict=True):
        np.testing.assert_array_equal(own, other)
    padded = np.full((3, 5, 2), np.nan)
    for k, own in enumerate(lists):
        padded[k, : len(own)] = own
    data = from_arrays(padded, y)
    assert data.lengths.tolist() == [3, 5, 2]
    assert any("5 steps at the end" in n for n in data.notes)
    frames = [pl_frame(v) for v in lists]
    assert [c.name for c in from_arrays(frames, y).channels] == ["u", "v"]
    steps = from_arrays(lists, [v[:, 0] for v in lists])
    assert steps.target.kind == "step_number"
    np.testing.assert_array_equal(steps.target.values[1][:, 0], lists[1][:, 0])
    with pytest.raises(DataError, match="sequences 1 and 3 are both called 'p'"):
        from_arrays(lists, y, names=["p", "q", "p"])
    with pytest.raises(DataError, match="sequence 2: 3 channels, but 2 in sequence 1"):
        from_arrays([lists[0], rng.normal(size=(4, 3))], ["a", "b"])
    labels = from_arrays(lists, [[1, 0], [0, 1], [1, 1]])
    assert labels.target.kind == "labels"


def pl_frame(values):
    import polars as pl

    return pl.DataFrame({"u": values[:, 0], "v": values[:, 1]})


def test_all_missing_channels_are_dropped_with_a_note():
    from memorycell.applications.sequences.reading import _checked

    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    x[:, :, 1] = np.nan
    data = _checked(from_arrays(x, [0, 1, 0, 1]), training=True)
    assert [c.name for c in data.channels] == ["x1"]
    assert any("1 channel left out: without values (x2)" in n for n in data.notes)


@pytest.mark.data
def test_public_sets_have_their_official_parts(public_data, monkeypatch):
    by_name = {d.name: d for d in DATASETS}
    monkeypatch.setattr("memorycell.application.datasets.named_datasets", lambda: by_name)
    digits = read("pendigits")
    assert np.bincount(digits.split).tolist() == [7494, 0, 3498]
    np.testing.assert_array_equal(digits.values[0][:2], [[47, 100], [27, 81]])
    assert digits.target.names[digits.target.values[0]] == "8"
    rivers = read("hydrology")
    assert rivers.names == ["01022500", "01547700", "02064000", "03015500"]
    assert rivers.lengths.tolist() == [1461, 1096, 1096, 1096]
    assert rivers.target.kind == "step_number"
    assert rivers.static.shape == (4, 18)
    assert any("365 of 4,749 steps have no target (in 1 of 4" in n for n in rivers.notes)
    assert rivers.found["target"] == "runoff_mm_day"
    words = read("letters")
    assert (len(words), int(words.lengths.sum())) == (6877, 52152)
    assert words.target.kind == "step_class"
    assert len(words.target.names) == 26
    assert set(np.unique(words.values[0])) == {0.0, 1.0}
    spelt = {"".join(words.target.names[k] for k in v) for v in words.target.values}
    assert len(spelt) == 55  # the data have 55 different words
    loop = read("water-loop")
    assert (len(loop), len(loop.channels), loop.target.names) == (34, 8, ("fault", "normal"))
    assert np.bincount(loop.split).tolist() == [17, 0, 17]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "parts", "channels", "shortest", "longest"),
    [("JapaneseVowels", [270, 0, 370], 12, 7, 29), ("PLAID", [537, 0, 537], 1, 100, 1344)],
)
def test_sets_of_the_archive(name, parts, channels, shortest, longest, monkeypatch):
    by_name = {d.name: d for d in DATASETS}
    monkeypatch.setattr("memorycell.application.datasets.named_datasets", lambda: by_name)
    try:
        data = read(name)
    except DataError as error:
        assert "pip install --no-deps sktime" in str(error)
        pytest.skip(str(error))
    assert np.bincount(data.split).tolist() == parts
    assert len(data.channels) == channels
    assert (data.lengths.min(), data.lengths.max()) == (shortest, longest)


@pytest.mark.parametrize("name", ["letters", "water-loop"])
def test_public_sets_with_other_content(name, tmp_path, monkeypatch):
    by_name = {d.name: d for d in DATASETS}
    monkeypatch.setattr("memorycell.application.datasets.named_datasets", lambda: by_name)
    monkeypatch.setenv("MEMORYCELL_DATA", str(tmp_path))
    (tmp_path / "skab" / "valve1").mkdir(parents=True)
    (tmp_path / "skab" / "valve1" / "1.csv").write_text("datetime;Pressure\n2020-03-09;1\n")
    np.savez(tmp_path / "ocr-words.npz", pixels=np.zeros(3))
    with pytest.raises(DataError, match="expected"):
        read(name)
    (tmp_path / "ocr-words.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(DataError, match="expected|not a readable"):
        read(name)
