"""Jobs on a local Ray cluster give the files that processes give."""

import pytest

pytest.importorskip("ray", reason="pip install 'memorycell[ray]'")
pl = pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")

import memorycell  # noqa: E402
from memorycell.cluster.jobs import work_at  # noqa: E402
from memorycell.errors import UserError  # noqa: E402
from memorycell.face.workers import Answer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
def test_files_are_predicted_as_by_processes(hourly, tmp_path):
    out = tmp_path / "m.safetensors"
    settings = {"target": "y", "hidden": 4, "horizon": 4, "context": 24, "epochs": 1}
    model = memorycell.train("forecast", hourly, out=out, progress=False, **settings)
    (tmp_path / "rows").mkdir()
    for k in range(6):
        table = pl.read_csv(hourly, try_parse_dates=True).head(200 + k)
        table.write_parquet(tmp_path / "rows" / f"{k}.parquet")
    pattern = str(tmp_path / "rows" / "*.parquet")
    model.predict_files(pattern, tmp_path / "one")
    results = model.predict_files(pattern, tmp_path / "ray", workers=2, run_jobs=work_at("local"))
    assert len(results.written) == 6
    for path in (tmp_path / "one").glob("*"):
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()


@pytest.mark.slow
def test_a_killed_worker_is_an_answer():
    jobs, answers = ["import os; os.kill(os.getpid(), 9)", "1"], []
    work_at("local")(
        "builtins:exec",
        1,
        lambda: jobs.pop(0) if jobs else None,
        lambda job, answer: answers.append((job, answer)),
    )
    assert [answer.died for _, answer in answers] == [True, False]
    assert answers[1] == ("1", Answer(result=None))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_where_no_ray_is(address):
    with pytest.raises(UserError, match="no Ray there"):
        work_at(address)("memorycell.face.shards:predict_file", 1, lambda: None, print)
