"""Sessions of `memorycell serve` and of the peer, with prepared requests for the load generator."""

import json
import socket
import struct
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import load_generator as load
import numpy as np
from server_process import Server, free_port, running

MODEL = "lstm"
HEADER = struct.Struct("<BBHIII")
STEPS, OUTPUTS = 1, bytes([2, 0])
"""The kind of a request; the kind of its answer and no flags: no step was refused."""
INPUTS = 16
"""Different inputs of a session, sent in turn."""
FOLDER = Path(__file__).parent


def ours(
    onnx: Path, folder: Path, core: set[int], words: Sequence[str] = ()
) -> AbstractContextManager[Server]:
    """`memorycell serve` with the layer of an ONNX file."""
    port = free_port()
    command = [sys.executable, "-m", "memorycell", "serve", "--module", f"{MODEL}={onnx}"]
    command += ["--port", str(port), *words]
    return running(command, port, folder / "ours.log", core, "/readyz")


def peer(onnx: Path, folder: Path, core: set[int]) -> AbstractContextManager[Server]:
    """The same layer in the service written the usual way."""
    port = free_port()
    command = [sys.executable, str(FOLDER / "peer_server.py"), str(onnx), "--port", str(port)]
    return running(command, port, folder / "peer.log", core, "/docs")


def inputs(sessions: int, size: int, seed: int = 0) -> np.ndarray:
    """The inputs of sessions, [S, INPUTS, I] float32."""
    return np.random.default_rng(seed).standard_normal((sessions, INPUTS, size), np.float32)


class Link:
    """A socket of memorycell.v1 with the handles of its sessions."""

    def __init__(self, port: int) -> None:
        self.socket = load.connect(port, "/v1/socket", ["Sec-WebSocket-Protocol: memorycell.v1"])
        self.handles: list[int] = []
        self.steps: list[int] = []

    def open(self, ids: Sequence[str], **options: Any) -> None:
        """Open sessions of tensors."""
        for each in ids:
            self._add({"op": "open", "model": MODEL, "id": each, "input": "tensors", **options})

    def attach(self, ids: Sequence[str]) -> None:
        """Attach sessions that exist."""
        for each in ids:
            self._add({"op": "attach", "model": MODEL, "id": each, "take": True})

    def _add(self, request: dict[str, Any]) -> None:
        answer = self.ask(request)
        self.handles.append(answer["handle"])
        self.steps.append(answer["session"]["steps"])

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One JSON request of a blocking socket, and its answer."""
        text = json.dumps({"ref": 1, **request}).encode()
        self.socket.sendall(load.client_frame(text, load.TEXT))
        while True:
            _, payload = load.receive_frame(self.socket)
            answer = json.loads(payload)
            if "event" not in answer:
                break
        if not answer["ok"]:
            raise RuntimeError(f"{request}: {answer['problem']}")
        return answer

    def client(self, x: np.ndarray) -> load.Client:
        """Requests that step all sessions of the link, x [S, INPUTS, I]; a session continues with
        the input that follows those it has read.
        """
        handles = np.array(self.handles, "<u4").tobytes()
        sessions, count, size = x.shape
        requests = []
        for k in range(count):
            rows = np.stack([x[s, (self.steps[s] + k) % count] for s in range(sessions)])
            head = HEADER.pack(STEPS, 0, 0, k, sessions, size)
            requests.append(load.client_frame(head + handles + rows.tobytes()))
        return load.Client(self.socket, requests, HEADER.size + 4 * sessions * size, OUTPUTS)


def our_clients(
    port: int, x: np.ndarray, per_link: int = 1, prefix: str = "s", **options: Any
) -> list[load.Client]:
    """One connection for every `per_link` sessions, x [S, INPUTS, I]; I = H."""
    clients = []
    for begin in range(0, len(x), per_link):
        link = Link(port)
        link.open([f"{prefix}{begin + s}" for s in range(per_link)], **options)
        clients.append(link.client(x[begin : begin + per_link]))
    return clients


def peer_clients(port: int, x: np.ndarray, path: str = "/ws") -> list[load.Client]:
    """One connection per session."""
    return [
        load.Client(
            load.connect(port, path),
            [load.client_frame(struct.pack("<I", s) + row.tobytes()) for row in x[s]],
            4 + x[s, 0].nbytes,
        )
        for s in range(len(x))
    ]


def outputs(clients: Sequence[load.Client], rounds: int, body: int) -> np.ndarray:
    """The rows [rounds, S, H] that clients get for their first requests; `body` is the number of
    bytes before the rows.
    """
    found = []
    for _ in range(rounds):
        rows = []
        for client in clients:
            client.send()
            payload = _payload(client.link)
            rows.append(np.frombuffer(payload, np.float32, offset=body))
        found.append(np.concatenate(rows))
    return np.stack(found)


def _payload(link: socket.socket) -> bytes:
    kind, payload = load.receive_frame(link)
    if kind != load.BINARY:
        raise RuntimeError(payload.decode(errors="replace"))
    return payload


def close(clients: Sequence[load.Client]) -> None:
    """Close the connections."""
    for client in clients:
        client.link.close()


def get(port: int, path: str) -> Any:
    """A JSON answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
        return json.loads(reply.read())


def post(port: int, path: str) -> Any:
    """A JSON answer to a request without a body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())
