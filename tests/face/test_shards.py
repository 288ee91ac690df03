"""Predictions for many files: bytes equal in any number of processes, also where one is killed."""

import datetime
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import memorycell
from memorycell.errors import UserError
from memorycell.face import shards
from memorycell.face.workers import Answer, work

pl = pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")

FILES = 12


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Hourly tables in two folders, one of them cut off."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    for k in range(FILES):
        times = [datetime.datetime(2024, 3, 1) + datetime.timedelta(hours=h) for h in range(60 + k)]
        path = folder / f"part={k % 2}" / f"s{k:02d}.parquet"
        path.parent.mkdir(exist_ok=True)
        pl.DataFrame({"time": times, "load": 10 + rng.normal(size=60 + k)}).write_parquet(path)
    content = (folder / "part=0" / "s00.parquet").read_bytes()
    (folder / "part=0" / "broken.parquet").write_bytes(content[: len(content) // 2])
    return folder


@pytest.fixture(scope="module")
def model(forecaster, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    forecaster.save(path)
    return memorycell.load(path)


def work_here(function, workers, next_job, on_answer):
    """`workers.work` in this process."""
    while (job := next_job()) is not None:
        try:
            on_answer(job, Answer(result=shards.predict_file(job)))
        except UserError as error:
            on_answer(job, Answer(error=str(error)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_are_predicted_as_one_process_would_though_one_is_killed(
    model, rows, tmp_path, monkeypatch
):
    pattern = str(rows / "**" / "*.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(shards, "work", work_here)
        expected = model.predict_files(pattern, tmp_path / "one")
    assert list(expected.failed) == [str(rows / "part=0" / "broken.parquet")]
    assert len(expected.written) == FILES
    lines, killed = [], []

    def kill_first(function, workers, next_job, on_answer):
        def follow(job, answer):
            on_answer(job, answer)
            if not killed:
                killed.append(True)
                kill_the_youngest_child()

        work(function, workers, next_job, follow)

    monkeypatch.setattr(shards, "work", kill_first)
    results = model.predict_files(pattern, tmp_path / "two", workers=2, log=lines.append)
    assert results.failed == expected.failed
    assert "parquet" in str(results)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert lines[-1].startswith(f"{FILES + 1}/{FILES + 1} files")
    table = pl.read_parquet(tmp_path / "two" / "part=1" / "s03.parquet")
    frame = pl.read_parquet(rows / "part=1" / "s03.parquet")
    assert table["median"].to_list() == model.predict(frame)["median"].to_list()


def kill_the_youngest_child():
    """kill -9 the process that this one started last."""
    import signal

    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            children.append((int(fields[19]), int(status.parent.name)))  # its start, its id
    if children:
        os.kill(max(children)[1], signal.SIGKILL)


def test_a_run_continues_at_the_file(model, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "work", work_here)
    sources = sorted((rows / "part=1").glob("*.parquet"))
    first = model.predict_files(sources[:2], tmp_path / "out")
    assert (len(first.written), len(first.skipped)) == (2, 0)
    before = contents(tmp_path / "out")
    os.utime(tmp_path / "out" / sources[0].name, ns=(0, 0))  # older than its input
    again = model.predict_files(sources, tmp_path / "out")
    assert (len(again.written), len(again.skipped)) == (len(sources) - 1, 1)
    assert contents(tmp_path / "out").items() >= before.items()
    with pytest.raises(UserError, match="other options"):
        model.predict_files(sources, tmp_path / "out", quantiles="0.05")


def test_a_file_that_kills_its_worker_is_given_up(model, rows, tmp_path, monkeypatch):
    tries = []

    def dying(function, workers, next_job, on_answer):
        while (job := next_job()) is not None:
            tries.append(job["source"])
            on_answer(job, Answer(error="its worker process was killed", died=True))

    monkeypatch.setattr(shards, "work", dying)
    source = rows / "part=1" / "s01.parquet"
    results = model.predict_files([source], tmp_path / "out")
    assert tries == [str(source)] * 2
    assert results.failed == {str(source): "its worker process was killed"}


def test_refused(model, rows, tmp_path):
    with pytest.raises(UserError, match="no file matches"):
        model.predict_files(str(rows / "*.nothing"), tmp_path / "out")
    with pytest.raises(UserError, match="replace the inputs"):
        model.predict_files(str(rows / "part=1" / "*.parquet"), rows / "part=1")
    with pytest.raises(UserError, match="workers"):
        model.predict_files(str(rows / "part=1" / "*.parquet"), tmp_path / "out", workers=0)


def test_a_folder_has_the_results_of_one_function(model, rows, tmp_path):
    """Also where the options are the same."""

    def fill(function):
        source = str(rows / "part=1" / "s01.parquet")
        shards.run_files(
            model,
            source,
            tmp_path / "out",
            ".json",
            function,
            {},
            workers=1,
            log=lambda line: None,
            run_jobs=lambda *given: None,
        )

    fill("one:function")
    fill("one:function")
    with pytest.raises(UserError, match="another model or other options"):
        fill("another:function")


def test_an_exception_ends_the_workers():
    """Of the caller, such as KeyboardInterrupt."""
    before = set(threading.enumerate())  # those of earlier tests may end meanwhile

    def next_job():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(shards.FUNCTION, 2, next_job, lambda job, answer: None)
    end = time.monotonic() + 120
    while set(threading.enumerate()) - before and time.monotonic() < end:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before
