"""The OpenAPI document is true: schemathesis calls every operation as it says."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import safetensors.torch
import torch
from served import served
from serving import PATIENCE_S

from memorycell.server.config import ServerConfig

pytest.importorskip("schemathesis", reason="schemathesis is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openapi")
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 5, batch_first=True)
    safetensors.torch.save_file(layer.state_dict(), folder / "lstm.safetensors")
    config = ServerConfig(
        modules=(f"lstm={folder / 'lstm.safetensors'}",), state=str(folder / "state"), ttl_s=60
    )
    with served(config) as base:
        yield base


CONFIG = """
[parameters]
"path.model" = "lstm"
"path.id" = "a"
"path.version" = "1"
"""


def test_every_route_is_described(address):
    """What is described is there: no operation is answered with no-such-route or 405."""
    document = httpx.get(f"{address}/openapi.json", timeout=PATIENCE_S).json()
    operations = [
        (method, path)
        for path, described in document["paths"].items()
        for method in described
        if method != "parameters"
    ]
    assert len(operations) > 25
    values = {"model": "lstm", "id": "nobody", "version": "1", "format": "onnx"}
    for method, path in operations:
        reply = httpx.request(
            method, address + path.format(**values), content=b"", timeout=PATIENCE_S
        )
        assert reply.status_code != 405, (method, path)
        assert b"no-such-route" not in reply.content, (method, path)


@pytest.mark.slow
def test_schemathesis(address, tmp_path):
    """Without two checks: a model may refuse a valid request whose content it cannot use, and a
    session that was opened has another id than the one fixed here.
    """
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    opened = {"id": "a", "input": "tensors", "history": 10}
    url = f"{address}/v1/models/lstm/sessions"
    assert httpx.post(url, json=opened, timeout=PATIENCE_S).status_code == 201
    words = [Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml"]
    words += ["run", f"{address}/openapi.json", "--seed", "1", "--max-examples", "20"]
    words += ["--exclude-checks", "positive_data_acceptance,ensure_resource_availability"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-8000:]
