"""Connections between the workers of a server, on Unix sockets.

A message is a length and a number, u32 each, little-endian, and a body. The first one of a
connection is the secret of this start. Then a connection has one of two purposes:

    requests   of HTTP, many at once: a head as a line of JSON, then the body; an answer has the
               number of its request
    a socket   the messages of a client's WebSocket for sessions of this worker; the number says
               whether a message is `TEXT` or `BYTES`

HTTP and WebSockets between workers would cost several times as much.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.types import ASGIApp, Message

HOP = "memorycell.hop"
"""Key of `scope["extensions"]` for a request that came here from another worker."""
TEXT, BYTES = 1, 2
PREFIX = struct.Struct("<II")
REQUESTS = "requests"
Headers = Sequence[tuple[bytes, bytes]]
OnMessage = Callable[[int, bytes], None]

OnSocket = Callable[["Messages", dict[str, str]], None]
"""Serves a connection for the client that headers name; it sets the callbacks of the messages."""


@dataclass(frozen=True)
class Answer:
    """A worker's answer to a request."""

    status: int
    headers: Headers
    body: bytes


class Messages(asyncio.Protocol):
    """Splits a connection into messages."""

    def __init__(self, on_message: OnMessage, on_lost: Callable[[], None]) -> None:
        self.on_message, self.on_lost = on_message, on_lost
        self.on_pause: Callable[[], None] = _nothing
        self.on_resume: Callable[[], None] = _nothing
        self._buffer = bytearray()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.on_lost()

    def pause_writing(self) -> None:
        """See asyncio."""
        self.on_pause()

    def resume_writing(self) -> None:
        """See asyncio."""
        self.on_resume()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= PREFIX.size:
            length, number = PREFIX.unpack_from(buffer, at)
            if len(buffer) - at < PREFIX.size + length:
                break
            begin = at + PREFIX.size
            at = begin + length
            self.on_message(number, bytes(buffer[begin:at]))
        del buffer[:at]

    def send(self, number: int, body: bytes) -> None:
        """Send a message; nothing where the connection is closing."""
        if not self.transport.is_closing():
            self.transport.write(PREFIX.pack(len(body), number) + body)


async def open_messages(
    path: str, secret: str, purpose: Any, on_message: OnMessage, on_lost: Callable[[], None]
) -> Messages:
    """A connection to a worker. purpose: `REQUESTS`, or the headers of a WebSocket that say who its
    client is. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    messages = Messages(on_message, on_lost)
    await loop.create_unix_connection(lambda: messages, path)
    messages.send(0, orjson.dumps([secret, purpose]))
    return messages


def _nothing() -> None:
    return None


def _joined(head: Any, body: bytes) -> bytes:
    return orjson.dumps(head) + b"\n" + body


def _split(message: bytes) -> tuple[Any, bytes]:
    line, _, body = message.partition(b"\n")
    return orjson.loads(line), body


def _texts(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _bytes(headers: Sequence[Sequence[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


# ---- who asks ------------------------------------------------------------------------------------


class HopClient:
    """A connection to one worker, opened at the first request and again when it is lost."""

    def __init__(self, path: str, secret: str) -> None:
        self._path, self._secret = path, secret
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._messages: Messages | None = None
        self._opening: asyncio.Lock = asyncio.Lock()

    async def ask(self, method: str, path: str, headers: Headers, body: bytes) -> Answer:
        """The answer to a request. Raises OSError where nothing was sent, and EOFError where the
        connection was lost before the answer.
        """
        messages = self._messages
        if messages is None:
            messages = await self._connect()
        number = next(self._numbers) & 0xFFFFFFFF
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            messages.send(number, _joined([method, path, _texts(headers)], body))
            return await future
        finally:
            self._waiting.pop(number, None)

    async def _connect(self) -> Messages:
        async with self._opening:
            if self._messages is None:
                self._messages = await open_messages(
                    self._path, self._secret, REQUESTS, self._answered, self._lost
                )
            return self._messages

    def _answered(self, number: int, message: bytes) -> None:
        future = self._waiting.get(number)
        if future is not None and not future.done():
            (status, headers), body = _split(message)
            future.set_result(Answer(status, _bytes(headers), body))

    def _lost(self) -> None:
        self._messages = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(EOFError("the worker ended"))

    def close(self) -> None:
        """Close the connection."""
        if self._messages is not None:
            self._messages.transport.close()


# ---- who answers ---------------------------------------------------------------------------------


class HopServer:
    """Answers other workers: requests with an application, sockets with `on_socket`."""

    def __init__(self, app: ASGIApp, on_socket: OnSocket, secret: str) -> None:
        self._app, self._on_socket, self._secret = app, on_socket, secret
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[Messages] = set()
        self._server: asyncio.Server | None = None

    async def start(self, path: str) -> None:
        """Listen."""
        Path(path).unlink(missing_ok=True)  # of a worker that was killed
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._connected, path)
        os.chmod(path, 0o600)

    async def close(self, timeout_s: float) -> None:
        """Answer what is under way, for so long, and close the connections."""
        if self._server is None:
            return
        self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for messages in list(self._open):
            messages.transport.close()

    def _connected(self) -> Messages:
        def first(number: int, message: bytes) -> None:
            try:
                secret, purpose = orjson.loads(message)
            except ValueError:
                secret = purpose = ""
            if not hmac.compare_digest(str(secret).encode(), self._secret.encode()):
                messages.on_message = lambda number, message: None
                messages.transport.close()
                return
            self._open.add(messages)
            if purpose == REQUESTS:
                messages.on_message = request
            else:
                self._on_socket(messages, purpose)

        def request(number: int, message: bytes) -> None:
            task = asyncio.ensure_future(self._answer(messages, number, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        def lost() -> None:
            self._open.discard(messages)

        messages = Messages(first, lost)
        return messages

    async def _answer(self, messages: Messages, number: int, message: bytes) -> None:
        (method, path, headers), body = _split(message)
        raw, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": _bytes(headers),
            "client": None,
            "server": None,
            "extensions": {HOP: True},
        }
        status, sent, parts = 500, [], []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(part: Message) -> None:
            nonlocal status, sent
            if part["type"] == "http.response.start":
                status, sent = part["status"], part["headers"]
            else:
                parts.append(part.get("body", b""))

        await self._app(scope, receive, send)
        messages.send(number, _joined([status, _texts(sent)], b"".join(parts)))
