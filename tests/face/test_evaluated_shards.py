"""Evaluation on many files: the metrics of one evaluation on all their data."""

import datetime
import json

import numpy as np
import pytest

import memorycell
from memorycell.application.combining import combined
from memorycell.errors import UserError
from memorycell.face import evaluated_shards, shards
from memorycell.face.workers import Answer

pl = pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")


def panel(series, rows, year):
    rng = np.random.default_rng(year)
    frames = []
    for k in range(series):
        begin = datetime.datetime(year, 1, 1)
        times = [begin + datetime.timedelta(hours=h) for h in range(rows + 9 * k)]
        load = 10 + k + 3 * np.sin(np.arange(len(times)) / 4) + rng.normal(size=len(times))
        load[rng.random(len(load)) < 0.05] = np.nan
        frame = pl.DataFrame({"time": times, "load": load, "id": [f"s{k}"] * len(times)})
        frames.append(frame.with_columns(pl.col("load").fill_nan(None)))
    return frames


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    settings = {"group": "id", "target": "load", "horizon": 4, "hidden": 8, "epochs": 1}
    data = pl.concat(panel(4, 150, 2023))
    return memorycell.train("forecast", data, out=path, progress=False, context=12, **settings)


@pytest.fixture
def rows(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for k, frame in enumerate(panel(4, 60, 2024)):
        frame.write_parquet(folder / f"{k}.parquet")
    return folder


@pytest.fixture
def here(monkeypatch):
    """Jobs run in this process; the files that they were given."""
    given = []

    def work_here(function, workers, next_job, on_answer):
        while (job := next_job()) is not None:
            given.append(job["source"])
            try:
                on_answer(job, Answer(result=evaluated_shards.evaluate_file(job)))
            except UserError as error:
                on_answer(job, Answer(error=str(error)))

    monkeypatch.setattr(shards, "work", work_here)
    return given


def assert_close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, own in theirs.items():
        assert ours[name] == pytest.approx(own, rel=1e-6), name


def test_as_one_evaluation(model, rows, tmp_path, here):
    pl.concat([pl.read_parquet(p) for p in sorted(rows.iterdir())]).write_parquet(
        tmp_path / "all.parquet"
    )
    one = model.evaluate(tmp_path / "all.parquet")
    many, files = model.evaluate_files(str(rows / "*.parquet"), tmp_path / "kept")
    assert not files.failed
    assert len(here) == 4
    assert_close(many["metrics"], one["metrics"])
    for name in one["baselines"]:
        assert_close(many["baselines"][name], one["baselines"][name])
    assert many["skill"] == pytest.approx(one["skill"], rel=1e-5)


def test_failed_files_and_a_second_run(model, rows, tmp_path, here):
    whole = model.evaluate_files(str(rows / "*.parquet"))[0]
    here.clear()
    content = (rows / "2.parquet").read_bytes()
    (rows / "2.parquet").write_bytes(content[:200])
    first, files = model.evaluate_files(str(rows / "*.parquet"), tmp_path / "kept")
    assert list(files.failed) == [str(rows / "2.parquet")]
    assert "not a readable parquet table" in str(files)
    assert first["metrics"] != whole["metrics"]
    (rows / "2.parquet").write_bytes(content)
    here.clear()
    again, files = model.evaluate_files(str(rows / "*.parquet"), tmp_path / "kept")
    assert here == [str(rows / "2.parquet")]
    assert len(files.skipped) == 3
    assert again["metrics"] == whole["metrics"]
    with pytest.raises(UserError, match="another model or other options"):
        model.predict_files(str(rows / "*.parquet"), tmp_path / "kept")


def test_all_failed(model, rows, here):
    for path in rows.iterdir():
        path.write_bytes(b"PAR1")
    result, files = model.evaluate_files(str(rows / "*.parquet"))
    assert result is None
    assert len(files.failed) == 4


def test_means():
    parts = [
        ({"a": 1.0, "p": 2.0, "f1": 3.0}, {"a": 1, "p": 1}),
        ({"a": 4.0, "p": 8.0}, {"a": 2, "p": 1}),
    ]
    assert combined(parts, ["p"]) == pytest.approx({"a": 3.0, "p": 4.0})
    assert combined([*parts, ({"a": np.nan}, {"a": 0})], ["p"]) == pytest.approx({"a": 3, "p": 4})
    assert combined([]) == {}


def test_texts(tmp_path, here):
    pytest.importorskip("regex", reason="pip install 'memorycell[language]'")
    rng = np.random.default_rng(0)
    words = np.array(["sun", "rain", "wind", "and", "snow", "day"])
    for k in range(3):
        text = "\n".join(" ".join(rng.choice(words, 8)) for _ in range(70 + 20 * k))
        (tmp_path / f"{k}.txt").write_text(text)
    out = tmp_path / "m.safetensors"
    trained = memorycell.train(
        "text", tmp_path / "0.txt", out=out, progress=False, hidden=8, epochs=1, mix=False
    )
    many, files = trained.evaluate_files([tmp_path / "1.txt", tmp_path / "2.txt"])
    assert not files.failed
    (tmp_path / "both").mkdir()
    for k in (1, 2):
        (tmp_path / f"{k}.txt").rename(tmp_path / "both" / f"{k}.txt")
    one = trained.evaluate(tmp_path / "both")["metrics"]
    # In one evaluation the end of the first text is predicted too, and it is one more token.
    assert many["metrics"]["bits_per_character"] == pytest.approx(
        one["bits_per_character"], rel=1e-3
    )
    assert many["metrics"]["perplexity"] == pytest.approx(np.exp(many["metrics"]["nats"]), rel=1e-6)


def test_tasks_whose_metrics_do_not_combine(model, rows, here, monkeypatch):
    monkeypatch.delattr("memorycell.applications.forecast.dataset.ForecastDataset.weights")
    result, files = model.evaluate_files(str(rows / "*.parquet"))
    assert result is None
    assert "cannot be combined" in next(iter(files.failed.values()))


def test_the_command(model, rows, tmp_path, capsys):
    from memorycell.cli.verbs import app

    (rows / "9.parquet").write_bytes(b"PAR1")
    words = ["evaluate", str(model.path), "--input", str(rows / "*.parquet"), "--json"]
    with pytest.raises(SystemExit) as ended:
        app([*words, "--workers", "2", "--out", str(tmp_path / "kept")], standalone_mode=False)
    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["files"], found["written"], len(found["failed"])) == (5, 4, 1)
    assert found["metrics"]["crps"] > 0
