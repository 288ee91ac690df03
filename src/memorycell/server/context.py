"""What the parts of a server share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memorycell.server.committing import Committer, OnCommit
from memorycell.server.compute import Compute
from memorycell.server.config import ServerConfig
from memorycell.server.durable import Key, StoredSession, StoreUnavailable
from memorycell.server.metrics import Metrics
from memorycell.server.sessions import LiveSession
from memorycell.server.states import stored_state

LOG = logging.getLogger("memorycell.server")


@dataclass
class Context:
    """lost: called with a session that another server has taken."""

    config: ServerConfig
    loop: asyncio.AbstractEventLoop
    compute: Compute
    metrics: Metrics
    committer: Committer | None
    lost: Callable[[LiveSession], None]

    def commit(self, rows: Sequence[StoredSession], done: OnCommit) -> None:
        """Write rows; see `Committer.add`."""
        if self.committer is None:
            done(StoreUnavailable("the server has no store"), frozenset())
        else:
            self.committer.add(rows, done)

    def row(self, session: LiveSession, snapshot: bytes) -> StoredSession:
        """A session as it is stored."""
        return self.rows([session], [snapshot])[0]

    def rows(
        self, sessions: Sequence[LiveSession], snapshots: Sequence[bytes], *, last: bool = True
    ) -> list[StoredSession]:
        """Sessions as they are stored; `last`: the note holds the last answer, not the snapshot."""
        now = time.time()
        return [
            StoredSession(
                session.served.name,
                session.id,
                session.served.fingerprint_of(session.precision),
                session.steps,
                snapshot,
                session.note(last=last),
                session.epoch,
                now,
                now + session.ttl_s if session.ttl_s else 0.0,
            )
            for session, snapshot in zip(sessions, snapshots, strict=True)
        ]

    async def write(self, session: LiveSession) -> bool:
        """Write a session to the store, in order with its steps; False: another server has taken
        it. Raises as `Store.put`, and `Problem` where it was closed.
        """
        if self.committer is None:
            raise StoreUnavailable("the server has no store")
        committer, future = self.committer, self.loop.create_future()

        def done(error: Exception | None, lost: frozenset[Key]) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(session.key not in lost)

        def begin() -> int:
            row = self.row(session, stored_state(session))
            committer.add([row], done)
            return row.steps

        steps = await session.lane.call(session, begin)
        kept: bool = await future
        if kept:
            session.saved = steps
        return kept

    def refused(self, session: LiveSession, error: Exception) -> None:
        """Log a session that a new version of its model cannot continue."""
        LOG.warning("session %s of %s stays on its version: %s", session.id, session.key[0], error)

    def defect(self, error: BaseException) -> None:
        """Log an exception that is not the user's."""
        LOG.error("unexpected error", exc_info=error)
