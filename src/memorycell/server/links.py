"""A worker's connection to another worker, on behalf of the WebSocket of one client."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from memorycell.server.frames import BYTES, HEADER, PROBLEM, STEPS, WATCH
from memorycell.server.hops import BYTES as BINARY
from memorycell.server.hops import TEXT, Messages, open_messages
from memorycell.server.peers import PATIENCE_S, PAUSE_S
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
        self._messages: Messages | None = None

    async def connect(self, place: Place, worker: int, headers: Mapping[str, str]) -> None:
        """Open it; headers: those that say who the client is. Raises `Problem` 503."""
        until, path = time.monotonic() + PATIENCE_S, place.path(worker)
        while True:
            try:
                self._messages = await open_messages(
                    path, place.secret, dict(headers), self._received, self._ended
                )
                return
            except OSError:
                if time.monotonic() > until:
                    text = f"worker {worker} is being started again"
                    raise Problem("not-ready", text, retry_after=1) from None
                await asyncio.sleep(PAUSE_S)

    def close(self) -> None:
        """End it; `lost` is not called."""
        self._lost = _nothing
        if self._messages is not None:
            self._messages.transport.close()

    def _send(self, data: bytes, kind: int = BINARY) -> None:
        assert self._messages is not None
        self._messages.send(kind, data)

    def _ended(self) -> None:
        self._lost()

    async def ask(self, message: Mapping[str, Any]) -> Answer:
        """The answer to a message, with `ok`."""
        number = next(self._numbers)
        self._send(orjson.dumps({**message, "ref": number}), TEXT)
        return await self._answer(number)

    async def item(self, handle: int, item: bytes, *, watch: bool) -> Answer:
        """The answer to an item of bytes."""
        number = next(self._numbers)
        head = HEADER.pack(BYTES, WATCH if watch else 0, 0, number, len(item), handle)
        self._send(head + item)
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
        self._send(HEADER.pack(STEPS, 0, 0, number, count, width) + body)

    def _received(self, kind: int, data: bytes) -> None:
        if kind == TEXT:
            content: Answer = orjson.loads(data)
            if "event" in content:
                self._event(self, content)
            else:
                self._resolve(content["ref"], content)
            return
        what, _, _, number, _, _ = HEADER.unpack_from(data)
        done = self._frames.pop(number, None)
        if done is not None:
            done(data)
        elif what == PROBLEM:  # of an item of bytes
            problem = orjson.loads(data[HEADER.size :])
            self._resolve(number, {"ok": False, "problem": problem})

    def _resolve(self, number: int, content: Answer) -> None:
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(content)


def _nothing() -> None:
    return None
