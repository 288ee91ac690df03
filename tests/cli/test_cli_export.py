"""prove, export and inspect."""

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pytest

from memorycell.application import modelfile
from memorycell.applications.forecast.model import Forecaster
from memorycell.ops import binding


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
