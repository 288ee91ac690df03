"""The examples of docs/serve.md run against a server, and a model file of an application answers at
every door as its session does in this process.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import orjson
import pytest
from served import served

import memorycell
from memorycell.client import Client
from memorycell.server.config import ServerConfig

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
ROWS = [
    f"2010-10-{10 + k // 288:02d} {k % 288 // 12:02d}:{k % 12 * 5 + 2:02d}:00,"
    f"{150 + k * 37 % 50},{20 + k % 7}"
    for k in range(400)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    table = folder / "cgm.csv"
    table.write_text("datetime,glucose,isig\n" + "\n".join(ROWS) + "\n")
    settings = {"every": "5m", "hidden": 4, "context": 12, "season": 12, "horizon": 3, "epochs": 1}
    model = memorycell.train("forecast", table, target="glucose", **settings)
    model.save(folder / "glucose.safetensors")
    return model, folder


@pytest.fixture(scope="module")
def address(model):
    _, folder = model
    config = ServerConfig(
        files=(str(folder / "glucose.safetensors"),), state=str(folder / "state"), ttl_s=600
    )
    with served(config) as base:
        yield base


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_examples_run(address, tmp_path):
    (tmp_path / ".curlrc").write_text("fail-with-body\n")
    (script,) = blocks("sh")
    script = "set -e\n" + script.replace("localhost:8000", address.removeprefix("http://"))
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "CURL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"steps":1' in result.stdout
    assert '"forecast"' in result.stdout
    assert (tmp_path / "ward-7.state").stat().st_size > 100


def test_the_python_examples_run(address, capsys):
    for block in blocks("py"):
        exec(block.replace("http://localhost:8000", address), {})
    assert "forecast" in capsys.readouterr().out


def test_every_door_gives_the_records_of_a_session(address, model):
    """Lines by the Open Inference Protocol, rows as objects by WebSocket."""
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    trained, _ = model
    session = trained.session()
    triton = http.InferenceServerClient(address.removeprefix("http://"))
    names = {each["name"] for each in triton.get_model_metadata("glucose")["inputs"]}
    assert "items" in names
    with Client(address) as client:
        rows = client.open("glucose")
        for k, line in enumerate(["datetime,glucose,isig", *ROWS[:10]]):
            items = http.InferInput("items", [1], "BYTES")
            items.set_data_from_numpy(np.array([line], object))
            result = triton.infer("glucose", [items], sequence_id="s", sequence_start=k == 0)
            (answer,) = result.as_numpy("answers")
            expected = json.loads(orjson.dumps(session.feed(line)))
            assert json.loads(answer) == expected
            if k:
                row = dict(zip(("datetime", "glucose", "isig"), line.split(","), strict=True))
                assert rows.feed(row).answers == expected
    triton.close()
