"""The client on an asyncio event loop."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np

from memorycell.client.connection import Connection
from memorycell.client.messages import (
    as_json,
    read_outputs,
    steps_message,
    text_message,
)
from memorycell.client.problems import AnswerLostError, ProblemError, StepError
from memorycell.client.sessions import AsyncSession

if TYPE_CHECKING:
    import httpx

Options = Any


class AsyncClient:
    """A client of `memorycell serve`: `async with AsyncClient(base) as client`.

    base          address of the server
    token         bearer token, if the server asks for one
    timeout_s     for one answer
    reconnect_s   time for which a lost connection is tried again; 0: an error at once

    After a lost connection the client connects again, attaches its sessions and repeats the
    requests without an answer. No item is read twice: a repeated step says how many items the
    session must have read.
    """

    def __init__(
        self,
        base: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        reconnect_s: float = 30.0,
    ) -> None:
        import httpx

        self.base = base.rstrip("/")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(base_url=self.base, headers=headers, timeout=timeout_s)
        self.connection = Connection(self.base, token, timeout_s, reconnect_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the sessions stay on the server until they are idle too long."""
        await self.connection.close()
        await self._http.aclose()

    # ---- over HTTP -------------------------------------------------------------------------------

    async def models(self) -> list[dict[str, Any]]:
        """The models that are served, in short."""
        return (await self._get("/v1/models"))["models"]

    async def model(self, name: str) -> dict[str, Any]:
        """A model with its architecture, metrics, settings and notes."""
        return await self._get(f"/v1/models/{quote(name, safe='')}")

    async def predict(
        self,
        model: str,
        text: str | None = None,
        *,
        content: str | bytes | None = None,
        name: str | None = None,
        **options: Options,
    ) -> dict[str, Any]:
        """A prediction for a text, or for the `content` of a file called `name`."""
        body: dict[str, Any] = {"options": options}
        if content is None:
            body["input"] = text
        else:
            body |= {"content": as_json(content), "name": name or "input"}
        path = f"/v1/models/{quote(model, safe='')}/predict"
        return _checked(await self._http.post(path, json=body))

    async def sessions(self, model: str) -> list[dict[str, Any]]:
        """All sessions of a model that are open on the server."""
        found: list[dict[str, Any]] = []
        path, cursor = f"/v1/models/{quote(model, safe='')}/sessions?limit=1000", ""
        while True:
            page = await self._get(path + cursor)
            found += page["sessions"]
            if not page.get("next"):
                return found
            cursor = f"&cursor={quote(page['next'], safe='')}"

    async def _get(self, path: str) -> dict[str, Any]:
        return _checked(await self._http.get(path))

    # ---- sessions --------------------------------------------------------------------------------

    async def open(self, model: str, **options: Options) -> AsyncSession:
        """A new session. Options: id, input ("items" or "tensors"), precision, durable ("none",
        "step" or "interval"), ttl_s, history, options, state (bytes of a snapshot).
        """
        request = {"op": "open", "model": model, "id": secrets.token_hex(12), **options}
        if isinstance(request.get("state"), bytes):
            request["state"] = base64.b64encode(request["state"]).decode()
        return self.adopt(await self.create(lambda: request, model, request["id"]))

    async def attach(self, model: str, id: str, *, take: bool = False) -> AsyncSession:
        """A session that exists. take: also one that is attached to another connection."""
        request = {"op": "attach", "model": model, "id": id, "take": take}
        return self.adopt(await self.connection.json_request(lambda: request))

    async def step(self, sessions: Sequence[AsyncSession], x: Any) -> np.ndarray:
        """One step per session with tensors, in one message: x [n, I] -> [n, width] float32. A
        session that occurs repeatedly takes its rows in order.

        Raises `StepError` where a session refuses its step, and `AnswerLostError` where the
        connection broke after a step was taken.
        """
        rows = np.asarray(x, np.float32)
        if rows.ndim != 2 or len(rows) != len(sessions):
            raise ValueError(f"x: expected [{len(sessions)}, I], got {list(rows.shape)}")
        # In one order for all calls, so that two calls never wait for each other.
        distinct = sorted({s.handle: s for s in sessions}.values(), key=lambda s: (s.model, s.id))
        async with contextlib.AsyncExitStack() as held:
            for session in distinct:
                await held.enter_async_context(session.lock)
                session.check()
            before = [session.steps for session in sessions]

            def build(frame: int) -> bytes:
                if [session.steps for session in sessions] != before:
                    raise AnswerLostError("the connection broke after some sessions were stepped")
                return steps_message(frame, [session.handle for session in sessions], rows)

            answer = await self.connection.request(build)
            y, status = read_outputs(answer)
            for session, refused in zip(sessions, status, strict=True):
                session.steps += not refused
            if status.any():
                raise StepError(status, y, [session.id for session in sessions])
            return y

    def adopt(self, message: Mapping[str, Any]) -> AsyncSession:
        """A session from the answer that opened it."""
        session = AsyncSession(self, message["session"], message["handle"])
        self.connection.sessions[session.handle] = session
        return session

    async def create(
        self,
        request: Callable[[], Mapping[str, Any]],
        model: str,
        id: str,
    ) -> dict[str, Any]:
        """Open or fork; if the answer is lost with the connection, the session exists already."""
        sent = 0

        def build(ref: int) -> str:
            nonlocal sent
            sent += 1
            return text_message(ref, request())

        try:
            return await self.connection.request(build)
        except ProblemError as problem:
            if sent < 2 or problem.slug != "session-exists":
                raise
        again = {"op": "attach", "model": model, "id": id, "take": True}
        return await self.connection.json_request(lambda: again)


def _checked(reply: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer. Raises `ProblemError`."""
    if reply.is_success:
        return reply.json()
    try:
        problem = reply.json()
    except ValueError:
        problem = {}
    fallback = {"status": reply.status_code, "title": f"{reply.status_code} {reply.reason_phrase}"}
    raise ProblemError({**fallback, **(problem if isinstance(problem, dict) else {})})
