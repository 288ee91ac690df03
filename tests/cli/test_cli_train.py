"""train, evaluate and predict as a person uses them; bad rows; a full disk; signals."""

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from running import COMMAND, TINY

from memorycell.application import modelfile

PATIENCE_S = 300
"""What another process may take on a machine that is busy."""


def test_train_evaluate_predict_with_json(memorycell, hourly, tmp_path):
    out, page = tmp_path / "w.safetensors", tmp_path / "report.html"
    status, stdout, stderr = memorycell(
        "train",
        "forecast",
        hourly,
        "--set",
        "target=y",
        *TINY,
        "--out",
        out,
        "--report",
        page,
        "--json",
    )
    assert status == 0, stderr
    trained = json.loads(stdout.splitlines()[-1])
    assert set(trained) - {"advice"} == {
        "task",
        "file",
        "primary",
        "higher",
        "metrics",
        "baselines",
        "skill",
        "seconds",
        "updates",
        "ended_by",
        "by_lead",
    }
    assert "column 'note' left out" in stderr
    assert page.read_text().count('class="figure"') == 4
    status, stdout, _ = memorycell("evaluate", out, "--json")
    assert json.loads(stdout)["metrics"] == pytest.approx(trained["metrics"])
    status, stdout, _ = memorycell("predict", out, hourly, "--json", "--out", tmp_path / "p.html")
    (forecast,) = json.loads(stdout)["forecasts"]
    values = forecast["forecast"]["y"]
    assert len(forecast["ahead"]) == 4
    assert all(
        low <= mid <= high
        for low, mid, high in zip(values["low80"], values["median"], values["high80"], strict=True)
    )
    assert "Plotly" in (tmp_path / "p.html").read_text()
    memorycell("predict", out, hourly, "--out", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "time,target,median,low80,high80"


def test_tables_for_people(memorycell, model):
    status, out, _ = memorycell("evaluate", model)
    assert status == 0
    assert "memorycell" in out
    assert "than the best baseline" in out
    assert "80% interval" in memorycell("predict", model, model.parent / "rows.csv")[1]


def spoil(hourly: Path, change) -> Path:
    lines = hourly.read_text().splitlines()
    change(lines)
    hourly.write_text("\n".join(lines) + "\n")
    return hourly


def set_cell(row: int, column: int, value: str):
    def change(lines: list[str]) -> None:
        cells = lines[row].split(",")
        cells[column] = value
        lines[row] = ",".join(cells)

    return change


def set_column(column: int, value: str):
    def change(lines: list[str]) -> None:
        for row in range(1, len(lines)):
            set_cell(row, column, value)(lines)

    return change


def swap(lines: list[str]) -> None:
    lines[7], lines[8] = lines[8], lines[7]


def repeat(lines: list[str]) -> None:
    lines.insert(8, lines[7])


def shorten(lines: list[str]) -> None:
    del lines[40:]


def drop_some(lines: list[str]) -> None:
    lines[9] = lines[9].replace(":00:00", ":20:00")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_cell(17, 1, "abc"), ["row 17", "'y'", "'abc' is not a number"]),
        (set_cell(17, 1, "inf"), ["row 17", "'y'", "infinite"]),
        (set_cell(17, 2, "1e999"), ["row 17", "'x'", "infinite"]),
        (set_cell(17, 0, "soon"), ["row 17", "'time'", "not a time", "time_format"]),
        (set_cell(17, 0, ""), ["row 17", "'time'", "missing"]),
        (set_column(1, "5"), ["'y'", "constant"]),
        (set_column(1, ""), ["'y'", "empty"]),
        (swap, ["row 8", "goes back", "sort"]),
        (repeat, ["row 8", "repeats the time", "remove one"]),
        (drop_some, ["row 9", "not a multiple", "--set every"]),
        (shorten, ["too short", "--set horizon"]),
        (
            lambda lines: lines.__setitem__(3, lines[3] + ",1,2,3"),
            ["row 3", "the header has 4 columns"],
        ),
        (lambda lines: lines.__setitem__(slice(1, None), []), ["no rows"]),
    ],
)
def test_bad_rows(memorycell, hourly, tmp_path, change, words):
    out = tmp_path / "m.safetensors"
    status, stdout, stderr = memorycell(
        "train", "forecast", spoil(hourly, change), "--set", "target=y", *TINY, "--out", out
    )
    assert status == 2
    assert stdout == ""
    assert stderr.count("\n") == 1, stderr
    assert str(hourly) in stderr
    assert all(word in stderr for word in words), stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hourly.csv"]


def test_a_full_disk_leaves_nothing_half_written(hourly, tmp_path):
    """The system refuses to write files over 8 kB, as a full disk does in the middle of one."""
    words = [
        *COMMAND,
        "train",
        "forecast",
        str(hourly),
        "--set",
        "target=y",
        *TINY,
        "--out",
        str(tmp_path / "m.safetensors"),
    ]

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    result = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert result.returncode == 2
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hourly.csv"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_stopping_keeps_the_best_model_and_resumes(hourly, tmp_path, kind, memorycell):
    out = tmp_path / "m.safetensors"
    words = [
        "train",
        "forecast",
        str(hourly),
        "--set",
        "target=y",
        "--set",
        "hidden=8",
        "--set",
        "epochs=100000",  # more than a machine trains until it is stopped
        "--set",
        "patience=100000",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(
        [*COMMAND, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not out.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(kind)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, stderr
    assert "--resume continues" in stderr
    assert "Traceback" not in stderr
    assert modelfile.load(out).info["task"] == "forecast"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "hourly.csv",
        "m.safetensors",
        "m.safetensors.resume",
    ]
    status, stdout, _ = memorycell("evaluate", out, "--json")
    assert status == 0
    assert json.loads(stdout)["metrics"]["crps"] > 0
