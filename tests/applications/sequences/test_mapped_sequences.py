"""Classifiers of many Parquet files of sequences: a sample decides, all files are trained on."""

import memory_limit
import numpy as np
import pytest

pl = pytest.importorskip("polars", reason="pip install 'memorycell[sequences]'")
pytest.importorskip("sklearn", reason="pip install 'memorycell[sequences]'")

import memorycell  # noqa: E402
from memorycell.applications.sequences import mapped  # noqa: E402
from memorycell.applications.sequences.prepare import prepare  # noqa: E402
from memorycell.applications.sequences.settings import SequencesSettings  # noqa: E402
from memorycell.errors import DataError  # noqa: E402

SMALL = {"hidden": 8, "augment": "none", "encoder": "none"}
FILES, EACH = 4, 20


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMORYCELL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sampled(monkeypatch):
    """A sample of a fourth of the sequences."""
    monkeypatch.setattr(mapped, "SAMPLE_ROWS", 500)
    monkeypatch.setattr(mapped, "MIN_SAMPLE", 20)


@pytest.fixture(params=["class", "number", "step"])
def kind(request):
    return request.param


def write(folder, kind, change=lambda frame, file: frame):
    """Waves of two frequencies; the files are sorted by class."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for f in range(FILES):
        frames = []
        for k in range(EACH):
            steps, fast = int(rng.integers(20, 30)), f >= FILES // 2
            wave = np.sin(np.arange(steps) * (0.9 if fast else 0.3)) + 0.1 * rng.normal(size=steps)
            target = {"class": ["slow", "fast"][fast], "number": 3.0 * fast + k % 3}.get(kind)
            target = [target] * steps if target is not None else (wave * 2).tolist()
            columns = {"id": [f"f{f}k{k}"] * steps, "who": [f"p{k % 5}"] * steps}
            frames.append(pl.DataFrame({**columns, "x": wave, "z": wave**2, "y": target}))
        change(pl.concat(frames), f).write_parquet(folder / f"{f}.parquet")
    return str(folder / "*.parquet")


def settings(kind="class", **more):
    name = {"step": "step_number"}.get(kind, kind)
    return SequencesSettings(sequence="id", target="y", kind=name, inputs="x,z", **SMALL, **more)


def test_few_rows_are_as_one_file(tmp_path, kind):
    pattern = write(tmp_path / "rows", kind)
    files = sorted((tmp_path / "rows").iterdir())
    pl.concat([pl.read_parquet(p) for p in files]).write_parquet(tmp_path / "all.parquet")
    one = prepare(str(tmp_path / "all.parquet"), settings(kind))
    many = prepare(pattern, settings(kind))
    assert many.codec == one.codec
    assert many.fingerprint == one.fingerprint
    for ours, theirs in zip(many.batches(1), one.batches(1), strict=True):
        np.testing.assert_array_equal(ours.x.numpy(), theirs.x.numpy())
        np.testing.assert_array_equal(ours.target.numpy(), theirs.target.numpy())


def test_all_sequences_are_trained_on(tmp_path, kind, sampled):
    """Of an epoch without augmentation, the inputs and targets are those of all sequences."""
    pattern = write(tmp_path / "rows", kind)
    dataset = prepare(pattern, settings(kind, window=40))
    assert dataset.notes[0] == (
        "4 files with 80 sequences; 60 are trained on from disk; a sample of 20 decides columns and"
        " scaling, and is split"
    )
    apart = {name for part in ("valid", "test") for name in dataset.part(part).names}
    table = pl.concat([pl.read_parquet(p) for p in sorted((tmp_path / "rows").iterdir())])
    expected = {}
    for (name,), own in table.filter(~pl.col("id").is_in(apart)).group_by("id"):
        rows = dataset.codec.rows(own.select("x", "z").to_numpy().astype(np.float64))
        target = own["y"].to_list()
        if kind == "class":
            target = dataset.codec.names.index(target[0])
        else:
            mean, std = dataset.codec.target_mean[0], dataset.codec.target_std[0]
            target = (np.array(target if kind == "step" else target[:1]) - mean) / std
        expected[rows.tobytes()] = name, np.ravel(target)
    assert len(expected) == 80 - len(apart)
    found = set()
    for batch in dataset.batches(3):
        for x, length, target in zip(batch.x, batch.lengths, batch.target, strict=True):
            size = int(length)
            if dataset.codec.patch == 1:
                name, own = expected[x[:size].numpy().tobytes()]
                ours = np.ravel(target[:size] if kind == "step" else target)
                np.testing.assert_allclose(ours, own, rtol=1e-4, atol=1e-5)
                found.add(name)
    assert found == {name for name, _ in expected.values()}
    assert dataset.info()["split"]["train"] == len(expected)


def test_parts_and_groups_are_kept_apart(tmp_path, sampled):
    """What is marked for tests, or of a person of the test part, is not trained on."""

    def marked(frame, file):
        part = (
            pl.when(pl.col("id").str.contains("k1")).then(pl.lit("test")).otherwise(pl.lit("train"))
        )
        return frame.with_columns(part.alias("part"))

    pattern = write(tmp_path / "rows", "class", marked)
    dataset = prepare(pattern, settings(group="who"))
    assert isinstance(dataset, mapped.MappedSequencesDataset)
    names = {f"f{f}k{k}": f"p{k % 5}" for f in range(FILES) for k in range(EACH)}
    sample = [name for part in ("train", "valid", "test") for name in dataset.part(part).names]
    evaluated = {g for part in ("valid", "test") for g in dataset.part(part).groups}
    assert evaluated
    others = [n for n, person in names.items() if n not in sample and person not in evaluated]
    assert len(dataset._arrays["sizes"]) == len(others) < 60
    assert dataset.notes[1] == (
        f"{60 - len(others)} others left out: validated or tested on their group"
    )
    parted = prepare(pattern, settings(part="part"))
    tested = parted.part("test").names
    assert tested
    assert all("k1" in name for name in tested)
    marked_count = sum("k1" in name for name in names)
    left_out = marked_count - len(tested)
    assert f"{left_out} others left out: not of the training part" in parted.notes


def test_labels_that_files_lack(tmp_path, sampled):
    """A file without a label of the sample, and one with a class that the sample lacks."""
    texts = [("a;b", "b"), ("b;a", "a"), ("b", "b"), ("a;a", "a")]
    even = pl.col("id").str.ends_with("0")
    lists = write(
        tmp_path / "lists",
        "class",
        lambda frame, f: frame.with_columns(
            pl.when(even).then(pl.lit(texts[f][0])).otherwise(pl.lit(texts[f][1])).alias("y")
        ),
    )
    dataset = prepare(lists, settings("labels"))
    assert dataset.codec.names == ("a", "b")
    sample = {name for p in ("train", "valid", "test") for name in dataset.part(p).names}
    expected = [
        ["a" in texts[f][k % 10 > 0], "b" in texts[f][k % 10 > 0]]
        for f in range(FILES)
        for k in range(EACH)
        if f"f{f}k{k}" not in sample
    ]
    np.testing.assert_array_equal(np.array(dataset._arrays["target"]), expected)
    rare = write(
        tmp_path / "rare",
        "class",
        lambda frame, f: frame.with_columns(
            pl.when(pl.col("id") == "f1k1").then(pl.lit("odd")).otherwise(pl.col("y")).alias("y")
        ),
    )
    dataset = prepare(rare, settings())
    assert "1 other left out: its class is not among them" in dataset.notes
    assert len(dataset._arrays["sizes"]) == 59


def test_a_column_names_the_sequences_of_all_files(tmp_path, sampled):
    """Also of one in which every sequence has one row, so that alone it would be no name."""
    pattern = write(
        tmp_path / "rows", "class", lambda frame, f: frame.unique("id") if f == 3 else frame
    )
    dataset = prepare(pattern, SequencesSettings(target="y", inputs="x,z", **SMALL))
    assert "4 files with 80 sequences" in dataset.notes[0]
    assert len(dataset._arrays["sizes"]) == 60


def test_files_without_rows_are_left_out(tmp_path, sampled):
    pattern = write(tmp_path / "rows", "class", lambda frame, f: frame.head(0) if f == 1 else frame)
    dataset = prepare(pattern, settings())
    assert "3 files with 60 sequences" in dataset.notes[0]
    for path in (tmp_path / "rows").iterdir():
        pl.read_parquet(path).head(0).write_parquet(path)
    with pytest.raises(DataError, match="parquet: no file has a row"):
        prepare(pattern, settings())


def test_the_sample_is_random(tmp_path, sampled):
    """Classes that alternate are all in it."""
    numbers = pl.col("id").str.extract(r"k(\d+)").cast(pl.Int64) % 4
    alternating = numbers.replace_strict({0: "a", 1: "b", 2: "c", 3: "d"})
    pattern = write(
        tmp_path / "rows", "class", lambda frame, f: frame.with_columns(alternating.alias("y"))
    )
    assert prepare(pattern, settings()).codec.names == ("a", "b", "c", "d")


def test_trained_and_evaluated(tmp_path, sampled):
    pattern, out = write(tmp_path / "rows", "class"), tmp_path / "m.safetensors"
    trained = memorycell.train(
        "sequences", pattern, out=out, progress=False, epochs=2, target="y", inputs="x,z", **SMALL
    )
    lines = []
    again = memorycell.load(out).evaluate(log=lines.append)
    assert again["metrics"] == trained.result["metrics"]
    assert not any("has changed" in line for line in lines)
    memorycell.load(out).evaluate(str(tmp_path / "rows" / "?.parquet"), lines.append)
    assert "20 of 80 sequences, at random, are evaluated" in lines


def test_refused(tmp_path, sampled):
    pattern = write(tmp_path / "rows", "class")
    with pytest.raises(DataError, match="nothing.parquet: no file matches"):
        prepare(str(tmp_path / "*" / "nothing.parquet"), settings())
    with pytest.raises(DataError, match="unknown=fast: for a table in one file only"):
        prepare(pattern, settings(unknown="fast"))
    with pytest.raises(DataError, match="no column 'name'; it has id, who"):
        prepare(pattern, SequencesSettings(sequence="name", target="y"))
    path = tmp_path / "rows" / "2.parquet"
    good = path.read_bytes()
    pl.read_parquet(path).with_columns(id=pl.lit("f0k1 ")).write_parquet(path)
    with pytest.raises(DataError, match="2.parquet: sequence 'f0k1' is also in .*0.parquet"):
        prepare(pattern, settings())
    pl.read_parquet(path).drop("z").write_parquet(path)
    with pytest.raises(DataError, match="2.parquet: has no column 'z'"):
        prepare(pattern, settings())
    path.write_bytes(good[:-100])
    with pytest.raises(DataError, match="2.parquet: is not a readable parquet table"):
        prepare(pattern, settings())
    path.write_bytes(good[:100] + bytes(200) + good[300:])
    with pytest.raises(DataError, match="2.parquet: is not a readable parquet table"):
        prepare(pattern, settings())
    path.write_bytes(good)
    for path in (tmp_path / "rows").iterdir():
        pl.read_parquet(path).rename({"id": "who am I"}).write_parquet(path)
    with pytest.raises(DataError, match="name the column that tells sequences apart"):
        prepare(pattern, SequencesSettings(target="y", inputs="x,z"))
    assert not list((tmp_path / "cache").glob("*.tmp"))


IMPORTS = """
import sklearn.linear_model
import polars as pl
from memorycell.applications.sequences import mapped, settings
from memorycell.applications.sequences.prepare import prepare

