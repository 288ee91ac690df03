"""memorycell bench: its JSON rows, the refusal to time different outputs, user errors. The scripts
in benchmarks/ run in `make bench SMOKE=1`.
"""

import json
from pathlib import Path

import pytest

from memorycell.bench import timing
from memorycell.ops import binding

pytestmark = pytest.mark.skipif(binding.engine is None, reason=binding.missing or "built")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(memorycell, monkeypatch):
    """Run `memorycell bench WORDS --json` with few rounds: (the JSON object, stderr)."""
    monkeypatch.setattr(timing, "ROUNDS", 2)

    def run(words: str, *more: str) -> tuple[dict, str]:
        status, out, err = memorycell("bench", *words.split(), *more, "--json")
        assert status == 0, err
        return json.loads(out), err

    return run


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_step_rows(bench, cell, tmp_path):
    pytest.importorskip("onnxruntime")
    page = tmp_path / "p.html"
    result, _ = bench(
        f"step --hidden 12 --cell {cell} --precision float32 --precision int8"
        " --peers torch,onnxruntime,reference --plot",
        str(page),
    )
    assert result["isa"] == binding.engine.instruction_set()
    assert [row["precision"] for row in result["rows"]] == ["float32", "int8"]
    for row in result["rows"]:
        assert set(row["peers"]) == {"torch", "onnxruntime", "reference"}
        for peer in row["peers"].values():
            assert peer["ratio"] == pytest.approx(peer["us"] / row["ours_us"])
            assert peer["max_diff"] <= timing.TOLERANCE[row["precision"]]
    assert "times faster" in page.read_text()


def test_forward_rows(bench):
    pytest.importorskip("onnxruntime")
    result, err = bench(
        "forward --hidden 12 --batch 3 --steps 7 --threads 1 --threads 2"
        " --peers torch,onnxruntime,reference"
    )
    assert [row["threads"] for row in result["rows"]] == [1, 2]
    for row in result["rows"]:
        assert (row["work"], row["batch"], row["steps"]) == ("forward", 3, 7)
        assert set(row["peers"]) == {"torch", "onnxruntime", "reference"}
        assert all(peer["ratio"] > 0 for peer in row["peers"].values())
        parts = row["floor_parts_us"]
        assert row["floor_us"] == parts["total"]
        assert parts["total"] == pytest.approx(parts["products"] + parts["functions"])
        assert 0 < row["floor_us"] < row["ours_us"]
        assert min(parts.values()) > 0
    assert "threads=2" in err


def test_stream_rows(bench):
    pytest.importorskip("onnxruntime")
    result, _ = bench("stream --hidden 12 --cell lstm --cell peephole --peers torch,onnxruntime")
    plain, other = result["rows"]
    assert plain["work"] == "stream"
    assert plain["overhead_us"] < plain["ours_us"]
    assert all("us" in peer for peer in plain["peers"].values())
    assert other["peers"]["torch"]["refused"] == "cell not supported"


@pytest.mark.parametrize(("cell", "states"), [("lstm", 2), ("gru", 1)])
def test_session_rows(bench, cell, states):
    pytest.importorskip("onnxruntime")
    result, _ = bench(
        f"sessions --hidden 12 --sessions 5 --cell {cell} --precision bfloat16"
        " --peers torch,onnxruntime"
    )
    (row,) = result["rows"]
    assert row["batch"] == 5
    assert row["p99_us"] >= row["ours_us"]
    assert row["steps_per_s"] == pytest.approx(5e6 / row["ours_us"])
    assert row["bytes_per_session"] == 4 * 12 * states + 24
    assert all(peer["max_diff"] <= timing.TOLERANCE["bfloat16"] for peer in row["peers"].values())


def test_train_rows(bench):
    result, _ = bench(
        "train --hidden 8 --batch 3 --steps 5 --cell lstm --cell layernorm"
        " --precision float32 --precision bfloat16 --peers torch"
    )
    rows = result["rows"]
    peers = [list(row["peers"]) for row in rows]
    assert peers == [["torch"], ["torch"], ["reference"], ["reference"]]
    assert all("us" in peer for row in rows for peer in row["peers"].values())


def test_train_with_zoneout_is_compared_with_the_plain_cell(bench):
    result, _ = bench("train --hidden 7 --batch 3 --steps 5 --zoneout 0.1")
    (row,) = result["rows"]
    assert row["zoneout"] == 0.1
    assert row["plain_ratio"] > 0
    assert row["peers"]["reference"]["max_diff"] < 1e-5  # the same masks for both


def test_different_outputs_are_not_timed(bench, monkeypatch):
    monkeypatch.setitem(timing.TOLERANCE, "float32", 1e-12)
    result, err = bench("step --hidden 12 --peers torch")
    peer = result["rows"][0]["peers"]["torch"]
    assert "us" not in peer
    assert "not timed" in peer["refused"]
    assert "not timed" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fly", "expected step, stream, sessions"),
        ("step --hidden 0", "--hidden"),
        ("step --cell elm", "--cell elm"),
        ("step --peers keras", "--peers keras"),
        ("step --precision int4", "--precision int4"),
        ("train --precision int8 --hidden 4", "int8 is for inference"),
    ],
)
def test_user_errors(memorycell, words, message):
    status, _, err = memorycell("bench", *words.split())
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_make_bench_runs_every_script():
    makefile = (ROOT / "Makefile").read_text()
    scripts = {
        path.name
        for path in (ROOT / "benchmarks").glob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    } - {
        "peers_forecast_lstm.py",  # run by peers_forecast.py
        "peer_server.py",  # run by serve.py
    }
    assert scripts
    assert all(f"benchmarks/{script}" in makefile for script in scripts)
