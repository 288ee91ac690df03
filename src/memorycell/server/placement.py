"""Which worker process a session lives in: rendezvous hashing of its model and id.

Every worker gives a session a pseudo-random weight; the largest wins. With one worker more or less,
only the sessions that it wins or had won move.

Source: Thaler and Ravishankar, Using name-based mappings to increase hit rates, 1998.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

ID_BYTES = 10


def owner(model: str, id: str, workers: int) -> int:
    """The worker, 0 to workers - 1, that has a session."""
    key = f"{model}/{id}".encode()
    return max(range(workers), key=lambda worker: _weight(worker, key))


def _weight(worker: int, key: bytes) -> bytes:
    return blake2b(key, digest_size=8, key=worker.to_bytes(4, "little")).digest()


@dataclass(frozen=True)
class Place:
    """A worker among its peers.

    worker, workers   its number, and how many there are
    folder            of their Unix sockets; only the user of the server may enter it
    secret            what marks a request as one of a peer
    """

    worker: int
    workers: int
    folder: str
    secret: str

    def elsewhere(self, model: str, id: str) -> int | None:
        """The worker of a session; None: this one."""
        found = owner(model, id, self.workers)
        return None if found == self.worker else found

    def new_id(self, model: str) -> str:
        """An id that belongs to this worker; `workers` draws on average."""
        while True:
            id = secrets.token_hex(ID_BYTES)
            if owner(model, id, self.workers) == self.worker:
                return id

    def path(self, worker: int) -> str:
        """The Unix socket of a worker."""
        return str(Path(self.folder) / f"{worker}.sock")
