"""One process at a time uses a folder."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # no file locks on this system
    fcntl = None  # type: ignore[assignment]  # the module is optional

from memorycell.errors import StateError


class FolderLock:
    """Locks a folder for one pool of this process; the system unlocks it when the process ends.

    A forked child does not hold the locks of its parent. Raises `StateError` for a folder that
    another pool has locked, in this process too, and OSError.
    """

    _descriptor = -1

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            if fcntl is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise StateError(f"{folder}: another pool uses this folder; spill to another") from None
        _held.add(self)

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Unlock the folder."""
        if self.held and fcntl is not None:
            # Also for descriptors that a child inherited without running Python.
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.close()

    def close(self) -> None:
        """Close the descriptor, which unlocks the folder unless another process has it open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    __del__ = release


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _close_in_child() -> None:
    # A lock belongs to an open file, which parent and child share: a child that keeps it open
    # keeps the folder locked after its parent was killed.
    for lock in list(_held):
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