mapped.SAMPLE_ROWS = 20_000
"""
CODE = """
chosen = settings.SequencesSettings(
    sequence="id", target="y", hidden=8, augment="none", encoder="none", mix=False
)
dataset = prepare(sys.argv[1], chosen)
model = dataset.build()
rows = 0
for batch in dataset.batches(0):
    rows += int(batch.lengths.sum()) * dataset.codec.patch
dataset.validate(model)
print(rows, *dataset.evaluate(model, "test"))
"""
LIMIT_BYTES = 250_000_000


@pytest.mark.slow
@memory_limit.needs_linux
def test_memory_of_sequences_is_bounded(tmp_path):
    rows, folder, rng = 2_000_000, tmp_path / "rows", np.random.default_rng(0)
    folder.mkdir()
    columns = {name: rng.normal(size=rows).astype(np.float32) for name in "abcdefgh"}
    number = np.arange(rows) // 100
    frame = pl.DataFrame({"id": number, **columns, "y": np.array(["a", "b"])[number % 2]})
    for k in range(20):
        frame.slice(k * rows // 20, rows // 20).write_parquet(folder / f"{k:02}.parquet")
    frame.write_parquet(tmp_path / "all.parquet")

    words = memory_limit.printed(
        IMPORTS, CODE, folder / "*.parquet", LIMIT_BYTES, too_large=tmp_path / "all.parquet"
    )
    assert int(words[0]) > 0.99 * rows
