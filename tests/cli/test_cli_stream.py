"""stream: answers, states, and whatever can end it: signals, closed pipes, full disks."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from running import COMMAND, stream

from memorycell.application import modelfile
from memorycell.ops import binding


def test_stream_resumes_exactly(model, tmp_path):
    lines = (model.parent / "rows.csv").read_text().splitlines()[:60]
    whole = stream(model, lines).stdout.splitlines()
    assert len(whole) == 59
    first = stream(model, lines[:30], "--state", str(tmp_path / "s.bin")).stdout.splitlines()
    rest = stream(
        model, lines[30:], "--state", str(tmp_path / "s.bin")
    ).stdout.splitlines()  # no header this time
    assert first + rest == whole
    names = lines[0].split(",")
    rows = [json.dumps(dict(zip(names, line.split(","), strict=True))) for line in lines[1:]]
    assert stream(model, rows).stdout.splitlines() == whole


def test_stream_tells_the_row_and_keeps_what_came_before(model, tmp_path):
    lines = (model.parent / "rows.csv").read_text().splitlines()[:20]
    spoilt = [*lines[:10], lines[10].replace(",", ",oops", 1), *lines[11:]]
    result = stream(model, spoilt, "--state", str(tmp_path / "s.bin"))
    assert result.returncode == 2
    assert result.stderr.strip().count("\n") == 0
    assert "stdin, line 11, column 'y'" in result.stderr
    rest = stream(model, lines[10:], "--state", str(tmp_path / "s.bin"))
    assert result.stdout + rest.stdout == stream(model, lines).stdout


@pytest.mark.skipif(binding.engine is None, reason="needs the engine")
def test_streaming_in_int8_says_what_it_costs_first(model, tmp_path):
    lines = (model.parent / "rows.csv").read_text().splitlines()[:40]
    words = [*COMMAND, "stream", str(model), "--precision", "int8", "--state", str(tmp_path / "s")]
    ran = subprocess.run(words, input="\n".join(lines), capture_output=True, text=True, check=True)
    assert len(ran.stdout.splitlines()) == 39
    assert "int8: crps on the test split" in ran.stderr
    assert "ok      int8      step by step" in ran.stderr
    words = [*COMMAND, "stream", str(model), "--state", str(tmp_path / "s")]
    ran = subprocess.run(words, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "another precision" in ran.stderr


def test_a_state_of_another_model_is_refused(memorycell, model, tmp_path):
    file = modelfile.load(model)
    with torch.no_grad():
        file.model.head.linear.bias += 1
    file.save(tmp_path / "other.safetensors")
    lines = (model.parent / "rows.csv").read_text().splitlines()[:5]
    stream(model, lines, "--state", str(tmp_path / "s.bin"))
    kept = (tmp_path / "s.bin").read_bytes()
    result = stream(tmp_path / "other.safetensors", lines, "--state", str(tmp_path / "s.bin"))
    assert result.returncode == 2
    assert "belongs to other weights" in result.stderr
    assert (tmp_path / "s.bin").read_bytes() == kept


def test_a_closed_pipe_is_no_error(model):
    command = f"cat {model.parent / 'rows.csv'} | {' '.join(COMMAND)} stream {model} | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.startswith('{"time"')
    assert result.stderr == ""


@pytest.fixture
def live(model, tmp_path):
    """A function that starts the verb with a state: the process, which has read 20 rows."""
    processes = []

    def start(**options) -> subprocess.Popen:
        words = [*COMMAND, "stream", str(model), "--state", str(tmp_path / "s.bin")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        pipes["preexec_fn"] = heard_hangups  # also where nohup runs the tests
        process = subprocess.Popen(words, text=True, **{**pipes, **options})
        processes.append(process)
        process.stdin.write("".join(f"{line}\n" for line in first_lines(model, 21)))
        process.stdin.flush()
        for _ in range(20):
            assert process.stdout.readline().startswith("{")
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def heard_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def first_lines(model: Path, count: int) -> list[str]:
    return (model.parent / "rows.csv").read_text().splitlines()[:count]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_state(live, model, tmp_path, kind):
    process = live()
    process.send_signal(kind)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == f"memorycell: stopped; the state is saved in {tmp_path / 's.bin'}\n"
    lines = first_lines(model, 40)
    rest = stream(model, lines[21:], "--state", str(tmp_path / "s.bin")).stdout.splitlines()
    assert out == ""
    assert rest == stream(model, lines).stdout.splitlines()[20:]


def test_signals_that_come_together_save_the_state(live, tmp_path):
    process = live()
    for kind in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        process.send_signal(kind)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("\n")) == (130, 1)
    assert (tmp_path / "s.bin").stat().st_size > 100


def test_a_hangup_that_nohup_ignores_changes_nothing(live, model):
    process = live(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate("".join(f"{line}\n" for line in first_lines(model, 25)[21:]))
    assert (process.returncode, err, len(out.splitlines())) == (0, "", 4)


@pytest.mark.parametrize(
    ("shell", "status", "message"),
    [
        ("{stream} <&-", 2, "memorycell: stdin is closed; give the input through a pipe"),
        ("cat {rows} | {stream} > /dev/full", 2, "memorycell: stdout: cannot be written (No space"),
        ("cat {rows} | {stream} | head -1 > /dev/null", 0, ""),
        ("cat {rows} | {stream} > /dev/null 2> /dev/full", 0, ""),
    ],
)
def test_streams_that_cannot_be_used(model, tmp_path, shell, status, message):
    state = tmp_path / "s.bin"
    command = f"{' '.join(COMMAND)} stream {model} --state {state}"
    words = ["bash", "-o", "pipefail", "-c"]
    words.append(shell.format(stream=command, rows=model.parent / "rows.csv"))
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran.stderr
    assert ran.stderr.startswith(message)
    assert ran.stderr.count("\n") == (1 if message else 0)
    assert state.stat().st_size > 100


@pytest.mark.parametrize("words", ["tasks", "--help", "predict {model} {rows} --json"])
def test_a_result_that_cannot_be_written(model, words):
    command = f"{' '.join(COMMAND)} {words.format(model=model, rows=model.parent / 'rows.csv')}"
    for target, message in (("/dev/full", "stdout: cannot be "), ("&-", "stdout is closed; ")):
        ran = subprocess.run(f"{command} >{target}", shell=True, capture_output=True, text=True)
        assert ran.returncode == 2
        assert ran.stderr.startswith(f"memorycell: {message}")
        assert ran.stderr.count("\n") == 1


def test_results_are_json_in_every_encoding_of_stdout(model):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "predict", str(model), str(model.parent / "rows.csv"), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(ran.stdout)["task"] == "forecast"


def test_rows_with_a_byte_order_mark_blank_lines_and_carriage_returns(model):
    lines = first_lines(model, 12)
    plain = stream(model, lines).stdout
    marked = ["\ufeff" + lines[0], "", *(f"{line}\r" for line in lines[1:])]
    assert plain.count("\n") == 11
    assert stream(model, marked).stdout == plain
