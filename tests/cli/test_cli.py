"""The command line as a person uses it: what it prints, and the one line that a mistake gets."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from memorycell.application import modelfile
from memorycell.applications.forecast.model import Forecaster
from memorycell.cli.verbs import app
from memorycell.ops import binding

COMMAND = [sys.executable, "-m", "memorycell"]
TINY = ["--set", "hidden=4", "--set", "horizon=4", "--set", "context=24", "--set", "epochs=2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small model file, trained on `hourly` rows."""
    folder = tmp_path_factory.mktemp("cli")
    rows = ["time,y,x"] + [
        f"2024-01-{1 + k // 24:02d} {k % 24:02d}:00:00,{k % 24 + (k * 7) % 5},{k % 3}"
        for k in range(500)
    ]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(SystemExit) as end:
        app(
            [
                "train",
                "forecast",
                str(folder / "rows.csv"),
                "--set",
                "target=y",
                *TINY,
                "--out",
                str(folder / "m.safetensors"),
            ]
        )
    assert not end.value.code
    return folder / "m.safetensors"


# ---- what works ----------------------------------------------------------------------------------


def test_help_and_lists(memorycell):
    assert memorycell("--help")[0] == 0
    status, out, _ = memorycell("tasks", "--json")
    assert json.loads(out)[0]["name"] == "forecast"
    assert "baselines" in memorycell("tasks")[1]
    status, out, _ = memorycell("data", "list", "--json")
    assert {"glucose", "weather"} <= {row["name"] for row in json.loads(out)}
    assert status == 0
    assert memorycell("data", "get", "moon")[0] == 2


