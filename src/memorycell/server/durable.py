"""Sessions on disk: what a store holds, its interface, and the local store in SQLite.

A store belongs to one server or is shared by several. A row has an epoch: `take` raises it, and
`put` refuses rows of a lower one. A server that was believed dead can therefore not overwrite a
session that another one continued.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

Key: TypeAlias = tuple[str, str]
"""(model, id of the session)"""


class StoreFull(Exception):
    """There is no space left; nothing of the call was written."""


class StoreUnavailable(Exception):
    """The store cannot be reached, now."""


class StoreDamaged(Exception):
    """A row is not what was written."""


class StoredSession(NamedTuple):
    """A session as a row, its fields in the order of `COLUMNS`.

    fingerprint   of the weights and the precision that the snapshot belongs to
    steps         items that the session has read
    note          JSON object: how the session was opened, and its last answer
    saved_at, expires_at   Unix time in seconds; expires_at 0: never
    """

    model: str
    id: str
    fingerprint: str
    steps: int
    snapshot: bytes
    note: bytes
    epoch: int = 0
    saved_at: float = 0.0
    expires_at: float = 0.0

    @property
    def key(self) -> Key:
        """What identifies it."""
        return self.model, self.id

    def checksum(self) -> bytes:
        """16 bytes of SHA-256 over everything that must not change unnoticed."""
        head = f"{self.model}\n{self.id}\n{self.fingerprint}\n{self.steps}\n{len(self.note)}\n"
        digest = hashlib.sha256(head.encode())
        digest.update(self.note)
        digest.update(self.snapshot)
        return digest.digest()[:16]

    def check(self, checksum: bytes) -> StoredSession:
        """Itself. Raises `StoreDamaged`."""
        if self.checksum() != checksum:
            raise StoreDamaged(
                f"session {self.id} of {self.model}: its checksum does not match; the stored"
                " session is damaged"
            )
        return self


class Store(Protocol):
    """Where sessions survive. Its methods block; they are called from one thread.

    All raise `StoreUnavailable`; `put` also `StoreFull`, `get` and `take` also `StoreDamaged`.
    """

    def put(self, rows: Sequence[StoredSession]) -> list[Key]:
        """Write sessions, each key once; they are on disk when this returns. Gives the keys that
        were not written, because their stored epoch is higher.
        """

    def get(self, model: str, id: str) -> StoredSession | None:
        """A session, or None."""

    def take(self, model: str, id: str) -> StoredSession | None:
        """A session with its epoch raised by one, atomically: it now belongs to the caller."""

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete sessions that there are."""

    def keys(self, model: str, after: str = "", limit: int = 1000) -> list[str]:
        """The ids of a model's sessions in order, those after `after`."""

    def expire(self, before: float) -> int:
        """Delete the sessions with 0 < expires_at <= before; their number."""

    def ping(self) -> None:
        """Raises `StoreUnavailable` where it cannot be used."""

    def close(self) -> None:
        """Release it."""


COLUMNS = "model, id, fingerprint, steps, snapshot, note, epoch, saved_at, expires_at"
SCHEMA = """
create table if not exists sessions (
    model text not null, id text not null, fingerprint text not null, steps integer not null,
    snapshot blob not null, note blob not null, epoch integer not null, saved_at real not null,
    expires_at real not null, checksum blob not null, primary key (model, id)
) without rowid;
create index if not exists expiring on sessions (expires_at) where expires_at > 0;
"""
PUT = f"""
insert into sessions ({COLUMNS}, checksum) values {{rows}}
on conflict (model, id) do update set
    fingerprint = excluded.fingerprint, steps = excluded.steps, snapshot = excluded.snapshot,
    note = excluded.note, epoch = excluded.epoch, saved_at = excluded.saved_at,
    expires_at = excluded.expires_at, checksum = excluded.checksum
where sessions.epoch <= excluded.epoch
"""
PUT_ROWS = [1 << k for k in range(6, -1, -1)]
"""Rows of one statement. Each statement lets go of the interpreter's lock once, for which the event
loop then competes: one for each row costs as much as the writing itself.
"""
PUT_BY_ROWS = {
    n: PUT.format(rows=", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * n)) for n in PUT_ROWS
}
EPOCHS = 500
"""Keys per query, below SQLite's limit of variables."""


class SqliteStore:
    """A file in a local folder, in WAL mode; every `put` is one transaction, flushed to disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _translated():
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10.0
            )
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.executescript(SCHEMA)

    def put(self, rows: Sequence[StoredSession]) -> list[Key]:
        """See `Store`."""
        if not rows:
            return []
        values = [(*row, row.checksum()) for row in rows]
        written = begin = 0
        with self._transaction():
            for count in PUT_ROWS:
                while len(rows) - begin >= count:
                    flat = [value for row in values[begin : begin + count] for value in row]
                    written += self._db.execute(PUT_BY_ROWS[count], flat).rowcount
                    begin += count
            return [] if written == len(rows) else self._newer(rows)

    def _newer(self, rows: Sequence[StoredSession]) -> list[Key]:
        lost = []
        for row in rows:
            found = self._db.execute(
                "select epoch from sessions where model = ? and id = ?", row.key
            ).fetchone()
            if found is None or found[0] > row.epoch:
                lost.append(row.key)
        return lost

    def get(self, model: str, id: str) -> StoredSession | None:
        """See `Store`."""
        with _translated():
            found = self._db.execute(
                f"select {COLUMNS}, checksum from sessions where model = ? and id = ?", (model, id)
            ).fetchone()
        return None if found is None else StoredSession(*found[:-1]).check(found[-1])

    def take(self, model: str, id: str) -> StoredSession | None:
        """See `Store`."""
        with self._transaction():
            row = self.get(model, id)
            if row is None:
                return None
            self._db.execute(
                "update sessions set epoch = epoch + 1 where model = ? and id = ?", (model, id)
            )
        return row._replace(epoch=row.epoch + 1)

    def delete(self, keys: Sequence[Key]) -> None:
        """See `Store`."""
        with self._transaction():
            self._db.executemany("delete from sessions where model = ? and id = ?", keys)

    def keys(self, model: str, after: str = "", limit: int = 1000) -> list[str]:
        """See `Store`."""
        with _translated():
            rows = self._db.execute(
                "select id from sessions where model = ? and id > ? order by id limit ?",
                (model, after, limit),
            ).fetchall()
        return [row[0] for row in rows]

    def every_key(self) -> list[Key]:
        """Of all models."""
        with _translated():
            return self._db.execute("select model, id from sessions").fetchall()

    def expire(self, before: float) -> int:
        """See `Store`."""
        with self._transaction():
            cursor = self._db.execute(
                "delete from sessions where expires_at > 0 and expires_at <= ?", (before,)
            )
        return cursor.rowcount

    def ping(self) -> None:
        """See `Store`."""
        with _translated():
            self._db.execute("select 1 from sessions limit 1").fetchone()

    def close(self) -> None:
        """See `Store`."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self):  # type: ignore[no-untyped-def]  # a generator of None
        with _translated():
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("rollback")
                raise


@contextlib.contextmanager
def _translated():  # type: ignore[no-untyped-def]  # a generator of None
    """SQLite's errors as a store's."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text or getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL",):
            raise StoreFull(f"the disk of the store is full ({text})") from None
        if "malformed" in text or "not a database" in text:
            raise StoreDamaged(f"the store is damaged ({text})") from None
        raise StoreUnavailable(f"the store cannot be used ({text})") from None
