"""Help, the lists of tasks and datasets, and what a missing package says."""

import json
import subprocess
import sys


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
