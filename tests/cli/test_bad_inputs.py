"""Every bad command line and input of bad_inputs.toml: status 2, one line, nothing written."""

import base64
import io
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("polars", reason="pip install 'memorycell[forecast]'")
pytest.importorskip("sklearn", reason="pip install 'memorycell[anomaly]'")
pytest.importorskip("regex", reason="pip install 'memorycell[language]'")
pytest.importorskip("kaldi_native_fbank", reason="pip install 'memorycell[speech]'")
pytest.importorskip("PIL", reason="pip install 'memorycell[handwriting]'")
pytest.importorskip("optuna", reason="pip install 'memorycell[tune]'")
pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")
pytest.importorskip("av", reason="pip install 'memorycell[video]'")

from untrained import DATA, write_data, write_model

TABLE = tomllib.loads(Path(__file__).with_name("bad_inputs.toml").read_text())["case"]
MAX_CHARS = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Small data and an untrained model of every task."""
    folder = tmp_path_factory.mktemp("bad_inputs")
    write_data(folder)
    for task in DATA:
        write_model(task, folder)
    return folder


def cases():
    for number, case in enumerate(TABLE):
        marks = [pytest.mark.xfail(reason=case["owner"], strict=False)] if "todo" in case else []
        yield pytest.param(case, id=f"{number}: {case['argv'][:60]!a}", marks=marks)


@pytest.mark.parametrize("case", list(cases()))
def test_bad_input(memorycell, folder, monkeypatch, case):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MEMORYCELL_TRACEBACK", "1")  # no case may end in the last resort
    stdin = base64.b64decode(case.get("stdin_base64", ""))
    stdin = stdin or expanded(case.get("stdin", "")).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    before = contents(folder)
    try:
        write(case)
        given = contents(folder)
        status, stdout, stderr = memorycell(*shlex.split(expanded(case["argv"])))
        assert contents(folder) == given, "files were written"
    finally:
        restore(folder, before)
    assert status == 2, stdout + stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert stderr.startswith("memorycell: ")
    assert stderr.rstrip("\n").isprintable()
    assert len(stderr) <= MAX_CHARS
    missing = [word for word in case["words"] if word not in stderr]
    assert not missing, stderr


def test_the_table_covers_every_verb_and_task():
    verbs = {shlex.split(case["argv"])[0] for case in TABLE}
    assert verbs >= {
        *("train", "evaluate", "predict", "stream", "backtest", "inspect"),
        *("prove", "export", "lab", "bench", "data", "tasks"),
    }
    for task in DATA:
        assert sum(f"train {task} " in case["argv"] for case in TABLE) >= 3
        assert any(f"predict {task}.safetensors" in case["argv"] for case in TABLE)
    assert len(TABLE) >= 200


def expanded(text: str) -> str:
    """⟪x*3⟫ is xxx."""
    return re.sub(r"⟪(.*?)\*(\d+)⟫", lambda found: found[1] * int(found[2]), text)


def write(case: dict) -> None:
    files = {name: expanded(text).encode() for name, text in case.get("files", {}).items()}
    files |= {name: base64.b64decode(text) for name, text in case.get("base64", {}).items()}
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def contents(folder: Path) -> dict[Path, bytes | None]:
    """The files and folders below a folder: path -> content, None for a folder."""
    return {
        path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def restore(folder: Path, before: dict[Path, bytes | None]) -> None:
    now = contents(folder)
    for path in sorted(now.keys() - before.keys(), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for path, content in before.items():
        if content is not None and now.get(path) != content:
            path.write_bytes(content)
