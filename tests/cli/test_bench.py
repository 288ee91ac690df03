"""memorycell bench: its JSON rows, the refusal to time different outputs, user errors; and the smoke
mode of the scripts in benchmarks/.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memorycell.bench import timing
from memorycell.cli.verbs import app
from memorycell.ops import binding

pytestmark = pytest.mark.skipif(binding.engine is None, reason=binding.missing or "built")


def command(capsys, *words: str) -> tuple[int, str, str]:
    try:
        app(list(words), prog_name="memorycell")
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 2)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_step_rows(capsys, cell, tmp_path):
    pytest.importorskip("onnxruntime")
    status, out, _ = command(
        capsys,
        "bench",
        "step",
        "--hidden",
        "12",
        "--cell",
        cell,
        "--precision",
        "float32",
        "--precision",
        "int8",
        "--peers",
        "torch,onnxruntime,reference",
        "--plot",
        str(tmp_path / "p.html"),
        "--json",
    )
    assert status == 0
    result = json.loads(out)
    assert result["isa"] == binding.engine.instruction_set()
    assert [row["precision"] for row in result["rows"]] == ["float32", "int8"]
    for row in result["rows"]:
        assert set(row["peers"]) == {"torch", "onnxruntime", "reference"}
        for peer in row["peers"].values():
            assert peer["ratio"] == pytest.approx(peer["us"] / row["ours_us"])
            assert peer["max_diff"] <= timing.TOLERANCE[row["precision"]]
    assert "times faster" in (tmp_path / "p.html").read_text()


def test_stream_and_session_rows(capsys):
    pytest.importorskip("onnxruntime")
    status, out, _ = command(
        capsys,
        "bench",
        "stream",
        "--hidden",
        "12",
        "--cell",
        "lstm",
        "--cell",
        "peephole",
        "--peers",
        "torch,onnxruntime",
        "--json",
    )
    assert status == 0
    plain, other = json.loads(out)["rows"]
    assert plain["work"] == "stream"
    assert plain["overhead_us"] < plain["ours_us"]
    assert all("us" in peer for peer in plain["peers"].values())
    assert other["peers"]["torch"]["refused"] == "cell not supported"
    for cell in ("lstm", "gru"):
        status, out, _ = command(
            capsys,
            "bench",
            "sessions",
            "--hidden",
            "12",
            "--sessions",
            "5",
            "--cell",
            cell,
            "--precision",
            "bfloat16",
            "--peers",
            "torch,onnxruntime",
            "--json",
        )
        assert status == 0
        (row,) = json.loads(out)["rows"]
        assert row["batch"] == 5
        assert row["p99_us"] >= row["ours_us"]
        assert row["steps_per_s"] == pytest.approx(5e6 / row["ours_us"])
        assert row["bytes_per_session"] == 4 * 12 * (2 if cell == "lstm" else 1) + 24
        assert all(
            peer["max_diff"] <= timing.TOLERANCE["bfloat16"] for peer in row["peers"].values()
        )


def test_train_rows(capsys):
    status, out, _ = command(
        capsys,
        "bench",
        "train",
        "--hidden",
        "8",
        "--batch",
        "3",
        "--steps",
        "5",
        "--cell",
        "lstm",
        "--cell",
        "layernorm",
        "--precision",
        "float32",
        "--precision",
        "bfloat16",
        "--peers",
        "torch",
        "--json",
    )
    assert status == 0
    rows = json.loads(out)["rows"]
    assert [list(row["peers"]) for row in rows] == [
        ["torch"],
        ["torch"],
        ["reference"],
        ["reference"],
    ]
    assert all("us" in peer for row in rows for peer in row["peers"].values())


def test_train_with_zoneout_is_compared_with_the_plain_cell(capsys):
    status, out, _ = command(
        capsys,
        "bench",
        "train",
        "--hidden",
        "7",
        "--batch",
        "3",
        "--steps",
        "5",
        "--zoneout",
        "0.1",
        "--json",
    )
    (row,) = json.loads(out)["rows"]
    assert status == 0
    assert row["zoneout"] == 0.1
    assert row["plain_ratio"] > 0
    assert row["peers"]["reference"]["max_diff"] < 1e-5  # the same masks for both


def test_different_outputs_are_not_timed(capsys, monkeypatch):
    monkeypatch.setitem(timing.TOLERANCE, "float32", 1e-12)
    _, out, err = command(capsys, "bench", "step", "--hidden", "12", "--peers", "torch", "--json")
    peer = json.loads(out)["rows"][0]["peers"]["torch"]
    assert "us" not in peer
    assert "not timed" in peer["refused"]
    assert "not timed" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "fly"], "step, stream, sessions or train"),
        (["bench", "step", "--hidden", "0"], "--hidden"),
        (["bench", "step", "--cell", "elm"], "--cell elm"),
        (["bench", "step", "--peers", "keras"], "--peers keras"),
        (["bench", "step", "--precision", "int4"], "--precision int4"),
        (["bench", "train", "--precision", "int8", "--hidden", "4"], "int8 is for inference"),
    ],
)
def test_user_errors(capsys, words, message):
    status, _, err = command(capsys, *words)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_the_scaling_benchmark_runs():
    script = Path(__file__).parents[2] / "benchmarks" / "scaling.py"
    words = [sys.executable, str(script), "--smoke", "--threads", "1"]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "training, 1 threads: median" in out