def test_help_starts_without_torch():
    """What makes the help fast: nothing heavy is imported. (The time itself is measured in
    benchmarks/.)
    """
    program = (
        "import sys; sys.argv = ['memorycell', '--help']\nimport memorycell.cli\ntry:"
        " memorycell.cli.main()\nexcept SystemExit: pass\nassert not {'torch', 'numpy', 'polars',"
        " 'plotly', 'rich.progress'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


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
    assert set(trained) == {
        "task",
        "file",
        "primary",
        "higher",
        "metrics",
        "baselines",
        "skill",
        "seconds",
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


def stream(model: Path, lines: list[str], *options: str) -> subprocess.CompletedProcess:
    words = [*COMMAND, "stream", str(model), *options]
    return subprocess.run(
        words, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )


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


def test_prove_says_what_was_compared(memorycell, model):
    status, out, err = memorycell("prove", model, "--json")
    result = json.loads(out.splitlines()[-1])
    assert status == 0
    assert result["ok"] is True
    names = {check["name"] for check in result["checks"]}
    assert {"among others in a pool = step by step", "saved and loaded = step by step"} <= names
    assert all(check["max_diff"] <= check["bound"] for check in result["checks"])
    if binding.engine is not None:
        assert [cost["precision"] for cost in result["costs"]] == ["bfloat16", "int8"]
        assert "int8: crps on the test split" in err
    status, out, err = memorycell("prove", model, "--precision", "float32")
    assert (status, out) == (0, "")
    assert "step by step = whole sequence" in err


def test_a_broken_model_ends_with_status_1(memorycell, model, monkeypatch):
    from memorycell.streaming.stream import Stream

    monkeypatch.setattr(Stream, "rewind", lambda self, n=1: None)
    status, out, err = memorycell("prove", model, "--precision", "float32", "--json")
    assert status == 1
    assert json.loads(out.splitlines()[-1])["ok"] is False
    assert "BROKEN  float32   rewound and forked = step by step" in err


def test_export_writes_files_that_run(memorycell, model, tmp_path):
    status, out, _ = memorycell(
        "export", model, "--to", "onnx", "--out", tmp_path / "new" / "folder", "--json"
    )
    result = json.loads(out.splitlines()[-1])
    assert status == 0
    assert result["proof"]["ok"]
    assert result["files"] == [str(tmp_path / "new" / "folder" / "m.onnx")]
    assert (tmp_path / "new" / "folder" / "m.onnx").stat().st_size > 1000
    words = ["--precision", "int8"] if binding.engine is not None else []
    status, out, err = memorycell(
        "export", model, "--to", "c", *words, "--out", tmp_path / "c", "--json"
    )
    assert status == 0
    assert "bytes of constants (flash)" in err
    assert json.loads(out.splitlines()[-1])["flash_bytes"] > 1000
    header = (tmp_path / "c" / "m.h").read_text()
    assert "x[0]  y: (value - " in header
    assert "for the next 4 steps, in the table's units" in header
    if shutil.which("gcc"):
        build = "gcc -std=c99 -Wall -Wextra -Werror -O2 *.c -lm -o run && ./run"
        ran = subprocess.run(
            build, shell=True, cwd=tmp_path / "c", capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "32 steps" in ran.stdout


def test_the_exported_c_gives_the_forecasts_of_the_table(memorycell, model, tmp_path):
    """Rows, encoded as the header says, through the compiled code: `predict`'s numbers, in the
    table's units.
    """
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    assert memorycell("export", model, "--to", "c", "--out", tmp_path)[0] == 0
    file = modelfile.load(model)
    from memorycell.tables.table import read_table

    series = file.codec.read(read_table(model.parent / "rows.csv"), "rows")
    inputs = file.codec.encode(series)
    (tmp_path / "m_test.c").unlink()
    (tmp_path / "main.c").write_text(
        '#include "m.h"\n#include <stdio.h>\nint main(void) { float s[M_STATE], x[M_INPUTS],'
        " y[M_OUTPUTS]; m_init(s);\nwhile (fread(x, sizeof x, 1, stdin)) m_step(s, x, y); fwrite(y,"
        " sizeof y, 1, stdout); return 0; }\n"
    )
    subprocess.run("gcc -std=c99 -O2 *.c -lm -o run", shell=True, cwd=tmp_path, check=True)
    ran = subprocess.run(
        [tmp_path / "run"], input=inputs.tobytes(), capture_output=True, check=True
    )
    mine = np.frombuffer(ran.stdout, np.float32).reshape(4, 1, -1)
    _, out, _ = memorycell("predict", model, model.parent / "rows.csv", "--json")
    (forecast,) = json.loads(out)["forecasts"]
    assert mine[:, 0, mine.shape[2] // 2].tolist() == pytest.approx(
        forecast["forecast"]["y"]["median"], rel=1e-4
    )


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


def test_a_cell_the_engine_lacks_has_no_lower_precision(memorycell, model, tmp_path):
    file = modelfile.load(model)
    config = dataclasses.replace(file.model.config, cell="gru_reset_before", forget_bias=None)
    file.model = Forecaster(config)
    file.save(tmp_path / "m.safetensors")
    for words in (["stream"], ["export", "--to", "c"]):
        status, _, err = memorycell(*words, tmp_path / "m.safetensors", "--precision", "int8")
        assert status == 2
        assert "engine" in err
        assert err.count("\n") == 1
    status, _, err = memorycell("prove", tmp_path / "m.safetensors")
    assert status == 0, err
    assert "not checked: int8 = float32" in err


def test_a_model_without_its_data_is_proved_on_random_numbers(memorycell, model, tmp_path):
    file = modelfile.load(model)
    file.info["data"] = str(tmp_path / "gone.csv")
    file.save(tmp_path / "m.safetensors")
    status, _, err = memorycell("prove", tmp_path / "m.safetensors", "--precision", "float32")
    assert status == 0
    assert "proved on random inputs" in err


def test_a_closed_pipe_is_no_error(model):
    command = f"cat {model.parent / 'rows.csv'} | {' '.join(COMMAND)} stream {model} | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.startswith('{"time"')
    assert result.stderr == ""


# ---- mistakes: one line, the place and the mend, status 2, nothing written -----------------------


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
        (lambda lines: lines.__setitem__(3, lines[3] + ",1,2,3"), ["not a readable csv"]),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "forecast", "none.csv"], ["none.csv", "no such file"]),
        (["train", "forecast", "{tmp}"], ["is a folder"]),
        (["train", "forecast", "{hourly}"], ["which column", "--set target=", "y, x"]),
        (["train", "forecast", "{hourly}", "--set", "target=z"], ["no column 'z'", "'y'"]),
        (
            ["train", "forecast", "{hourly}", "--set", "target=y", "--set", "inputs=note"],
            ["'note'", "not a number"],
        ),
        (
            ["train", "forecast", "{hourly}", "--set", "target=y", "--set", "group=q"],
            ["no column 'q'"],
        ),
        (
            ["train", "forecast", "{hourly}", "--set", "target=y", "--set", "every=soon"],
            ["every", "5m"],
        ),
        (["train", "forecast", "{hourly}", "--set", "colour=y"], ["no such setting"]),
        (["train", "forecast", "{hourly}", "--set", "target"], ["key=value"]),
        (
            ["train", "forecast", "{hourly}", "--set", "target=y", "--set", "cell=elm"],
            ["cell", "elm"],
        ),
        (
            [
                "train",
                "forecast",
                "{hourly}",
                "--set",
                "target=y",
                "--out",
                "{tmp}/no/m.safetensors",
            ],
            ["no folder"],
        ),
        (["train", "forecast", "{hourly}", "--set", "target=y", "--resume"], ["nothing to resume"]),
        (["train", "cooking"], ["no such task", "forecast"]),
        (["evaluate", "{tmp}/none.safetensors"], ["no such file"]),
        (["evaluate", "{hourly}"], ["not a model file"]),
        (["predict", "{model}", "{hourly}"], []),
        (["predict", "{model}", "{other}"], ["no column 'y'"]),
        (["stream", "{model}", "--state", "{hourly}"], ["damaged or not a saved state"]),
        (["stream", "{model}", "--precision", "int4"], ["--precision int4", "bfloat16"]),
        (["prove", "{model}", "--precision", "double"], ["--precision double"]),
        (["prove", "{hourly}"], ["not a model file"]),
        (["export", "{model}", "--to", "tflite"], ["--to tflite", "onnx or c"]),
        (
            ["export", "{model}", "--to", "onnx", "--precision", "int8", "--out", "{tmp}/o"],
            ["ONNX files are in float32"],
        ),
        (
            ["export", "{model}", "--to", "c", "--precision", "bfloat16", "--out", "{tmp}/o"],
            ["float32 or int8"],
        ),
        (["export", "{model}", "--to", "c", "--out", "{hourly}/o"], ["cannot be created"]),
    ],
)
def test_bad_calls(memorycell, hourly, model, tmp_path, words, message):
    other = tmp_path / "other.csv"
    other.write_text("time,z\n2024-01-01,3\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    places = {"tmp": tmp_path, "hourly": hourly, "model": model, "other": other}
    status, _, stderr = memorycell(*(word.format(**places) for word in words))
    assert status == (2 if message else 0), stderr
    assert all(word in stderr for word in message), stderr
    if message:
        assert stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "is empty"),
        ("picture.csv", bytes(range(256)) * 9, "not a readable csv|no column|which column"),
        ("table.xlsx", b"PK\x03\x04", ".xlsx is not a table format"),
        ("broken.parquet", b"PAR1 and nothing else", "not a readable parquet"),
        ("broken.jsonl", b'{"a": 1}\n{"a": ', "not a readable jsonl"),
    ],
)
def test_not_a_table(memorycell, tmp_path, name, content, message):
    import re

    (tmp_path / name).write_bytes(content)
    status, _, stderr = memorycell(
        "train", "forecast", tmp_path / name, "--out", tmp_path / "m.safetensors"
    )
    assert status == 2
    assert stderr.count("\n") == 1, stderr
    assert re.search(message, stderr), stderr


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
        "epochs=200",
        "--set",
        "patience=200",
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
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(kind)
    _, stderr = process.communicate(timeout=30)
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


