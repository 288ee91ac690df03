"""Sessions in Redis, so that another process can continue them.

A session is a hash at `prefix + "session:" + model + "/" + id`; Redis deletes it when it
expires. The ids of a model are a sorted set at `prefix + "ids:" + model`, in lexicographic order.
A script writes a row only if no other process has taken the session over meanwhile: it compares
the epoch that `take` increments. Rows are written independently of each other, in one round trip.

What is written survives the death of this process. Whether it survives that of Redis is set there:
`appendonly yes` with `appendfsync always` flushes before each answer, `everysec` up to a second
later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from memorycell.server.durable import (
    Key,
    StoreDamaged,
    StoredSession,
    StoreFull,
    StoreUnavailable,
)

CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S = 2.0, 5.0
PUT = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'fingerprint', ARGV[3], 'steps', ARGV[4],
           'snapshot', ARGV[5], 'note', ARGV[6], 'saved_at', ARGV[7], 'expires_at', ARGV[8],
           'checksum', ARGV[9])
if tonumber(ARGV[8]) > 0 then redis.call('PEXPIREAT', KEYS[1], math.ceil(1000 * ARGV[8]))
else redis.call('PERSIST', KEYS[1]) end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
"""
TAKE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return redis.call('HGETALL', KEYS[1])
"""
FORGET = """
for k = 2, #KEYS do
  if redis.call('EXISTS', KEYS[k]) == 0 then redis.call('ZREM', KEYS[1], ARGV[k - 1]) end
end
return 0
"""


class RedisStore:
    """A `Store` in Redis at `url` (redis://[:password@]host:port/db, rediss:// with TLS)."""

    def __init__(self, url: str, prefix: str = "memorycell:") -> None:
        self.prefix = prefix
        self._redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 2),
        )
        self._put, self._take, self._forget = (
            self._redis.register_script(script) for script in (PUT, TAKE, FORGET)
        )

    def put(self, rows: Sequence[StoredSession]) -> list[Key]:
        """Write rows; gives the keys that another process has taken over."""
        if not rows:
            return []
        with _reported(), self._redis.pipeline(transaction=False) as pipe:
            for row in rows:
                self._put(
                    keys=[self._name(row.model, row.id), self._ids(row.model)],
                    args=[row.id, row.epoch, row.fingerprint, row.steps, row.snapshot, row.note,
                          repr(row.saved_at), repr(row.expires_at), row.checksum()],
                    client=pipe,
                )  # fmt: skip
            written = pipe.execute()
        return [row.key for row, ok in zip(rows, written, strict=True) if not ok]

    def get(self, model: str, id: str) -> StoredSession | None:
        """A session as last written, or None. Raises `StoreDamaged`."""
        with _reported():
            fields = self._redis.hgetall(self._name(model, id))
        return _row(model, id, fields)

    def take(self, model: str, id: str) -> StoredSession | None:
        """A session with a new epoch: what its previous owner writes is refused from now on."""
        with _reported():
            flat = self._take(keys=[self._name(model, id)])
        return _row(model, id, dict(zip(flat[::2], flat[1::2], strict=True)))

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete sessions; unknown ones are ignored."""
        if not keys:
            return
        with _reported(), self._redis.pipeline(transaction=False) as pipe:
            for model, id in keys:
                pipe.delete(self._name(model, id))
                pipe.zrem(self._ids(model), id)
            pipe.execute()

    def keys(self, model: str, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of a model's sessions, in order, beginning after an id."""
        found: list[str] = []
        while len(found) < limit:
            wanted = limit - len(found)
            begin = f"({after}" if after else "-"
            with _reported():
                page: list[Any] = self._redis.zrangebylex(self._ids(model), begin, "+", 0, wanted)
                names = [member.decode() for member in page]
                found += self._living(model, names)
            if len(names) < wanted:
                break
            after = names[-1]
        return found

    def expire(self, before: float) -> int:
        """Redis does so by itself; nothing is counted."""
        return 0

    def ping(self) -> None:
        """Raises `StoreUnavailable` unless Redis answers."""
        with _reported():
            self._redis.ping()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _living(self, model: str, ids: list[str]) -> list[str]:
        """The ids whose session has not expired; the others are removed from the sorted set."""
        if not ids:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            for each in ids:
                pipe.exists(self._name(model, each))
            exists = pipe.execute()
        gone = [each for each, found in zip(ids, exists, strict=True) if not found]
        if gone:
            names = [self._name(model, each) for each in gone]
            self._forget(keys=[self._ids(model), *names], args=gone)
        return [each for each, found in zip(ids, exists, strict=True) if found]

    def _name(self, model: str, id: str) -> str:
        return f"{self.prefix}session:{model}/{id}"

    def _ids(self, model: str) -> str:
        return f"{self.prefix}ids:{model}"


class _reported:
    """Errors of Redis as those of a `Store`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, redis.RedisError):
            message = str(error)
            if isinstance(error, redis.exceptions.OutOfMemoryError) or "MISCONF" in message:
                raise StoreFull(f"Redis: {message}") from error
            raise StoreUnavailable(f"Redis: {message}") from error


def _row(model: str, id: str, fields: dict[Any, Any]) -> StoredSession | None:
    if not fields:
        return None
    try:
        row = StoredSession(
            model=model,
            id=id,
            fingerprint=fields[b"fingerprint"].decode(),
            steps=int(fields[b"steps"]),
            snapshot=fields[b"snapshot"],
            note=fields[b"note"],
            epoch=int(fields[b"epoch"]),
            saved_at=float(fields[b"saved_at"]),
            expires_at=float(fields[b"expires_at"]),
        )
        return row.check(fields[b"checksum"])
    except (KeyError, ValueError) as error:
        raise StoreDamaged(
            f"session {id} of {model}: a field is missing or wrong ({error})"
        ) from None
