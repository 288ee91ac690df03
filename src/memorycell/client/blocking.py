"""The client for programs without an event loop: it runs the asynchronous one in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from memorycell.client.asynchronous import AsyncClient
from memorycell.client.messages import Answer
from memorycell.client.sessions import AsyncSession

T = TypeVar("T")


class Client:
    """As `AsyncClient`, with methods that wait: `with Client(base) as client`. Thread-safe."""

    def __init__(
        self,
        base: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        reconnect_s: float = 30.0,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="memorycell client", daemon=True
        )
        self._thread.start()

        async def build() -> AsyncClient:
            return AsyncClient(base, token=token, timeout_s=timeout_s, reconnect_s=reconnect_s)

        self._client = self.wait(build())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the asynchronous client."""
        if self._loop.is_closed():
            work.close()
            raise ConnectionError("the client was closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the sessions stay on the server until they are idle too long."""
        if self._loop.is_closed():
            return
        self.wait(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def models(self) -> list[dict[str, Any]]:
        """The models that are served, in short."""
        return self.wait(self._client.models())

    def model(self, name: str) -> dict[str, Any]:
        """A model with its architecture, metrics, settings and notes."""
        return self.wait(self._client.model(name))

    def predict(
        self,
        model: str,
        text: str | None = None,
        *,
        content: str | bytes | None = None,
        name: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """A prediction for a text, or for the `content` of a file called `name`."""
        return self.wait(self._client.predict(model, text, content=content, name=name, **options))

    def sessions(self, model: str) -> list[dict[str, Any]]:
        """All sessions of a model that are open on the server."""
        return self.wait(self._client.sessions(model))

    def open(self, model: str, **options: Any) -> ClientSession:
        """A new session; the options are those of `AsyncClient.open`."""
        return ClientSession(self, self.wait(self._client.open(model, **options)))

    def attach(self, model: str, id: str, *, take: bool = False) -> ClientSession:
        """A session that exists. take: also one that is attached to another connection."""
        return ClientSession(self, self.wait(self._client.attach(model, id, take=take)))

    def step(self, sessions: Sequence[ClientSession], x: Any) -> np.ndarray:
        """One step per session with tensors, in one message: x [n, I] -> [n, width] float32."""
        return self.wait(self._client.step([session.session for session in sessions], x))


class ClientSession:
    """As `AsyncSession`, with methods that wait."""

    def __init__(self, client: Client, session: AsyncSession) -> None:
        self.client, self.session = client, session

    def __repr__(self) -> str:
        return repr(self.session)

    @property
    def id(self) -> str:
        """Its name on the server."""
        return self.session.id

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.session.model

    @property
    def steps(self) -> int:
        """Number of items that it has read."""
        return self.session.steps

    @property
    def info(self) -> dict[str, Any]:
        """As the server described it when it was opened or attached."""
        return self.session.info

    def feed(self, item: Any, *, watch: bool = False, deadline_ms: int | None = None) -> Answer:
        """Read one item; see `AsyncSession.feed`."""
        return self.client.wait(self.session.feed(item, watch=watch, deadline_ms=deadline_ms))

    def feed_many(
        self, items: Sequence[Any], *, watch: bool = False, deadline_ms: int | None = None
    ) -> Answer:
        """Read several items in one message; `answers` has a list per item."""
        return self.client.wait(self.session.feed_many(items, watch=watch, deadline_ms=deadline_ms))

    def step(self, x: Any) -> np.ndarray:
        """Steps of a session with tensors: x [I] -> y [width], x [T, I] -> y [T, width]."""
        return self.client.wait(self.session.step(x))

    def end(self) -> Answer:
        """The input has ended: the last answers. The session stays."""
        return self.client.wait(self.session.end())

    def fork(self, **options: Any) -> ClientSession:
        """A new session with a copy of the state. Options: id, durable, ttl_s, history."""
        return ClientSession(self.client, self.client.wait(self.session.fork(**options)))

    def rewind(self, items: int = 1) -> None:
        """Undo the last items, as far as the session's history reaches."""
        self.client.wait(self.session.rewind(items))

    def snapshot(self) -> bytes:
        """The state, as `Session.snapshot` gives it."""
        return self.client.wait(self.session.snapshot())

    def restore(self, snapshot: bytes) -> None:
        """Set the state from a snapshot of the same model."""
        self.client.wait(self.session.restore(snapshot))

    def close(self) -> None:
        """Delete the session on the server."""
        self.client.wait(self.session.close())

    def detach(self) -> None:
        """Leave the session on the server to others."""
        self.client.wait(self.session.detach())
