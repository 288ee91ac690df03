"""An application in a package of its own, installed with memorycell: every verb works on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "tides"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the package installed in `site`, and a file of levels."""
    pytest.importorskip("flit_core", reason="builds the package: pip install 'memorycell[dev]'")
    folder = tmp_path_factory.mktemp("tides")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-build-isolation", "--no-deps", "--target", folder / "site", EXAMPLE],
        check=True,
    )  # fmt: skip
    t = np.arange(1200)
    rng = np.random.default_rng(0)
    levels = 2 * np.sin(2 * np.pi * t / 12.42) + 0.5 * np.sin(2 * np.pi * t / 24)
    (folder / "levels.txt").write_text(
        "\n".join(f"{v:.4f}" for v in levels + 0.02 * rng.normal(size=len(t))) + "\n"
    )
    return folder


@pytest.fixture(scope="module")
def run(place):
    def call(*words, stdin=None, status=0):
        done = subprocess.run(
            [sys.executable, "-m", "memorycell", *words],
            cwd=place,
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(place / "site")},
        )
        assert done.returncode == status, done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def trained(run):
    out = run("train", "tides", "levels.txt", "--set", "epochs=12", "--json").stdout
    return json.loads(out.splitlines()[-1])


def test_it_is_listed(run):
    assert "Predicts the next water level" in run("tasks").stdout


def test_it_trains_and_beats_its_baseline(trained):
    assert trained["task"] == "tides"
    assert trained["skill"] > 0.5


def test_its_settings_are_checked(run):
    assert "--set hidden=0" in run("train", "tides", "--set", "hidden=0", status=2).stderr


def test_it_is_evaluated(run, trained):
    result = json.loads(run("evaluate", "tides.safetensors", "--json").stdout.splitlines()[-1])
    assert result["metrics"] == pytest.approx(trained["metrics"], rel=1e-5)


def test_it_streams_what_it_predicts(run, place, trained):
    predicted = json.loads(run("predict", "tides.safetensors", "levels.txt", "--json").stdout)
    lines = (place / "levels.txt").read_text()
    answers = run("stream", "tides.safetensors", stdin=lines).stdout.splitlines()
    assert len(answers) == 1200
    assert json.loads(answers[-1])["next"] == pytest.approx(predicted["next"], abs=2e-4)


def test_its_state_is_kept(run, place, trained):
    lines = (place / "levels.txt").read_text().splitlines(keepends=True)
    whole = run("stream", "tides.safetensors", stdin="".join(lines[:40])).stdout.splitlines()
    run("stream", "tides.safetensors", "--state", "s", stdin="".join(lines[:25]))
    rest = run("stream", "tides.safetensors", "--state", "s", stdin="".join(lines[25:40]))
    assert rest.stdout.splitlines() == whole[25:]


def test_a_bad_line_is_one_line(run, trained):
    error = run("stream", "tides.safetensors", stdin="1.0\nhigh\n", status=2).stderr
    assert error.strip().splitlines()[-1].endswith("'high' is not a number")


def test_it_is_inspected(run, place, trained):
    run("inspect", "tides.safetensors", "--out", "gates.html")
    assert "forget gate" in (place / "gates.html").read_text()


def test_it_is_exported_and_proved(run, place, trained):
    pytest.importorskip("onnxruntime", reason="pip install 'memorycell[onnx]'")
    run("export", "tides.safetensors", "--to", "onnx", "--out", "out")
    assert (place / "out" / "tides.onnx").exists()
    proof = run("prove", "tides.safetensors", "--precision", "float32")
    assert "onnx = step by step" in proof.stderr
    assert "BROKEN" not in proof.stderr


def test_a_model_without_its_package_is_refused(place, trained):
    done = subprocess.run(
        [sys.executable, "-m", "memorycell", "predict", "tides.safetensors", "levels.txt"],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "task 'tides'" in done.stderr
