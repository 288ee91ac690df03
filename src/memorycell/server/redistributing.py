"""Moving stored sessions to the SQLite file of their worker when the number of workers changed."""

from __future__ import annotations

import logging
from pathlib import Path

from memorycell.errors import UserError
from memorycell.files import write_atomically
from memorycell.server.config import ServerConfig
from memorycell.server.durable import (
    Key,
    SqliteStore,
    StoreDamaged,
    StoredSession,
    StoreFull,
    StoreUnavailable,
)
from memorycell.server.placement import owner
from memorycell.server.stores import file_name, sqlite_folder

LOG = logging.getLogger("memorycell.server")
MARKER = "workers"
"""Of a folder: the number of workers that its files are for."""
BATCH = 500


def distribute(config: ServerConfig) -> None:
    """Before the workers start. A session is written to its new file before it is deleted from the
    old one, so that an interruption loses none. Raises `UserError`.
    """
    where = sqlite_folder(config)
    if where is None:
        return
    folder, workers = Path(where), config.workers
    if _written(folder) == workers:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / MARKER, "moving\n")
        names = [file_name(None)] if workers == 1 else [file_name(k) for k in range(workers)]
        stores = {name: SqliteStore(folder / name) for name in names}
        try:
            for path in sorted(folder.glob("sessions*.sqlite")):
                source = stores.get(path.name) or SqliteStore(path)
                _move(source, path.name, stores, names)
                if path.name not in stores:
                    source.close()
        finally:
            for store in stores.values():
                store.close()
        write_atomically(folder / MARKER, f"{workers}\n")
    except (StoreUnavailable, StoreDamaged, StoreFull, OSError) as error:
        raise UserError(f"{folder}: cannot be used for sessions ({error})") from None


def _written(folder: Path) -> int:
    try:
        return int((folder / MARKER).read_text())
    except FileNotFoundError:
        return 1  # of a server without workers
    except (OSError, ValueError):
        return 0


def _move(source: SqliteStore, name: str, stores: dict[str, SqliteStore], names: list[str]) -> None:
    """The sessions of a file that belong to others."""
    moved: dict[str, list[Key]] = {}
    for model, id in source.every_key():
        to = names[owner(model, id, len(names))]
        if to != name:
            moved.setdefault(to, []).append((model, id))
    for to, keys in moved.items():
        for at in range(0, len(keys), BATCH):
            chosen = keys[at : at + BATCH]
            rows = [row for key in chosen if (row := _row(source, key)) is not None]
            stores[to].put(rows)
            source.delete([row.key for row in rows])


def _row(source: SqliteStore, key: Key) -> StoredSession | None:
    try:
        return source.get(*key)
    except StoreDamaged as error:
        LOG.warning("session %s of %s stays where it is: %s", key[1], key[0], error)
        return None
