"""Group commit: what waits while one transaction is written goes into the next one together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from memorycell.server.durable import Key, Store, StoredSession

T = TypeVar("T")
OnCommit: TypeAlias = Callable[[Exception | None, frozenset[Key]], None]
"""(error, keys that another server has taken); called on the event loop."""
MAX_ROWS = 4096
"""Per transaction."""


@dataclass(frozen=True)
class _Waiting:
    rows: Sequence[StoredSession]
    done: OnCommit


class Committer:
    """Calls a store from one thread of its own."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._loop = store, loop
        self._thread = ThreadPoolExecutor(1, "memorycell-store")
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()
        self._running = False
        self.commits = self.rows = 0

    def add(self, rows: Sequence[StoredSession], done: OnCommit) -> None:
        """Write rows, soon; `done` is called when they are on disk."""
        with self._lock:
            self._waiting.append(_Waiting(rows, done))
            if self._running:
                return
            self._running = True
        self._thread.submit(self._drain)

    async def put(self, rows: Sequence[StoredSession]) -> frozenset[Key]:
        """Write rows; gives the keys that another server has taken. Raises as `Store.put`."""
        future: asyncio.Future[frozenset[Key]] = self._loop.create_future()

        def done(error: Exception | None, lost: frozenset[Key]) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(lost)

        self.add(rows, done)
        return await future

    async def call(self, function: Callable[[Store], T]) -> T:
        """Call the store in its thread, after what is being written."""
        return await self._loop.run_in_executor(self._thread, function, self._store)

    def _drain(self) -> None:
        while True:
            with self._lock:
                group, count = [], 0
                while self._waiting and count < MAX_ROWS:
                    group.append(self._waiting.pop(0))
                    count += len(group[-1].rows)
                if not group:
                    self._running = False
                    return
            self._commit(group)

    def _commit(self, group: list[_Waiting]) -> None:
        # Of several rows of one session the last is current.
        rows = {row.key: row for waiting in group for row in waiting.rows}
        error: Exception | None = None
        lost: frozenset[Key] = frozenset()
        try:
            lost = frozenset(self._store.put(list(rows.values())))
        except Exception as failure:
            error = failure
        self.commits, self.rows = self.commits + 1, self.rows + len(rows)
        self._loop.call_soon_threadsafe(_answer, group, error, lost)

    async def close(self) -> None:
        """Wait for what is being written, and close the store."""
        await self._loop.run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)


def _answer(group: list[_Waiting], error: Exception | None, lost: frozenset[Key]) -> None:
    for waiting in group:
        waiting.done(error, lost)
