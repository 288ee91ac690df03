"""Forecasters of many Parquet files: the datasets, batches and metrics of one file with their rows,
in bounded memory.
"""

import datetime

import memory_limit
import numpy as np
import pytest
import torch

pl = pytest.importorskip("polars")

from memorycell.application import array_folder  # noqa: E402
from memorycell.applications.forecast import (  # noqa: E402
    mapped_dataset,
    mapped_fitting,
    mapped_prepare,
    mapped_steps,
)
from memorycell.applications.forecast.mapped_fitting import order_statistic  # noqa: E402
from memorycell.applications.forecast.prepare import prepare  # noqa: E402
from memorycell.applications.forecast.settings import ForecastSettings  # noqa: E402
from memorycell.errors import DataError, UserError  # noqa: E402
from memorycell.tables import parquet_files  # noqa: E402

SETTINGS = {"target": "load", "horizon": 6, "inputs": "all", "linear": "trained", "normal": "no"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMORYCELL_CACHE", str(tmp_path / "cache"))


def hourly(rows, seed=0, gaps=False, missing=0.02):
    """Rows of two columns with a share of missing values; with `gaps`, short and long ones between
    rows.
    """
    rng = np.random.default_rng(seed)
    hours = np.arange(rows)
    if gaps:
        hours = hours + 2 * (hours > rows // 3) + 300 * (hours > rows // 2)
    load = 20 + 5 * np.sin(hours / 24 * 2 * np.pi) + rng.normal(size=rows)
    load[rng.random(rows) < missing] = np.nan
    begin = datetime.datetime(2020, 1, 1)
    return pl.DataFrame(
        {
            "time": [begin + datetime.timedelta(hours=int(h)) for h in hours],
            "load": load,
            "heat": rng.normal(size=rows).cumsum(),
        }
    ).with_columns(pl.col("load").fill_nan(None))


def panel(rows, interleaved):
    frames = [
        hourly(rows + 10 * k, k).with_columns(pl.lit(f"s{k}").alias("id"), pl.lit(k % 2).alias("k"))
        for k in range(4)
    ]
    frame = pl.concat(frames)
    return frame.sort("time", maintain_order=True) if interleaved else frame


def write(frame, folder, parts):
    folder.mkdir()
    for k, begin in enumerate(range(0, frame.height, -(-frame.height // parts))):
        frame.slice(begin, -(-frame.height // parts)).write_parquet(folder / f"{k:02}.parquet")
    return str(folder / "*.parquet")


def both(frame, tmp_path, settings):
    """(the dataset of one file, that of several files with the same rows)"""
    frame.write_parquet(tmp_path / "all.parquet")
    pattern = write(frame, tmp_path / "rows", 5)
    settings = ForecastSettings(**{**SETTINGS, **settings})
    return prepare(str(tmp_path / "all.parquet"), settings), prepare(pattern, settings)


def check_equal(one, many, exact=True):
    close = np.testing.assert_array_equal if exact else np.testing.assert_allclose
    tolerance = {} if exact else {"rtol": 1e-5, "atol": 1e-6}
    if exact:
        assert many.codec == one.codec
        assert many.naive_error == one.naive_error
        assert many.series.fingerprint() == one.series.fingerprint()
    assert many.info()["fingerprint"] == one.info()["fingerprint"]
    assert many.info()["split"] == one.info()["split"]
    np.testing.assert_array_equal(many.split, one.split)
    close(many.inputs, one.inputs, **tolerance)
    close(many.history.level, one.history.level, **tolerance)
    for name in ("train", "valid", "test"):
        at = one.origins(name)
        np.testing.assert_array_equal(many.origins(name), at)
        close(many.history.future[at], one.history.future[at], **tolerance)
    for ours, theirs in zip(many.batches(3), one.batches(3), strict=True):
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            close(a.numpy(), b.numpy(), **tolerance)
        assert ours.carry == theirs.carry


CASES = {
    "one series": (hourly(900), {}),
    "gaps": (hourly(900, gaps=True), {"context": 12}),
    "often missing": (hourly(900, missing=0.5), {}),
    "no clock": (hourly(900).drop("time"), {"season": 24, "context": 24}),
    "snapped": (hourly(900), {"every": "2h", "context": 12}),
    "known": (hourly(900), {"inputs": None, "known": "heat"}),
    "several": (hourly(900), {"target": "load,heat"}),
    "series": (panel(300, False), {"group": "id", "context": 12, "static": "k"}),
    "interleaved": (panel(300, True), {"group": "id", "context": 12, "scaling": "series"}),
    "no clock, series": (panel(300, True).drop("time"), {"group": "id", "context": 12}),
    "split": (hourly(900), {"split": "600,150,150"}),
    "test in the middle": (hourly(900), {"test": "0.4:0.6"}),
}


def random_model(dataset):
    """Its forecasts depend on the state, unlike those of initial weights."""
    torch.manual_seed(0)
    model = dataset.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", CASES)
def test_as_one_file(name, tmp_path):
    frame, settings = CASES[name]
    one, many = both(frame, tmp_path, settings)
    check_equal(one, many)
    model = random_model(one)
    assert many.evaluate(model, "test") == one.evaluate(model, "test")
    assert many.baselines("test") == one.baselines("test")
    assert many.evaluate(model, "valid") == one.evaluate(model, "valid")


@pytest.mark.parametrize("name", CASES)
def test_blocks_join(name, tmp_path, monkeypatch):
    """Steps, fills, changes, futures and splits across the borders of blocks and pieces."""
    monkeypatch.setattr(parquet_files, "PIECE_ROWS", 37)
    monkeypatch.setattr(mapped_steps, "BLOCK_STEPS", 41)
    monkeypatch.setattr(mapped_fitting, "MAX_SORTED", 20)
    monkeypatch.setattr(mapped_dataset, "PART_STEPS", 29)
    monkeypatch.setattr(mapped_dataset, "PARTS", 3)
    frame, settings = CASES[name]
    one, many = both(frame, tmp_path, settings)
    check_equal(one, many, exact=False)
    model = random_model(one)
    assert many.evaluate(model, "test") == pytest.approx(one.evaluate(model, "test"), rel=1e-4)


@pytest.mark.parametrize("values", [3, 40, 100_000])
def test_order_statistics(values, monkeypatch):
    monkeypatch.setattr(mapped_fitting, "MAX_SORTED", 50)
    numbers = np.random.default_rng(values).integers(0, values, 5000)
    ordered = np.sort(numbers)
    for at in (0, 1, 17, 2500, 4998, 4999):
        found = order_statistic(lambda: iter(np.split(numbers, 10)), at)
        assert found == ordered[at]


def test_a_sample_decides_of_long_tables(tmp_path, monkeypatch):
    """Fitted on all rows: only the choices and the baselines are of the sample."""
    monkeypatch.setattr(mapped_prepare, "SAMPLE_ROWS", 400)
    one, many = both(hourly(1500), tmp_path, {"split": "1000,200,200"})
    np.testing.assert_array_equal(many.split, one.split)
    np.testing.assert_array_equal(many.inputs, one.inputs)
    assert many.codec == one.codec
    assert "from a sample of 400 rows:" in many.notes
    ours, theirs = many.baselines("test"), one.baselines("test")
    for name in theirs:
        assert ours[name] != theirs[name]
        assert ours[name]["mae"] == pytest.approx(theirs[name]["mae"], rel=0.2)


def test_first_series_are_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_prepare, "SAMPLE_ROWS", 650)
    one, many = both(panel(300, True), tmp_path, {"group": "id", "context": 12})
    assert many.codec.mean == one.codec.mean
    assert "from a sample of 610 rows:" in many.notes


def test_baselines_of_a_sample_have_the_scale_of_all_rows(tmp_path, monkeypatch):
    """The errors of persistence are those of the sample by itself, in the unit of the data."""
    monkeypatch.setattr(mapped_prepare, "SAMPLE_ROWS", 650)
    first = pl.col("id").is_in(["s0", "s1"])
    louder = panel(300, True).with_columns(
        load=pl.when(first).then(pl.col("load")).otherwise(10 * pl.col("load"))
    )
    settings = {"group": "id", "context": 12}
    _, many = both(louder, tmp_path, settings)
    louder.filter(first).write_parquet(tmp_path / "sample.parquet")
    alone = prepare(str(tmp_path / "sample.parquet"), ForecastSettings(**SETTINGS, **settings))
    assert many.codec.std[0] > 3 * alone.codec.std[0]
    ours, theirs = (
        dataset.baseline_models["persistence"].spread * dataset.codec.std[0]
        for dataset in (many, alone)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_made_once(tmp_path, monkeypatch):
    settings = ForecastSettings(**SETTINGS)
    pattern = write(hourly(600), tmp_path / "rows", 3)
    first = prepare(pattern, settings)
    made = sorted(p.name for p in array_folder.cache_folder().iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(array_folder, "_write", lambda *given: pytest.fail("made again"))
        prepare(pattern, settings)
        prepare(pattern, ForecastSettings(**SETTINGS, hidden=64))  # the same arrays
    assert sorted(p.name for p in array_folder.cache_folder().iterdir()) == made
    hourly(600, seed=1).slice(400).write_parquet(tmp_path / "rows" / "02.parquet")
    assert prepare(pattern, settings).codec.mean != first.codec.mean


def test_trained_saved_and_evaluated(tmp_path):
    import memorycell

    pattern = write(hourly(900), tmp_path / "rows", 4)
    out = tmp_path / "m.safetensors"
    small = {**SETTINGS, "hidden": 8, "epochs": 1}
    trained = memorycell.train("forecast", pattern, out=out, progress=False, **small)
    assert memorycell.load(out).evaluate()["metrics"] == trained.result["metrics"]
    other = write(
        hourly(300, seed=7).with_columns(pl.col("time").dt.offset_by("1y")), tmp_path / "later", 2
    )
    pl.concat([pl.read_parquet(p) for p in sorted((tmp_path / "later").iterdir())]).write_parquet(
        tmp_path / "later.parquet"
    )
    one = memorycell.load(out).evaluate(tmp_path / "later.parquet")
    many = memorycell.load(out).evaluate(other)
    assert many["metrics"] == one["metrics"]
    assert many["baselines"] == one["baselines"]


def test_refused(tmp_path):
    pattern = write(hourly(600), tmp_path / "rows", 3)
    with pytest.raises(DataError, match="nothing.parquet: no file matches"):
        prepare(str(tmp_path / "*" / "nothing.parquet"), ForecastSettings())
    with pytest.raises(DataError, match="returns=load: for a table in one file only"):
        prepare(pattern, ForecastSettings(returns="load"))
    good = (tmp_path / "rows" / "01.parquet").read_bytes()
    (tmp_path / "rows" / "01.parquet").write_bytes(good[:-100])
    with pytest.raises(DataError, match="01.parquet: is not a readable parquet table"):
        prepare(pattern, ForecastSettings(**SETTINGS))
    hourly(20).drop("heat").write_parquet(tmp_path / "rows" / "01.parquet")
    with pytest.raises(DataError, match="01.parquet: has no column 'heat'"):
        prepare(pattern, ForecastSettings(**SETTINGS))
    assert not list(array_folder.cache_folder().glob("*.tmp"))


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    pattern = write(hourly(600), tmp_path / "rows", 3)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEMORYCELL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="file: arrays of the data cannot be written there"):
        prepare(pattern, ForecastSettings(**SETTINGS))


def test_what_a_killed_process_left_is_removed(tmp_path):
    pattern, settings = write(hourly(600), tmp_path / "rows", 3), ForecastSettings(**SETTINGS)
    prepare(pattern, settings)
    (made,) = array_folder.cache_folder().glob("forecast-steps-????????????????")
    made.rename(made.with_name(f"{made.name}.999999.tmp"))
    prepare(pattern, settings)
    assert made.exists()
    assert not list(array_folder.cache_folder().glob("*.tmp"))


IMPORTS = """
import numpy as np
from memorycell.applications.forecast import mapped_prepare, mapped_steps, settings
from memorycell.applications.forecast.prepare import prepare
from memorycell.tables import parquet_files

mapped_prepare.SAMPLE_ROWS = 10_000
parquet_files.PIECE_ROWS = mapped_steps.BLOCK_STEPS = 1 << 14
"""
CODE = """
chosen = settings.ForecastSettings(target="a", horizon=24, context=24, inputs="all", normal="no")
dataset = prepare(sys.argv[1], chosen)
model = dataset.build()
for _ in zip(range(5), dataset.batches(0)):
    pass
dataset.evaluate(model, "valid")
print(len(dataset.series), *dataset.evaluate(model, "test"))
"""
LIMIT_BYTES = 350_000_000


@pytest.mark.slow
@memory_limit.needs_linux
def test_memory_is_bounded(tmp_path):
    rows, folder = 2_000_000, tmp_path / "rows"
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=rows).astype(np.float32) for name in "abcdefgh"}
    frame = pl.DataFrame({"t": np.arange(rows) * 60_000_000, **columns}).with_columns(
        pl.col("t").cast(pl.Datetime("us"))
    )
    pattern = write(frame, folder, 20)
    frame.write_parquet(tmp_path / "all.parquet")

    words = memory_limit.printed(
        IMPORTS, CODE, pattern, LIMIT_BYTES, too_large=tmp_path / "all.parquet"
    )
    assert words[:2] == ["2000000", "crps"]
