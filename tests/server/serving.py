"""Servers for tests: in this process, or in one of their own."""

import asyncio
import contextlib
import functools
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
import torch
from free_ports import free_port
from websockets.sync import client as websockets_client

from memorycell.server.app import build
from memorycell.server.config import ServerConfig

OLD = Path(__file__).parents[1] / "application" / "old_files"
HEADER = struct.Struct("<BBHIII")
NUM_INPUTS, H = 5, 7
PATIENCE_S = 120.0
"""What another process or thread may take on a machine that is busy."""
connect = functools.partial(websockets_client.connect, open_timeout=PATIENCE_S, ping_interval=None)
"""A WebSocket client that waits for a slow server."""


def lstm(path: Path, seed: int = 0, inputs: int = NUM_INPUTS, hidden: int = H) -> torch.nn.LSTM:
    """Write the weights of a layer to a file."""
    torch.manual_seed(seed)
    layer = torch.nn.LSTM(inputs, hidden, batch_first=True)
    part = path.with_name(path.name + ".part")
    torch.save(layer.state_dict(), part)
    part.replace(path)  # a server that watches the file does not see half of it
    return layer.eval()


@torch.no_grad()
def outputs(layer: torch.nn.LSTM, x: np.ndarray) -> np.ndarray:
    """PyTorch's outputs [T, H] for x [T, I]."""
    return layer(torch.from_numpy(x)[None])[0][0].numpy()


@contextlib.asynccontextmanager
async def serving(store=None, **settings):
    """(a client, the hub, the application) of a server in this process."""
    app = build(ServerConfig(**{"reload_s": 0.0, **settings}), store)
    async with app.lifespan() as hub:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, hub, app


class FakeSocket:
    """A WebSocket client of an application in this process."""

    def __init__(self, app, headers=(), subprotocols=()):
        self._in, self.out = asyncio.Queue(), asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": "/v1/socket",
            "headers": list(headers),
            "subprotocols": list(subprotocols),
        }
        self._in.put_nowait({"type": "websocket.connect"})

        async def send(message):
            self.out.put_nowait(message)

        self.task = asyncio.create_task(app(scope, self._in.get, send))

    async def accepted(self):
        return await self.out.get()

    def post(self, message):
        kind = "bytes" if isinstance(message, bytes) else "text"
        data = message if kind == "bytes" else orjson.dumps(message).decode()
        self._in.put_nowait({"type": "websocket.receive", kind: data})

    async def get(self):
        message = await self.out.get()
        return message["bytes"] if "bytes" in message else orjson.loads(message["text"])

    async def ask(self, **message):
        self.post({"ref": 1, **message})
        return await self.get()

    async def close(self):
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await self.task


@contextlib.asynccontextmanager
async def connected(app, **options):
    """A socket of an application in this process."""
    found = FakeSocket(app, **options)
    await found.accepted()
    try:
        yield found
    finally:
        await found.close()


def frame(handles, x, number=1):
    """A binary frame of steps."""
    x = np.asarray(x, np.float32).reshape(len(handles), -1)
    head = HEADER.pack(1, 0, 0, number, len(handles), x.shape[1])
    return head + np.array(handles, np.uint32).tobytes() + x.tobytes()


def answer(data):
    """(frame number, y [N, width], status [N]) of the answer to a frame."""
    kind, flags, _, number, count, width = HEADER.unpack_from(data)
    assert kind == 2, data
    y = np.frombuffer(data, np.float32, count * width, 16).reshape(count, width)
    status = np.frombuffer(data, np.uint8, count, 16 + y.nbytes) if flags else np.zeros(count)
    return number, y, status


async def until(condition, what="it"):
    """Wait for a condition, in an event loop."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.01)


class Process:
    """`memorycell serve` in a process of its own."""

    def __init__(self, *arguments: str, log: Path) -> None:
        self.port, self.log, self.arguments = free_port(), log, arguments
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "memorycell", "serve", *self.arguments]
        command += ["--port", str(self.port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        deadline = time.monotonic() + 2 * PATIENCE_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)