def test_inspect_tells_how_far_back_a_model_remembers(memorycell, model, tmp_path):
    status, out, err = memorycell("inspect", model, "--out", tmp_path / "inside.html", "--json")
    result = json.loads(out.splitlines()[-1])
    assert status == 0
    assert result["sentence"] in err
    assert "you train" in err or "it was trained on windows of" in err
    assert result["horizon"]["gradient"]["uses"] >= 1
    assert result["layers"][0]["cell"] == "lstm"
    page = (tmp_path / "inside.html").read_text()
    assert "Gradient flow during training" in page
    assert len(page) < 8e6
    table = tmp_path / "rows.csv"
    table.write_text("\n".join((model.parent / "rows.csv").read_text().splitlines()[:60]))
    status, out, _ = memorycell("inspect", model, table, "--out", tmp_path / "short.html", "--json")
    assert status == 0
    assert any(
        "the last 59 of 59 steps" in note for note in json.loads(out.splitlines()[-1])["notes"]
    )
    for words, message in (
        (["--out", tmp_path / "no" / "p.html"], "no folder"),
        ([tmp_path / "none.csv"], "no such file"),
    ):
        status, _, err = memorycell("inspect", model, *words)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1


def test_a_missing_package_is_named_with_its_extra(tmp_path):
    (tmp_path / "t.txt").write_text("some text, " * 400)
    code = "import sys; sys.modules['regex'] = None; from memorycell.cli import main; main()"
    words = ["train", "text", tmp_path / "t.txt", "--out", tmp_path / "m.safetensors"]
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr == "memorycell: text needs regex: pip install 'memorycell[language]'\n"
    ran = subprocess.run([sys.executable, "-c", code, "tasks"], capture_output=True, text=True)
    assert ran.returncode == 0
    assert "forecast" in ran.stdout
    assert "speech needs regex: pip install 'memorycell[speech]'" in ran.stderr


def test_every_task_is_listed_with_what_it_needs(memorycell):
    status, out, _ = memorycell("tasks", "--json")
    found = {task["name"]: task for task in json.loads(out)}
    assert status == 0
    assert set(found) >= {"forecast", "text", "sentiment", "translation", "chat"}
    assert all(task["baselines"] and task["reads"] and task["primary"] for task in found.values())
