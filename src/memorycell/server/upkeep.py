"""What a server does by the clock: reload models, close and spill idle sessions, save others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memorycell.server.context import LOG
from memorycell.server.problems import Problem
from memorycell.server.sessions import ItemSession, LiveSession

if TYPE_CHECKING:
    from memorycell.server.hub import Hub

MIN_SWEEP_S, MAX_SWEEP_S = 0.05, 5.0
MAX_DRIFT_S = 1.0
"""A larger change of the system's clock between two sweeps is a jump."""
CHUNK = 2000
"""Sessions that are looked at or written before others run."""


class Upkeep:
    """The tasks of a hub.

    spilled   sessions that were written to the store to free their memory
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._tasks: list[asyncio.Task[Any]] = []
        self._short: set[asyncio.Task[Any]] = set()
        self._shortest_ttl_s = MAX_SWEEP_S * 4
        self._shorter = asyncio.Event()
        self._interval: set[LiveSession] = set()
        self._offset = time.time() - time.monotonic()
        self.spilled = 0

    def start(self) -> None:
        """Begin."""
        config = self._hub.config
        self._tasks = [asyncio.create_task(self._forever(self._sweep))]
        if config.reload_s:
            watching = self._hub.registry.watch(config.reload_s)
            self._tasks.append(asyncio.create_task(watching))
        if self._hub.committer is not None:
            self._tasks.append(asyncio.create_task(self._forever(self._save_interval)))

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task that nobody waits for."""
        self._short.add(task)
        task.add_done_callback(self._short.discard)

    def note(self, session: LiveSession) -> None:
        """A session was opened."""
        if session.ttl_s and session.ttl_s < self._shortest_ttl_s:
            self._shortest_ttl_s = session.ttl_s
            self._shorter.set()
        if session.options.durable == "interval":
            self._interval.add(session)

    async def _forever(self, work: Any) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # the next round may succeed
                LOG.error("upkeep failed", exc_info=error)
                await asyncio.sleep(1)

    # ---- idle sessions ---------------------------------------------------------------------------

    async def _sweep(self) -> None:
        hub = self._hub
        wait_s = min(MAX_SWEEP_S, max(MIN_SWEEP_S, self._shortest_ttl_s / 4))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._shorter.wait(), wait_s)
            self._shorter.clear()
            return
        sessions = list(hub.sessions.values())
        now = time.monotonic()
        for k in range(0, len(sessions), CHUNK):
            for session in sessions[k : k + CHUNK]:
                if not session.closed and session.ttl_s and now - session.used > session.ttl_s:
                    with contextlib.suppress(Problem):
                        await hub.close(session, "ttl")
            await asyncio.sleep(0)
        if hub.committer is None:
            return
        await self._after_jump()
        await hub.committer.call(lambda store: store.expire(time.time()))
        excess = len(hub.sessions) - hub.config.max_resident
        if excess > 0:
            idle = sorted(
                (s for s in sessions if not s.closed and s.socket is None),
                key=lambda session: session.used,
            )
            await self.spill(idle[: excess + hub.config.max_resident // 8])

    async def _after_jump(self) -> None:
        """Where the clock of the system was set, write the open sessions that the store has again,
        since their rows say when they end by that clock.
        """
        offset = time.time() - time.monotonic()
        jumped, self._offset = abs(offset - self._offset) > MAX_DRIFT_S, offset
        if not jumped:
            return
        sessions = [s for s in self._hub.sessions.values() if s.saved >= 0 and not s.closed]
        for k in range(0, len(sessions), CHUNK):
            for session, error in await self._write(sessions[k : k + CHUNK]):
                LOG.warning("session %s could not be saved: %s", session.id, error)

    async def spill(self, sessions: Sequence[LiveSession]) -> None:
        """Move sessions to the store, some at a time."""
        for k in range(0, len(sessions), CHUNK):
            self.spilled += await self._hub.spill(sessions[k : k + CHUNK])

    async def _save_interval(self) -> None:
        await asyncio.sleep(self._hub.config.interval_s)
        self._interval = {session for session in self._interval if not session.closed}
        changed = [s for s in self._interval if s.saved != s.steps]
        for k in range(0, len(changed), CHUNK):
            for session, error in await self._write(changed[k : k + CHUNK]):
                if not session.closed:
                    raise error

    async def _write(
        self, sessions: Sequence[LiveSession]
    ) -> list[tuple[LiveSession, BaseException]]:
        """Write sessions to the store; those that failed."""
        context = self._hub.context
        writes = [context.write(session) for session in sessions]
        failed = []
        for session, result in zip(
            sessions, await asyncio.gather(*writes, return_exceptions=True), strict=True
        ):
            if isinstance(result, BaseException):
                failed.append((session, result))
            elif not result:
                context.lost(session)
        return failed

    # ---- the end ---------------------------------------------------------------------------------

    async def stop(self, drain_s: float) -> None:
        """Let what waits end, for at most `drain_s`, and write all sessions to the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        deadline = time.monotonic() + drain_s
        while self._busy() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        hub = self._hub
        if hub.committer is None:
            return
        unsaved = [
            session
            for session in hub.sessions.values()
            if not session.closed and session.saved != session.steps
        ]
        for k in range(0, len(unsaved), CHUNK):
            for session, error in await self._write(unsaved[k : k + CHUNK]):
                LOG.error("session %s could not be saved: %s", session.id, error)
        if unsaved:
            LOG.info("%d sessions saved", len(unsaved))

    def _busy(self) -> bool:
        return any(
            session.queued
            for session in self._hub.sessions.values()
            if isinstance(session, ItemSession)
        ) or any(
            lane.rows
            for served in self._hub.all_versions()
            for lane in served.tensor_lanes.values()
        )
