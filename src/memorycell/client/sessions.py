"""A session on the server, as the asynchronous client sees it."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.client.messages import Answer, as_answer, as_json, bytes_message, text_message
from memorycell.client.problems import AnswerLostError

if TYPE_CHECKING:
    from memorycell.client.asynchronous import AsyncClient


class AsyncSession:
    """A live session of a model on the server.

    id, model   its names there
    steps       number of items that it has read
    info        as the server described it when it was opened or attached
    handle      its number on the current connection
    ended       why it is closed, or None
    """

    def __init__(self, client: AsyncClient, info: Mapping[str, Any], handle: int) -> None:
        self.client, self.handle = client, handle
        self.lock = asyncio.Lock()
        self.ended: Exception | None = None
        self.attached(info, handle)

    def attached(self, info: Mapping[str, Any], handle: int) -> None:
        """Set what the server said of it."""
        self.info = dict(info)
        self.id, self.model = str(info["id"]), str(info["model"])
        self.steps, self.handle = int(info["steps"]), handle

    def __repr__(self) -> str:
        return f"<session {self.id} of {self.model}: {self.steps} items read>"

    async def feed(
        self, item: Any, *, watch: bool = False, deadline_ms: int | None = None
    ) -> Answer:
        """Read one item: a line of text, a row as a dict, a list of numbers, or bytes.

        watch         with the gates of every unit
        deadline_ms   the item is refused if it is not begun by then
        """
        if isinstance(item, (bytes, bytearray, memoryview)) and deadline_ms is None:
            return await self._feed_bytes(bytes(item), watch)
        return await self._step({"item": as_json(item)}, watch, deadline_ms)

    async def feed_many(
        self, items: Sequence[Any], *, watch: bool = False, deadline_ms: int | None = None
    ) -> Answer:
        """Read several items in one message; `answers` has a list per item."""
        return await self._step({"items": [as_json(each) for each in items]}, watch, deadline_ms)

    async def step(self, x: Any) -> np.ndarray:
        """One step or several of a session with tensors: x [I] -> y [width], x [T, I] -> y
        [T, width]; float32.
        """
        rows = np.asarray(x, np.float32)
        if rows.ndim == 1:
            return (await self.client.step([self], rows[None]))[0]
        return await self.client.step([self] * len(rows), rows)

    async def end(self) -> Answer:
        """The input has ended: the last answers. The session stays."""
        return as_answer(await self._request({"op": "end"}))

    async def fork(self, **options: Any) -> AsyncSession:
        """A new session with a copy of the state. Options: id, durable, ttl_s, history."""
        name = options.setdefault("id", secrets.token_hex(12))
        async with self.lock:
            self.check()
            return self.client.adopt(
                await self.client.create(
                    lambda: {"op": "fork", "handle": self.handle, **options}, self.model, name
                )
            )

    async def rewind(self, items: int = 1) -> None:
        """Undo the last items, as far as the session's history reaches."""
        await self._request({"op": "rewind", "items": items}, once=True)

    async def snapshot(self) -> bytes:
        """The state, as `Session.snapshot` gives it."""
        return base64.b64decode((await self._request({"op": "state"}))["state"])

    async def restore(self, snapshot: bytes) -> None:
        """Set the state from a snapshot of the same model."""
        await self._request({"op": "restore", "state": base64.b64encode(snapshot).decode()})

    async def close(self) -> None:
        """Delete the session on the server."""
        await self._request({"op": "close"})
        self.client.connection.sessions.pop(self.handle, None)
        self.ended = ConnectionError(f"session {self.id}: closed")

    async def detach(self) -> None:
        """Leave the session on the server to others."""
        await self._request({"op": "detach"})
        self.client.connection.sessions.pop(self.handle, None)
        self.ended = ConnectionError(f"session {self.id}: detached")

    # ---- requests --------------------------------------------------------------------------------

    async def _step(self, what: Mapping[str, Any], watch: bool, deadline_ms: int | None) -> Answer:
        more: dict[str, Any] = {"watch": True} if watch else {}
        if deadline_ms is not None:
            more["deadline_ms"] = deadline_ms
        async with self.lock:
            # `after` makes it safe to repeat: a step that was taken is answered, not taken again.
            request = {"op": "step", "after": self.steps, **more, **what}
            return self._read(await self._send(request))

    async def _feed_bytes(self, item: bytes, watch: bool) -> Answer:
        async with self.lock:
            self.check()
            before = self.steps

            def build(ref: int) -> bytes:
                self._check_unchanged(before)
                return bytes_message(ref, self.handle, item, watch=watch)

            return self._read(await self.client.connection.request(build))

    async def _request(self, request: Mapping[str, Any], *, once: bool = False) -> dict[str, Any]:
        async with self.lock:
            answer = await self._send(request, once=once)
            steps = answer.get("steps", answer.get("session", {}).get("steps"))
            if steps is not None:
                self.steps = int(steps)
            return answer

    async def _send(self, request: Mapping[str, Any], *, once: bool = False) -> dict[str, Any]:
        self.check()
        before = self.steps

        def build(ref: int) -> str:
            if once:
                self._check_unchanged(before)
            return text_message(ref, {"handle": self.handle, **request})

        return await self.client.connection.request(build)

    def _read(self, message: Mapping[str, Any]) -> Answer:
        answer = as_answer(message)
        self.steps = answer.steps
        return answer

    def check(self) -> None:
        """Raises why it is closed, if it is."""
        if self.ended is not None:
            raise self.ended

    def _check_unchanged(self, before: int) -> None:
        self.check()
        if self.steps != before:
            raise AnswerLostError(f"session {self.id}: the connection broke after the request")
