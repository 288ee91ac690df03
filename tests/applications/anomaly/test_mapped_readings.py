"""Detectors of many Parquet files: the dataset, batches and metrics of the files in memory."""

import memory_limit
import numpy as np
import pytest
import torch

pl = pytest.importorskip("polars", reason="pip install 'memorycell[anomaly]'")
pytest.importorskip("sklearn", reason="pip install 'memorycell[anomaly]'")

import memorycell  # noqa: E402
from memorycell.applications.anomaly import mapped  # noqa: E402
from memorycell.applications.anomaly.prepare import prepare  # noqa: E402
from memorycell.applications.anomaly.settings import AnomalySettings  # noqa: E402
from memorycell.errors import DataError  # noqa: E402

SMALL = {"hidden": 8, "lanes": 4, "bptt": 40}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMORYCELL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Five machines with a level of their own, missing readings and labels."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "machines"
    folder.mkdir()
    for k in range(5):
        rows = 200 + 30 * k
        heat = k + np.sin(np.arange(rows) / 5) + 0.1 * rng.normal(size=rows)
        load = heat**2 + 0.1 * rng.normal(size=rows)
        load[rng.random(rows) < 0.03] = np.nan
        fault = np.arange(rows) > rows - 10
        heat[fault] += 5
        frame = pl.DataFrame({"heat": heat, "load": load, "fault": fault.astype(int)})
        frame.with_columns(pl.col("load").fill_nan(None)).write_parquet(folder / f"m{k}.parquet")
    return folder


@pytest.mark.parametrize(
    "more", [{}, {"label": "fault"}, {"label": "fault", "settle": 100}], ids=str
)
def test_as_in_memory(folder, more):
    settings = AnomalySettings(**SMALL, **more)
    one, many = prepare(str(folder), settings), prepare(str(folder / "*.parquet"), settings)
    assert many.codec == one.codec
    assert many.info()["split"] == one.info()["split"]
    assert many.info()["fingerprint"] == one.info()["fingerprint"]
    for ours, theirs in zip(many.batches(2), one.batches(2), strict=True):
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    torch.manual_seed(0)
    model = one.build().eval()
    assert many.validate(model) == one.validate(model)
    assert many.evaluate(model, "test") == one.evaluate(model, "test")
    ours = many.baselines("test")
    for name, scores in one.baselines("test").items():
        assert ours[name] == pytest.approx(scores, rel=1e-9)  # products in another order


def test_a_part_is_scored_and_all_are_learned_from(folder, monkeypatch):
    monkeypatch.setattr(mapped, "SAMPLE_ROWS", 500)
    monkeypatch.setattr(mapped, "MAX_SCORED_ROWS", 800)
    settings = AnomalySettings(**SMALL)
    one, many = prepare(str(folder), settings), prepare(str(folder / "*.parquet"), settings)
    assert [r.recording.name for r in many.recordings] == ["m0.parquet", "m2.parquet", "m4.parquet"]
    assert len(many.all_recordings) == 5
    assert many.info()["split"] == one.info()["split"]
    assert sum(b.steps for b in many.batches(0)) == sum(b.steps for b in one.batches(0))
    assert "scored: 3 recordings with 780 rows, evenly spaced" in many.notes
    assert "columns and scaling are those of 2 files" in many.notes


def test_large_folders_are_mapped(folder, monkeypatch):
    assert mapped.mapped_files(str(folder)) is None
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 1000)
    assert len(mapped.mapped_files(str(folder))) == 5


def test_trained_and_evaluated(folder, tmp_path):
    data, out = str(folder / "*.parquet"), tmp_path / "m.safetensors"
    trained = memorycell.train("anomaly", data, out=out, progress=False, epochs=1, **SMALL)
    assert memorycell.load(out).evaluate()["metrics"] == trained.result["metrics"]
    one = memorycell.load(out).evaluate(folder)
    other = tmp_path / "machines" / "m?.parquet"
    assert memorycell.load(out).evaluate(str(other))["metrics"] == one["metrics"]
    with pytest.raises(DataError, match="group=heat: of several files"):
        prepare(data, AnomalySettings(group="heat"))
    (folder / "m3.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="m3.parquet: is not a readable parquet table"):
        prepare(data, AnomalySettings())


IMPORTS = """
import numpy as np
import scipy.linalg
import sklearn.ensemble
from memorycell.applications.anomaly import mapped, settings
from memorycell.applications.anomaly.prepare import prepare

mapped.SAMPLE_ROWS, mapped.MAX_SCORED_ROWS = 10_000, 100_000
np.ones((64, 64)) @ np.ones((64, 64)), scipy.linalg.svd(np.ones((64, 64)))  # their buffers
"""
CODE = """
dataset = prepare(sys.argv[1], settings.AnomalySettings(hidden=8))
model = dataset.build()
rows = sum(batch.steps for batch in dataset.batches(0))
dataset.validate(model)
print(rows, *dataset.evaluate(model, "test"))
"""
LIMIT_BYTES = 300_000_000


@pytest.mark.slow
@memory_limit.needs_linux
def test_memory_of_detectors_is_bounded(tmp_path):
    rows, folder, rng = 2_000_000, tmp_path / "machines", np.random.default_rng(0)
    folder.mkdir()
    for k in range(40):
        columns = {name: rng.normal(size=rows // 40).astype(np.float32) for name in "abcdefgh"}
        pl.DataFrame(columns).write_parquet(folder / f"{k:02}.parquet")

    words = memory_limit.printed(IMPORTS, CODE, folder / "*.parquet", LIMIT_BYTES, too_large=folder)
    assert int(words[0]) > 0.5 * rows
