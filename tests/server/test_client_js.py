"""The JavaScript client in Node, against a server on the loopback interface."""

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from proxy import Proxy
from served import served

from memorycell.server.config import ServerConfig

NODE = shutil.which("node")


def node_options():
    """Options for WebSocket, or None where Node has none (before 20.10)."""
    if NODE is None:
        return None
    for options in ([], ["--experimental-websocket"]):
        probe = subprocess.run(
            [NODE, *options, "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"],
            capture_output=True,
        )
        if probe.returncode == 0:
            return options
    return None


OPTIONS = node_options()


@pytest.mark.skipif(OPTIONS is None, reason="Node with WebSocket (20.10 or later) is not installed")
def test_the_javascript_client(tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 5, batch_first=True)
    safetensors.torch.save_file(layer.state_dict(), tmp_path / "lstm.safetensors")
    module = tmp_path / "client.mjs"
    module.write_text((files("memorycell.page") / "client.js").read_text())
    script = Path(__file__).with_name("client_test.mjs")
    config = ServerConfig(modules=(f"lstm={tmp_path / 'lstm.safetensors'}",))
    with served(config) as base, Proxy(int(base.rpartition(":")[2])) as proxy:
        words = [NODE, *OPTIONS, script, module, base, f"http://127.0.0.1:{proxy.port}"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.strip() == "CUT":
                    proxy.cut()
                else:
                    break
            process.stdout.read()
        assert process.returncode == 0
    result = json.loads(line)
    x = np.array([[0.1 * t, -0.2, np.sin(t)] for t in range(12)], np.float32)
    with torch.no_grad():
        expected = layer(torch.from_numpy(x)[None])[0][0].numpy()
    assert "lstm" in result["models"]
    for key, rows in [("fed", slice(0, 12)), ("lasting", slice(0, 12)), ("h", 3), ("binary", 8)]:
        np.testing.assert_allclose(result[key], expected[rows], atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(result["restored"], expected[9], atol=1e-6, rtol=1e-5)
    assert (result["forked_steps"], result["rewound_steps"]) == (8, 8)
    assert result["unknown_gate"]
    assert result["problem"] == [True, 404, "no-such-model"]
    assert result["refused"] == [[2, 0], True]
    assert "closed" in result["closed"]
    assert "closed" in result["after_close"]
    assert result["lost"] == 4
