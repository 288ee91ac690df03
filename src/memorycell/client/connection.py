"""One WebSocket with requests under way, which is opened again when it is lost."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from memorycell.client.messages import HEADER, SUBPROTOCOL, text_message
from memorycell.client.problems import ConnectionLostError, ProblemError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from memorycell.client.sessions import AsyncSession

MIN_WAIT_S, MAX_WAIT_S = 0.1, 5.0
MAX_REF = 0xFFFF_FFFF


class Connection:
    """Requests and their answers over a WebSocket; `sessions` are attached again after a loss."""

    def __init__(self, base: str, token: str | None, timeout_s: float, reconnect_s: float) -> None:
        self.address = "ws" + base.removeprefix("http") + "/v1/socket"
        self.timeout_s, self.reconnect_s = timeout_s, reconnect_s
        self.protocols = [SUBPROTOCOL, *([] if token is None else [f"bearer.{token}"])]
        self.sessions: dict[int, AsyncSession] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._ref, self._closed, self._hint_s = 0, False, 0.0

    async def json_request(self, request: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Send a JSON request, again after a lost connection; returns the answer. Raises
        `ProblemError`.
        """
        return await self.request(lambda ref: text_message(ref, request()))

    async def request(self, build: Callable[[int], str | bytes]) -> Any:
        """Send what `build(ref)` gives; it is called again to repeat the request. Returns the JSON
        object or the bytes of the answer. Raises `ProblemError`, TimeoutError, ConnectionError.
        """
        while True:
            await self._connected()
            try:
                return await self._once(build)
            except ConnectionLostError:
                if self._closed or not self.reconnect_s:
                    raise

    async def close(self) -> None:
        """Close the socket; requests under way fail."""
        self._closed = True
        for task in (self._opening, self._reader):
            if task is not None:
                task.cancel()
        if self._socket is not None:
            await self._socket.close()
        self._lost(ConnectionLostError("the client was closed"))

    async def _once(self, build: Callable[[int], str | bytes]) -> Any:
        from websockets.exceptions import ConnectionClosed

        socket = self._socket
        if socket is None:
            raise ConnectionLostError(f"{self.address}: the connection was lost")
        self._ref = self._ref % MAX_REF + 1
        ref, future = self._ref, asyncio.get_running_loop().create_future()
        message = build(ref)
        self._waiting[ref] = future
        try:
            await socket.send(message)
            return await asyncio.wait_for(future, self.timeout_s)
        except ConnectionClosed:
            self._drop(socket)  # the reader may not have noticed it yet
            raise ConnectionLostError(f"{self.address}: the connection was lost") from None
        except TimeoutError:
            raise TimeoutError(f"{self.address}: no answer within {self.timeout_s:g} s") from None
        finally:
            self._waiting.pop(ref, None)

    # ---- the socket ------------------------------------------------------------------------------

    async def _connected(self) -> None:
        if self._closed:
            raise ConnectionLostError("the client was closed")
        if self._socket is not None and self._opening is None:
            return
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(self._opened)
        await asyncio.shield(self._opening)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # whoever waits for it raises it; nobody may

    async def _open(self) -> None:
        """Connect, within `reconnect_s` where a connection was lost before, and attach the
        sessions.
        """
        from websockets.exceptions import InvalidHandshake, InvalidStatus

        until, wait = time.monotonic() + self.reconnect_s, MIN_WAIT_S
        if self._hint_s:
            await asyncio.sleep(self._hint_s * random.random())
            self._hint_s = 0.0
        while True:
            try:
                await self._connect()
                await self._attach_sessions()
                return
            except InvalidStatus as error:
                status = error.response.status_code
                if status < 500 and status != 429:
                    raise ProblemError(_problem(status, error.response.body)) from None
                reason: Exception = error
            except (OSError, InvalidHandshake, EOFError) as error:
                reason = error
            if not self.sessions or time.monotonic() + wait > until:
                raise ConnectionLostError(f"{self.address}: {reason}")
            await asyncio.sleep(wait * (0.5 + random.random() / 2))
            wait = min(2 * wait, MAX_WAIT_S)

    async def _connect(self) -> None:
        from websockets.asyncio.client import connect
        from websockets.typing import Subprotocol

        if self._reader is not None:
            self._reader.cancel()
        self._socket = await connect(
            self.address,
            subprotocols=[Subprotocol(name) for name in self.protocols],
            compression=None,
            max_size=None,
            proxy=None,
        )
        self._reader = asyncio.ensure_future(self._read(self._socket))

    async def _attach_sessions(self) -> None:
        sessions = list(self.sessions.values())
        self.sessions.clear()
        for session in sessions:
            request = {"op": "attach", "model": session.model, "id": session.id, "take": True}
            try:
                answer = await self._once(partial(text_message, request=request))
            except ProblemError as problem:
                session.ended = problem
            except ConnectionLostError:
                self.sessions = {each.handle: each for each in sessions if each.ended is None}
                raise
            else:
                session.attached(answer["session"], answer["handle"])
        self.sessions = {each.handle: each for each in sessions if each.ended is None}

    async def _read(self, socket: ClientConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            async for message in socket:
                self._received(message)
        except ConnectionClosed:
            pass
        self._drop(socket)

    def _drop(self, socket: ClientConnection) -> None:
        """A socket was lost: the requests under way fail, and the next one connects again."""
        if self._socket is socket:
            self._socket = None
            self._lost(ConnectionLostError(f"{self.address}: the connection was lost"))

    def _received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._finish(HEADER.unpack_from(message)[3], message)
            return
        data = json.loads(message)
        if "event" in data:
            self._event(data)
        elif data.get("ok"):
            self._finish(data.get("ref"), data)
        else:
            self._finish(data.get("ref"), ProblemError(data.get("problem") or {}))

    def _event(self, data: Mapping[str, Any]) -> None:
        if data["event"] == "drain":
            self._hint_s = float(data.get("reconnect_ms") or 0) / 1000
        elif data["event"] == "closed" and data.get("handle") in self.sessions:
            session = self.sessions.pop(data["handle"])
            session.ended = ConnectionError(f"session {session.id}: closed ({data.get('reason')})")

    def _finish(self, ref: Any, answer: Any) -> None:
        future = self._waiting.pop(ref, None) if isinstance(ref, int) else None
        if future is None or future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _lost(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)


def _problem(status: int, body: bytes | bytearray) -> dict[str, Any]:
    try:
        problem = json.loads(bytes(body) or b"{}")
    except ValueError:
        problem = {}
    fallback = {"status": status, "title": f"the server refused the connection ({status})"}
    return {**fallback, **(problem if isinstance(problem, dict) else {})}
