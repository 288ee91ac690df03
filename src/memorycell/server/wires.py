"""How a socket's messages travel: through ASGI, the short way of `direct_websocket`, or another
worker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias

from memorycell.server.direct_websocket import EXTENSION, LENGTH_16, LENGTH_64, DirectWebSocket
from memorycell.server.hops import BYTES, TEXT, Messages

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
MAX_OUTBOX = 4096
OnMessage: TypeAlias = Callable[[bytes | str], None]


class Wire(Protocol):
    """A connection."""

    async def run(self, on_message: OnMessage) -> None:
        """Deliver messages until the connection ends."""

    def post(self, data: bytes | str) -> None:
        """Send a message, soon."""

    def post_frame(self, frame: bytes) -> None:
        """Send a message that is a complete frame of the WebSocket protocol, soon."""

    def hold(self) -> None:
        """Deliver no more messages until `release`."""

    def release(self) -> None:
        """See `hold`."""

    def close(self, code: int, reason: str) -> None:
        """Send what is left, and close."""


def wire_of(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Wire:
    """The wire of an accepted WebSocket."""
    direct = scope.get("extensions", {}).get(EXTENSION)
    return AsgiWire(receive, send) if direct is None else DirectWire(direct, receive, send)


class AsgiWire:
    """Messages through ASGI: any server, and tests without one."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._outbox: deque[Message] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._free = asyncio.Event()
        self._free.set()

    async def run(self, on_message: OnMessage) -> None:
        """See `Wire`."""
        writer = asyncio.create_task(self._write())
        try:
            while True:
                message = await self._receive()
                if message["type"] != "websocket.receive":
                    return
                data = message.get("bytes")
                on_message(message["text"] if data is None else data)
                await self._free.wait()
                while len(self._outbox) > MAX_OUTBOX:  # the client does not read
                    await asyncio.sleep(0.01)
        finally:
            writer.cancel()

    async def _write(self) -> None:
        while True:
            while self._outbox:
                await self._send(self._outbox.popleft())
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    def _put(self, message: Message) -> None:
        self._outbox.append(message)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def post(self, data: bytes | str) -> None:
        """See `Wire`."""
        kind = "text" if isinstance(data, str) else "bytes"
        self._put({"type": "websocket.send", kind: data})

    def post_frame(self, frame: bytes) -> None:
        """See `Wire`; the server makes a frame of its own."""
        self.post(payload_of(frame))

    def hold(self) -> None:
        """See `Wire`."""
        self._free.clear()

    def release(self) -> None:
        """See `Wire`."""
        self._free.set()

    def close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        self._put({"type": "websocket.close", "code": code, "reason": reason})


class HopWire:
    """Messages of another worker, for its client."""

    def __init__(self, messages: Messages) -> None:
        self._messages, self._lost_before = messages, messages.on_lost
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._early: list[bytes | str] = []  # before `run`
        self._on_message: OnMessage = self._early.append
        messages.on_message, messages.on_lost = self._received, self._lost
        messages.on_pause, messages.on_resume = self.hold, self.release
        self._holds = 0

    async def run(self, on_message: OnMessage) -> None:
        """See `Wire`."""
        self._on_message = on_message
        for data in self._early:
            on_message(data)
        self._early.clear()
        await self._ended

    def _received(self, number: int, message: bytes) -> None:
        self._on_message(message.decode() if number == TEXT else message)

    def _lost(self) -> None:
        self._lost_before()
        if not self._ended.done():
            self._ended.set_result(None)

    def post(self, data: bytes | str) -> None:
        """See `Wire`."""
        if isinstance(data, str):
            self._messages.send(TEXT, data.encode())
        else:
            self._messages.send(BYTES, data)

    def post_frame(self, frame: bytes) -> None:
        """See `Wire`."""
        self._messages.send(BYTES, payload_of(frame))

    def hold(self) -> None:
        """See `Wire`."""
        self._holds += 1
        if self._holds == 1 and not self._messages.transport.is_closing():
            self._messages.transport.pause_reading()

    def release(self) -> None:
        """See `Wire`."""
        self._holds -= 1
        if self._holds == 0 and not self._messages.transport.is_closing():
            self._messages.transport.resume_reading()

    def close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        self._messages.transport.close()


def payload_of(frame: bytes) -> bytes:
    """What a complete frame of a server carries."""
    return frame[{LENGTH_16: 4, LENGTH_64: 10}.get(frame[1], 2) :]


class DirectWire:
    """Messages as callbacks of the protocol."""

    def __init__(self, direct: DirectWebSocket, receive: Receive, send: Send) -> None:
        self._direct, self._receive, self._send = direct, receive, send
        self.post, self.post_frame = direct.write, direct.write_frame
        self.hold, self.release = direct.hold, direct.release
        self._closing: asyncio.Future[None] | None = None

    async def run(self, on_message: OnMessage) -> None:
        """See `Wire`."""
        self._direct.on_message = on_message
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return
            data = message.get("bytes")  # received before the callback was set
            on_message(message["text"] if data is None else data)

    def close(self, code: int, reason: str) -> None:
        """See `Wire`."""
        closing = self._send({"type": "websocket.close", "code": code, "reason": reason})
        self._closing = asyncio.ensure_future(closing)
