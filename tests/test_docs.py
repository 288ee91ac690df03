"""Every Python snippet of the docs and the README runs; every command named there exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from memorycell.application import catalogue
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.training import loop as training

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small demo/glucose.safetensors, as the snippets expect."""
    place = tmp_path_factory.mktemp("docs")
    (place / "demo").mkdir()
    rows = [
        f"2010-10-{1 + k // 288:02d}"
        f" {k % 288 // 12:02d}:{k % 12 * 5 + 2:02d}:00,{150 + k * 37 % 50},{20 + k % 7}"
        for k in range(2000)
    ]
    (place / "cgm.csv").write_text("datetime,glucose,isig\n" + "\n".join(rows) + "\n")
    settings = ForecastSettings(target="glucose", every="5m", hidden=4, context=24, season=24)
    how = TrainSettings(epochs=1)
    training.train(
        catalogue.load("forecast"),
        str(place / "cgm.csv"),
        settings,
        how,
        place / "demo" / "glucose.safetensors",
    )
    return place


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_snippets_run(page, folder):
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    if snippets:
        subprocess.run(
            [sys.executable, "-c", "\n".join(snippets)], cwd=folder, check=True, capture_output=True
        )


def test_commands_exist():
    known = set(
        subprocess.run(
            [sys.executable, "-m", "memorycell", "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    )
    for page in PAGES:
        for verb in re.findall(
            r"^(?:.*\| )?(?:\.venv/bin/)?memorycell ([a-z]+)", page.read_text(), re.MULTILINE
        ):
            assert verb in known, f"{page.name}: memorycell {verb}"


@pytest.mark.data
def test_the_live_example_runs(glucose, tmp_path):
    how, settings = TrainSettings(epochs=1), ForecastSettings(hidden=8)
    training.train(catalogue.load("forecast"), "glucose", settings, how, tmp_path / "g.safetensors")
    words = [
        sys.executable,
        str(ROOT / "docs" / "examples" / "live_day.py"),
        str(tmp_path / "g.safetensors"),
    ]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (difference,) = re.findall(r"largest difference (\S+) mg/dl", out)
    assert float(difference) < 1e-3


@pytest.mark.parametrize(
    "name", ["forecast_frame", "anomaly_frame", "sequences_frame", "live_gates", "text_model"]
)
def test_the_examples_in_python_run(name, tmp_path):
    script = ROOT / "docs" / "examples" / f"{name}.py"
    words = [sys.executable, str(script)]
    out = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    if name != "live_gates":  # it explains sessions, on a series that a linear model forecasts best
        assert "better than the best baseline" in out
