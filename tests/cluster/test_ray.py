"""Jobs on a local Ray cluster give the files that processes give."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

# Every process has this token, in every version of Ray, which reads it when it is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
ray = pytest.importorskip("ray", reason="pip install 'memorycell[ray]'")
pl = pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")

import memorycell  # noqa: E402
from memorycell.application import catalogue  # noqa: E402
from memorycell.cluster.jobs import Runner, work_at  # noqa: E402
from memorycell.cluster.training import training_at  # noqa: E402
from memorycell.errors import UserError  # noqa: E402
from memorycell.face.train import train_model  # noqa: E402
from memorycell.face.workers import Answer  # noqa: E402
from memorycell.setting_fields import parse_settings  # noqa: E402

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


CLUSTER = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
if sys.argv[1:]:
    ray.__version__ = sys.argv[1]
ray.init(_node_ip_address="127.0.0.1", num_cpus=1, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def cluster(*words):
    """The address of a cluster of another process; it says that its version is the given one."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CLUSTER, *words], **pipes) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(30)


def answers_at(address, *jobs):
    answers, left = [], list(jobs)
    work_at(address)(
        "builtins:exec",
        1,
        lambda: left.pop(0) if left else None,
        lambda job, answer: answers.append(answer),
    )
    return answers


@pytest.mark.slow
def test_a_cluster_that_runs_elsewhere():
    with cluster() as address:
        answers = answers_at(address, "1", "raise ValueError('no')")
    assert answers == [Answer(), Answer(error="internal error (ValueError: no)")]


@pytest.mark.slow
def test_the_connection_that_a_program_has_is_used_and_stays():
    ray.init(_node_ip_address="127.0.0.1", num_cpus=1, include_dashboard=False)
    try:
        assert answers_at("auto", "1") == [Answer()]
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_a_cluster_with_another_token(mode):
    """In a process of its own: Ray reads the token once."""
    code = (
        "import sys; from memorycell.cluster.jobs import work_at;"
        " work_at(sys.argv[1])('builtins:exec', 1, lambda: None, print)"
    )
    environment = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "b" * 64}
    with cluster() as address:
        done = subprocess.run(
            [sys.executable, "-c", code, address],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert "memorycell.errors.UserError: --address" in done.stderr
    assert "needs RAY_AUTH_MODE=token and its token in RAY_AUTH_TOKEN" in done.stderr


@pytest.mark.slow
def test_another_version_of_ray(monkeypatch):
    """The connection is closed: Ray would end this process a minute after the cluster."""
    closed, shutdown = [], ray.shutdown
    monkeypatch.setattr(ray, "shutdown", lambda: closed.append(shutdown()))
    with (
        cluster("1.2.3") as address,
        pytest.raises(
            UserError, match=r"other versions there .*1\.2\.3.* install the same"
        ) as error,
    ):
        work_at(address)("builtins:exec", 1, lambda: None, print)
    assert len(str(error.value).splitlines()) == 1
    assert len(closed) == 1


def test_another_version_of_memorycell():
    answer = Runner("builtins:exec", "0.0.1").run("1")
    assert "and 0.0.1 here; install the same version" in answer["error"]


def trained(hourly, out, **more):
    application = catalogue.load("forecast")
    values = {"target": "y", "hidden": 4, "horizon": 4, "context": 24, "linear": "trained", **more}
    pairs = {name: str(value) for name, value in values.items()}
    settings = parse_settings((application.settings(), application.training), pairs)
    return lambda **how: train_model(application, str(hourly), *settings, out, workers=2, **how)


def kill_a_training_worker(checkpoint):
    """kill -9 an actor when there is a checkpoint."""
    while not checkpoint.exists():
        time.sleep(0.05)
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if status.read_bytes().startswith(b"ray::TrainingWorker"):
                os.kill(int(status.parent.name), signal.SIGKILL)
                return


@pytest.mark.slow
def test_training_has_the_losses_of_processes_though_a_worker_is_killed(hourly, tmp_path):
    settings = {"epochs": 12, "patience": 12, "lanes": 5, "bptt": 12}
    here = trained(hourly, tmp_path / "here.safetensors", **settings)()
    out = tmp_path / "ray.safetensors"
    there = trained(hourly, out, **settings)(launch=training_at("local"))
    assert there.history == here.history
    assert there.metrics == here.metrics
    checkpoint = out.with_name(out.name + ".resume")
    killer = threading.Thread(target=kill_a_training_worker, args=[checkpoint], daemon=True)
    killer.start()
    again = trained(hourly, out, **settings)(launch=training_at("local"))
    assert not killer.is_alive()
    assert again.history == here.history
    assert not checkpoint.exists()


@pytest.mark.slow
def test_an_error_of_the_user_in_training(hourly, tmp_path):
    with pytest.raises(UserError, match="no column 'nothing'"):
        trained(hourly, tmp_path / "m.safetensors", target="nothing")(launch=training_at("local"))
