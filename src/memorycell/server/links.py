"""A worker's WebSocket to another worker, on behalf of one client."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import InvalidStatus, WebSocketException

from memorycell.server.frames import BYTES, HEADER, PROBLEM, STEPS, WATCH
from memorycell.server.peers import HOP, PATIENCE_S, PAUSE_S
from memorycell.server.placement import Place
from memorycell.server.problems import Problem

Answer = dict[str, Any]
OnFrame = Callable[[bytes], None]


class Link:
    """Sends in the order of the calls. `lost` is called once, if the other worker ends it.

    event   called with what the other worker sends of its own accord
    """

    def __init__(self, event: Callable[[Link, Answer], None], lost: Callable[[], None]) -> None:
        self._event, self._lost = event, lost
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._frames: dict[int, OnFrame] = {}
        self._outbox: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, place: Place, worker: int, headers: Mapping[str, str]) -> None:
        """Open it. Raises `Problem` 503."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                connection = await unix_connect(
                    place.path(worker),
                    "ws://worker/v1/socket",
                    additional_headers={**headers, HOP: place.secret},
                    compression=None,
                    max_size=None,
                    ping_interval=None,
                )
                break
            except (OSError, WebSocketException) as error:
                if isinstance(error, InvalidStatus) or time.monotonic() > until:
                    text = f"worker {worker} is being started again"
                    raise Problem("not-ready", text, retry_after=1) from None
                await asyncio.sleep(PAUSE_S)
        self._tasks = [
            asyncio.create_task(self._read(connection)),
            asyncio.create_task(self._write(connection)),
        ]

    def close(self) -> None:
        """End it; `lost` is not called."""
        self._lost = _nothing
        for task in self._tasks:
            task.cancel()

    async def ask(self, message: Mapping[str, Any]) -> Answer:
        """The answer to a message, with `ok`."""
        number = next(self._numbers)
        self._outbox.put_nowait(orjson.dumps({**message, "ref": number}).decode())
        return await self._answer(number)

    async def item(self, handle: int, item: bytes, *, watch: bool) -> Answer:
        """The answer to an item of bytes."""
        number = next(self._numbers)
        head = HEADER.pack(BYTES, WATCH if watch else 0, 0, number, len(item), handle)
        self._outbox.put_nowait(head + item)
        return await self._answer(number)

    async def _answer(self, number: int) -> Answer:
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            return await future
        finally:
            del self._waiting[number]

    def step(self, count: int, width: int, body: bytes, done: OnFrame) -> None:
        """Send handles and rows; `done` is called with the answer."""
        number = next(self._numbers) & 0xFFFFFFFF
        self._frames[number] = done
        self._outbox.put_nowait(HEADER.pack(STEPS, 0, 0, number, count, width) + body)

    async def _write(self, connection: ClientConnection) -> None:
        try:
            while True:
                await connection.send(await self._outbox.get())
        except WebSocketException:
            return  # the reader sees it, too

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for data in connection:
                self._received(data)
        except WebSocketException:
            pass
        finally:
            self._lost()
            connection.transport.close()

    def _received(self, data: bytes | str) -> None:
        if isinstance(data, str):
            content: Answer = orjson.loads(data)
            if "event" in content:
                self._event(self, content)
            else:
                self._resolve(content["ref"], content)
            return
        kind, _, _, number, _, _ = HEADER.unpack_from(data)
        done = self._frames.pop(number, None)
        if done is not None:
            done(data)
        elif kind == PROBLEM:  # of an item of bytes
            problem = orjson.loads(data[HEADER.size :])
            self._resolve(number, {"ok": False, "problem": problem})

    def _resolve(self, number: int, content: Answer) -> None:
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(content)


def _nothing() -> None:
    return None
