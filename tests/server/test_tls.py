"""TLS: HTTPS and WebSockets with a certificate that the test makes."""

import asyncio
import shutil
import ssl
import subprocess

import httpx
import numpy as np
import orjson
import pytest
from serving import NUM_INPUTS, PATIENCE_S, Process, answer, frame, lstm, outputs
from websockets.asyncio.client import connect

from memorycell.client import Client

X = np.random.default_rng(6).normal(size=(4, NUM_INPUTS)).astype(np.float32)
PATH = "/v1/models/lstm/sessions"


class SecureProcess(Process):
    """`memorycell serve` with TLS."""

    @property
    def url(self):
        return f"https://localhost:{self.port}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) for localhost, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -out cert.pem -keyout key.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


async def step_over_wss(url, context, truth):
    """With the client that has one thread: TLS in two, one of which reads, sometimes hangs in the
    first handshake (before Python 3.13).
    """
    async with connect(
        f"{url}/v1/socket", ssl=context, open_timeout=PATIENCE_S, ping_interval=None
    ) as socket:
        await socket.send(orjson.dumps({"op": "attach", "model": "lstm", "id": "a"}).decode())
        handle = orjson.loads(await socket.recv())["handle"]
        for k in (1, 2):
            await socket.send(frame([handle], X[k]))
            np.testing.assert_allclose(answer(await socket.recv())[1][0], truth[k], atol=1e-6)


def test_https_and_wss_with_a_certificate(tmp_path, certificate, monkeypatch):
    cert, key = certificate
    layer = lstm(tmp_path / "lstm.pt")
    truth = outputs(layer, X)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))  # what httpx and `ssl` trust
    arguments = ["--module", str(tmp_path / "lstm.pt"), "--set", f"tls_cert={cert}"]
    server = SecureProcess(*arguments, "--set", f"tls_key={key}", log=tmp_path / "log")
    context = ssl.create_default_context(cafile=str(cert))
    client = httpx.Client(base_url=server.url, verify=context, timeout=PATIENCE_S)
    try:
        assert "https://" in server.log.read_text()
        assert client.post(PATH, json={"id": "a"}).status_code == 201
        found = client.post(f"{PATH}/a/step", json=X[0].tolist()).json()
        np.testing.assert_allclose(found["y"], truth[0], atol=1e-6)
        asyncio.run(step_over_wss(server.url.replace("https", "wss"), context, truth))
        with Client(server.url) as ours:
            session = ours.attach("lstm", "a")
            np.testing.assert_allclose(session.feed(X[3].tolist()).answers, truth[3], atol=1e-6)
        with pytest.raises(httpx.TransportError):  # without TLS
            httpx.get(f"http://localhost:{server.port}/healthz", timeout=PATIENCE_S)
        assert client.get("/healthz").status_code == 200
        strict = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{server.url}/healthz", verify=strict, timeout=PATIENCE_S)
    finally:
        client.close()
        server.kill()


def test_files_that_are_no_certificate_are_said(tmp_path, certificate, memorycell):
    cert, key = certificate
    (tmp_path / "text").write_text("no certificate")
    for given in ((tmp_path / "text", key), (cert, tmp_path / "text"), (tmp_path / "no", key)):
        words = ["--set", f"tls_cert={given[0]}", "--set", f"tls_key={given[1]}"]
        status, _, err = memorycell("serve", "--port", "0", *words)
        assert status == 2
        assert len(err.splitlines()) == 1
        assert "tls_cert" in err
