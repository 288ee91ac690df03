"""`memorycell serve` as a process: start, drain, ports, settings."""

import asyncio
import threading
import time

import numpy as np
import orjson
import pytest
import websockets
from serving import NUM_INPUTS, Process, answer, connect, frame, lstm, outputs

from memorycell.errors import UserError
from memorycell.server.config import ServerConfig, read_config

DRAIN_S = 100
X = np.random.default_rng(0).normal(size=(50, NUM_INPUTS)).astype(np.float32)


def test_a_server_drains_with_a_hint_and_its_sessions_are_there_again(tmp_path):
    layer = lstm(tmp_path / "lstm.pt")
    truth = outputs(layer, X)
    arguments = ["--module", str(tmp_path / "lstm.pt"), "--state", str(tmp_path / "state")]
    settings = ["--set", "log=json", "--set", f"drain_s={DRAIN_S}"]
    server = Process(*arguments, *settings, log=tmp_path / "log")
    try:
        url = f"ws://127.0.0.1:{server.port}/v1/socket"
        with connect(url, subprotocols=["memorycell.v1"]) as socket:
            assert socket.subprotocol == "memorycell.v1"
            socket.send(orjson.dumps({"op": "open", "model": "lstm", "id": "a"}).decode())
            handle = orjson.loads(socket.recv())["handle"]
            socket.send(frame([handle], X[0]))
            np.testing.assert_allclose(answer(socket.recv())[1][0], truth[0], atol=1e-6)
            began = time.monotonic()
            ended = threading.Thread(target=server.terminate)
            ended.start()
            assert orjson.loads(socket.recv())["reconnect_ms"] > 0
            with pytest.raises(websockets.ConnectionClosed):
                socket.recv()
            assert socket.close_code == 1012
            ended.join()
        assert time.monotonic() - began < DRAIN_S  # a client that has left is not waited for
        assert server.process.returncode == 0
        server.start()
        with connect(url) as socket:
            socket.send(orjson.dumps({"op": "attach", "model": "lstm", "id": "a"}).decode())
            found = orjson.loads(socket.recv())
            assert found["session"]["steps"] == 1
            socket.send(frame([found["handle"]], X[1]))
            np.testing.assert_allclose(answer(socket.recv())[1][0], truth[1], atol=1e-6)
        for line in (tmp_path / "log").read_text().splitlines():
            assert orjson.loads(line)["level"] == "info"
    finally:
        server.kill()


def test_a_port_that_is_taken_is_said(tmp_path, memorycell):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, err = memorycell("serve", "--port", port)
    assert status == 2
    assert f"127.0.0.1:{port}: cannot listen" in err


def test_a_file_that_is_no_model_is_said(tmp_path, memorycell):
    (tmp_path / "x.safetensors").write_bytes(b"x")
    status, _, err = memorycell("serve", str(tmp_path / "x.safetensors"), "--port", "0")
    assert status == 2
    assert "x.safetensors" in err


def test_a_new_token_is_printed_once(memorycell):
    status, out, _ = memorycell("serve", "--new-token", "plant")
    token, line = out.splitlines()
    assert status == 0
    assert orjson.loads(line)["name"] == "plant"
    assert token not in line


def test_settings_come_from_flags_then_the_environment_then_a_file(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text('port = 1\nhost = "0.0.0.0"\nttl_s = 5\nfiles = ["a"]\n')
    environment = {"MEMORYCELL_SERVE_PORT": "2", "MEMORYCELL_SERVE_TTL_S": "6"}
    config = read_config({"port": 3}, path, environment)
    assert (config.port, config.ttl_s, config.host, config.files) == (3, 6.0, "0.0.0.0", ("a",))
    assert ServerConfig().host == "127.0.0.1"
    for given, says in (
        ({"prot": 1}, "did you mean port"),
        ({"port": 99999}, "port"),
        ({"carry": "x"}, "carry"),
        ({"tls_key": "x"}, "both"),
    ):
        with pytest.raises(UserError, match=says):
            read_config(given, None, {})
    with pytest.raises(UserError, match="port"):
        read_config({}, None, {"MEMORYCELL_SERVE_PORT": "x"})
    path.write_text("port = ")
    with pytest.raises(UserError, match="cannot be read"):
        read_config({}, path, {})


def test_a_store_that_cannot_be_used_is_said(tmp_path):
    from memorycell.server.stores import open_store

    (tmp_path / "file").write_text("x")
    for settings in ({"state": str(tmp_path / "file")}, {"store": "nonsense"}):
        with pytest.raises(UserError, match="store|sessions"):
            open_store(ServerConfig(**settings))
    assert asyncio.iscoroutinefunction(open_store) is False
