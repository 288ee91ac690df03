"""Opening a store, and its errors as problems."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from memorycell.errors import UserError
from memorycell.server.config import ServerConfig
from memorycell.server.durable import (
    SqliteStore,
    Store,
    StoreDamaged,
    StoreFull,
    StoreUnavailable,
)
from memorycell.server.problems import Problem


def open_store(config: ServerConfig, worker: int | None = None) -> Store | None:
    """The store of a configuration, of one of its workers; None: sessions end with the process.
    Raises `UserError`.
    """
    if config.store is not None and config.store.startswith(("redis://", "rediss://", "unix://")):
        from memorycell.server.redis_store import RedisStore

        store: Store = RedisStore(config.store)
        return _checked(store, config.store)
    folder = sqlite_folder(config)
    if folder is None:
        return None
    try:
        return _checked(SqliteStore(Path(folder) / file_name(worker)), folder)
    except (StoreUnavailable, StoreDamaged, StoreFull, OSError) as error:
        raise UserError(f"{folder}: cannot be used for sessions ({error})") from None


def sqlite_folder(config: ServerConfig) -> str | None:
    """Where sessions are kept in SQLite. Raises `UserError`."""
    if config.store is None:
        return config.state
    kind, _, path = config.store.partition(":")
    if kind in ("redis", "rediss", "unix"):
        return None
    if kind != "sqlite" or not path:
        raise UserError(f"store={config.store}: expected redis://HOST or sqlite:FOLDER")
    return path


def file_name(worker: int | None) -> str:
    """Of a server's SQLite file: workers have one each, and do not wait for each other."""
    return "sessions.sqlite" if worker is None else f"sessions-{worker}.sqlite"


def _checked(store: Store, where: str) -> Store:
    try:
        store.ping()
    except StoreUnavailable as error:
        raise UserError(f"{where}: cannot be used for sessions ({error})") from None
    return store


@contextlib.contextmanager
def store_problem() -> Iterator[None]:
    """A store's exceptions as `Problem`."""
    try:
        yield
    except StoreFull as error:
        raise Problem(
            "store-full", f"{error}; nothing was changed: free space, then send the items again"
        ) from None
    except StoreUnavailable as error:
        raise Problem(
            "store-unavailable", f"{error}; nothing was changed, try again", retry_after=1
        ) from None
    except StoreDamaged as error:
        raise Problem("state-refused", f"{error}; open a new session") from None
